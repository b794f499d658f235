"""The data and the functions that the trainings of a run share."""

import dataclasses
import functools
import os
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
    add_unlabeled: returns a data set with images without labels, which a name
      tells; see `data.add_unlabeled`.
    on_epoch: called with the record of each epoch; None for nobody.
  """

  dataset: data.Dataset
  load: Callable[[str], data.Dataset]
  functions_for: Callable[
    [training_functions.TrainingSpec], training_functions.TrainingFunctions
  ]
  add_unlabeled: Callable[[data.Dataset, str], data.Dataset] = (
    data.add_unlabeled
  )
  on_epoch: Callable[[dict[str, Any]], None] | None = None


def make_context(
  config: ConfigDict,
  load: Callable[[str], data.Dataset],
  data_dir: str | os.PathLike | None = None,
) -> Context:
  """Returns the context of a run.

  Args:
    config: a config from configs/.
    load: loads a data set by its name.
    data_dir: where prepared data sets are kept; a per-user cache if None.
  """
  dataset = selection.select(load(config.data.name), config.data)
  return Context(
    dataset,
    load,
    functools.cache(training_functions.make_training_functions),
    functools.partial(
      data.add_unlabeled,
      data_dir=data_dir,
      image_size=config.data.image_size,
      memory_gib=config.data.memory_gib,
    ),
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
  if name.startswith(UNLABELED_PREFIX):
    dataset = context.add_unlabeled(
      context.dataset, name.removeprefix(UNLABELED_PREFIX)
    )
    return _with_train(context, dataset, dataset.train)
  if data.is_on_disk(context.dataset.train):
    raise errors.UserError(
      f'config.train.transfer_set={name!r}: the training images of '
      f'{context.dataset.name} stay on disk and cannot be replaced; raise '
      'config.data.memory_gib'
    )
  train = data.transfer_set(name, context.dataset, context.load)
  return _with_train(context, context.dataset, train)


def _with_train(
  context: Context, dataset: data.Dataset, train: data.Split
) -> Context:
  """Returns the context of other training images, on the device if they fit."""
  if not data.is_on_disk(train):
    train = selection.put(train)
  return context._replace(dataset=dataclasses.replace(dataset, train=train))
