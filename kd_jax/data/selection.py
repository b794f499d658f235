"""The part of a data set that a config uses."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kd_jax.data.dataset import Dataset, Split, is_on_disk
from kd_jax.runtime import errors, mesh


def select(dataset: Dataset, section: ConfigDict) -> Dataset:
  """Returns the examples that a config's `data` section asks for.

  The arrays are on the device if one is used. Training images that are too
  large for memory stay on disk.

  Args:
    dataset: as it is loaded.
    section: with `holdout_examples`, `train_examples` and `test_examples`.
  Raises:
    UserError: if the data set has fewer examples.
  """
  train, test = dataset.train, dataset.test
  if section.holdout_examples:
    kept = len(train.labels) - section.holdout_examples
    if kept <= 0:
      raise errors.UserError(
        f'config.data.holdout_examples={section.holdout_examples}: '
        f'{dataset.name} has {len(train.labels)} training examples in all'
      )
    test = Split(train.images[kept:], train.labels[kept:])
    train = _first(train, kept)
  return dataclasses.replace(
    dataset,
    train=_part(dataset.name, train, section, 'train_examples'),
    test=_part(dataset.name, test, section, 'test_examples'),
  )


def _part(name: str, split: Split, section: ConfigDict, field: str) -> Split:
  """Returns the first examples of a split, as many as a field says."""
  count = section[field] or len(split.labels)
  if count > len(split.labels):
    raise errors.UserError(
      f'config.data.{field}={count}: {name} has {len(split.labels)}'
    )
  split = _first(split, count)
  return split if is_on_disk(split) else put(split)


def _first(split: Split, count: int) -> Split:
  images = (
    split.images.part(0, count) if is_on_disk(split) else split.images[:count]
  )
  return Split(images, split.labels[:count])


def put(split: Split) -> Split:
  """Puts a split on the device.

  With several devices the split stays on the host: each batch is shared out
  when it is due.
  """
  put_array = np.asarray if mesh.is_used() else jnp.asarray
  return Split(put_array(split.images), put_array(split.labels))
