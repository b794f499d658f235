"""The data and the functions that the trainings of a run share."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from kd_jax import data
from kd_jax.config import UNLABELED_PREFIX
from kd_jax.data import selection
from kd_jax.runtime import errors
from kd_jax.training import training_functions


class Context(NamedTuple):
  """The data and the functions of a run.

  Attributes:
    dataset: the part of the data set that the config uses.
    load: loads a data set by its name.
    functions_for: maps a spec to the functions of its trainings; trainings of
      equal specs share their functions.
    image_size: side in pixels to which image files are resized; 0 keeps their
      size.
    on_epoch: called with the record of each epoch; None for nobody.
  """

  dataset: data.Dataset
  load: Callable[[str], data.Dataset]
  functions_for: Callable[
    [training_functions.TrainingSpec], training_functions.TrainingFunctions
  ]
  image_size: int = 0
  on_epoch: Callable[[dict[str, Any]], None] | None = None


def make_context(
  config: ConfigDict, load: Callable[[str], data.Dataset]
) -> Context:
  """Returns the context of a run; `load` loads a data set by its name."""
  dataset = selection.select(load(config.data.name), config.data)
  return Context(
    dataset,
    load,
    functools.cache(training_functions.make_training_functions),
    config.data.image_size,
  )


def on_transfer_set(context: Context, name: str) -> Context:
  """Returns a context whose students train on other or on more images.

  Args:
    context: the run's context.
    name: a name that `data.transfer_set` knows, or `config.UNLABELED_PREFIX`
      and a name that `unlabeled_images.add` knows; '' for the training split.
  Raises:
    DataError: if the transfer set's images differ in kind.
    UserError: if the training images stay on disk.
  """
  if not name:
    return context
  if data.is_on_disk(context.dataset.train):
    raise errors.UserError(
      f'config.train.{_field(name)}: the training images of '
      f'{context.dataset.name} stay on disk and cannot be replaced or joined; '
      'raise config.data.memory_gib'
    )
  if name.startswith(UNLABELED_PREFIX):
    # Imported here, as it imports Pillow.
    from kd_jax.data.user_data import unlabeled_images

    dataset = unlabeled_images.add(
      context.dataset,
      name.removeprefix(UNLABELED_PREFIX),
      image_size=context.image_size,
    )
    return context._replace(
      dataset=dataclasses.replace(dataset, train=selection.put(dataset.train))
    )
  train = data.transfer_set(name, context.dataset, context.load)
  return context._replace(
    dataset=dataclasses.replace(context.dataset, train=selection.put(train))
  )


def _field(name: str) -> str:
  """Returns the field that names a transfer set, with its value."""
  if name.startswith(UNLABELED_PREFIX):
    return f'unlabeled={name.removeprefix(UNLABELED_PREFIX)!r}'
  return f'transfer_set={name!r}'
