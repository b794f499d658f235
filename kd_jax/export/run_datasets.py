"""The data of a run that is exported: as the run recorded it, or as it is now.

The files of a data set may have changed since the run, or have gone away. The
classes are those of the run, and accuracy is measured on the data of the run
alone.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from kd_jax import data
from kd_jax.data import selection
from kd_jax.runtime import errors, json_records

# Random images that replace test images that are not there.
_NUM_RANDOM_IMAGES = 100


class RunData(NamedTuple):
  """A run's data, as far as an export needs it.

  Attributes:
    name: the name of the data set.
    digest: its digest.
    task: images and classes.
    classes: the names of the classes, in the order of the student's outputs.
    images: uint8 [N, H, W, C], the test images, or random ones.
    labels: int [N]; None for random images, and for images without labels.
  """

  name: str
  digest: str
  task: data.ImageTask
  classes: tuple[str, ...]
  images: Any
  labels: Any


def find(
  config: ConfigDict,
  folder: pathlib.Path,
  recorded: Mapping[str, Any] | None,
  load: Callable[[], data.Dataset],
) -> RunData:
  """Returns the data of a run.

  Args:
    config: the closed config of a row.
    folder: the folder of a student of the row.
    recorded: 'data' of run.json; None for runs of older versions.
    load: loads the part of the data set that the config uses.
  Raises:
    UserError: if run.json does not describe the data, and today's data is
      missing or not that of the run.
  """
  try:
    dataset = load()
  except errors.UserError as error:
    if recorded is None:
      raise
    return _without_images(recorded, f'today it cannot be loaded ({error})')
  digest = (recorded or {}).get('digest') or _trained_on(folder)
  known = {dataset.digest}
  if not config.data.get('holdout_examples', 0):
    # Versions that took parts by position had the digest of the files. What
    # they held out was another part.
    known.add(dataset.files_digest)
  if digest is None or digest in known:
    # A class may have another name today, although its images are the same.
    names = (recorded or {}).get('class_names')
    return _with_images(dataset, names)
  differ = f'its digest is {dataset.digest[:12]} today, was {digest[:12]}'
  if recorded is None:
    raise errors.UserError(
      f'{config.data.name} has changed since {folder} was trained ({differ}), '
      'and the run does not say what its classes were: restore the data'
    )
  return _without_images(recorded, differ)


def image_size(config: ConfigDict) -> int:
  """Returns the side in pixels of resized images; 0 if none are resized."""
  return config.data.get('image_size', 0)  # Older runs lack the field.


def load(config: ConfigDict, data_dir: str | None) -> data.Dataset:
  """Returns the part of a data set that a config uses.

  Args:
    config: the closed config of a row.
    data_dir: the folder of prepared data, see `data.load`.
  """
  dataset = data.load(
    config.data.name,
    data_dir=data_dir,
    image_size=image_size(config),
    memory_gib=config.data.get('memory_gib', 4.0),  # Older runs lack it.
    needs_test=not config.data.get('holdout_examples', 0),
  )
  return selection.select(dataset, config.data)


def _trained_on(folder: pathlib.Path) -> str | None:
  """Returns the digest of the data that a student was trained on, if known."""
  path = folder / 'identity.json'
  identity = json_records.read(path, json_records.IDENTITY)
  return None if identity is None else identity.get('data_digest')


def _with_images(dataset: data.Dataset, names: list[str] | None) -> RunData:
  labels = dataset.test.labels
  return RunData(
    dataset.name,
    dataset.digest,
    dataset.task,
    tuple(names or dataset.names_of(range(dataset.num_classes))),
    dataset.test.images,
    None if np.all(np.asarray(labels) == data.NO_LABEL) else labels,
  )


def _without_images(recorded: Mapping[str, Any], reason: str) -> RunData:
  """Returns what run.json says of the data, with random images."""
  logging.warning(
    'the data of the run, %s, is not measured: %s. The classes are those that '
    'run.json names',
    recorded['name'],
    reason,
  )
  num_classes = recorded['num_classes']
  shape = tuple(recorded['image_shape'])
  images = np.random.RandomState(0).randint(
    256, size=(_NUM_RANDOM_IMAGES, *shape), dtype=np.uint8
  )
  return RunData(
    recorded['name'],
    recorded['digest'],
    data.ImageTask(num_classes, shape),
    tuple(recorded['class_names'] or map(str, range(num_classes))),
    images,
    None,
  )
