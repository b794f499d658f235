"""The part of a data set that a config uses."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kd_jax.data import images_on_disk
from kd_jax.data.dataset import Dataset, Split, is_on_disk
from kd_jax.runtime import errors, mesh


def select(dataset: Dataset, section: ConfigDict) -> Dataset:
  """Returns the examples that a config's `data` section asks for.

  The arrays are on the device if one is used. Training images that are too
  large for memory stay on disk.

  Args:
    dataset: as it is loaded.
    section: with `train_examples`, `test_examples`, `at_most` and
      `holdout_examples`, the number of held-out training images: the last
      ones of the split, which replace the test split.
  Raises:
    UserError: if the data set has fewer examples.
  """
  train, test = dataset.train, dataset.test
  if section.get('holdout_examples'):  # The oldest runs lack the field.
    size = len(train.labels)
    kept = size - count_held_out(section, size)
    if kept <= 0:
      raise errors.UserError(
        f'config.data.holdout_examples={section.holdout_examples}: '
        f'{dataset.name} has {size} training examples in all'
      )
    test = _stretch(train, kept, size)
    # The few that are held out are decoded once, and not in every evaluation.
    if isinstance(test.images, images_on_disk.EncodedImages):
      test = dataclasses.replace(test, images=test.images[:])
    train = _stretch(train, 0, kept)
  return dataclasses.replace(
    dataset,
    train=_part(dataset.name, train, section, 'train_examples'),
    test=_part(dataset.name, test, section, 'test_examples'),
  )


def count_held_out(section: ConfigDict, size: int) -> int:
  """Returns how many training examples are held out to test on.

  With `at_most`, half of a split that has too few examples is held out.

  Args:
    section: a config's `data` section.
    size: the number of training examples before any is held out.
  """
  if section.holdout_examples >= size and section.get('at_most'):
    return size // 2
  return section.holdout_examples


def _part(name: str, split: Split, section: ConfigDict, field: str) -> Split:
  """Returns the first examples of a split, as many as a field says."""
  size = len(split.labels)
  count = section[field] or size
  if count > size and not section.get('at_most'):
    raise errors.UserError(f'config.data.{field}={count}: {name} has {size}')
  split = _stretch(split, 0, min(count, size))
  return split if is_on_disk(split) else put(split)


def _stretch(split: Split, start: int, stop: int) -> Split:
  """Returns the examples of a split from index `start` up to `stop`."""
  stretch = slice(start, stop)
  return Split(
    split.images.part(start, stop)
    if is_on_disk(split)
    else split.images[stretch],
    split.labels[stretch],
    split.origin
    and split.origin._replace(positions=split.origin.positions[stretch]),
  )


def put(split: Split) -> Split:
  """Puts a split on the device.

  With several devices the split stays on the host: each batch is shared out
  when it is due.
  """
  put_array = np.asarray if mesh.is_used() else jnp.asarray
  return dataclasses.replace(
    split, images=put_array(split.images), labels=put_array(split.labels)
  )
