"""The part of a data set that a config uses."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from kd_jax.data import selection
from kd_jax.data.dataset import Dataset, Split
from kd_jax.runtime import errors


def _dataset():
  """Returns 10 training and 4 test examples whose labels count them."""

  def split(labels):
    images = np.tile(labels.astype(np.uint8)[:, None, None, None], (1, 2, 2, 1))
    return Split(images, labels)

  train, test = np.arange(10), np.arange(100, 104)
  return Dataset('toy', split(train), split(test), 200, 'digest')


def _select(**fields):
  section = {'holdout_examples': 0, 'train_examples': 0, 'test_examples': 0}
  return selection.select(_dataset(), ConfigDict(section | fields))


@pytest.mark.parametrize(
  'fields, train, test',
  [
    ({}, range(10), range(100, 104)),
    ({'train_examples': 3, 'test_examples': 2}, range(3), range(100, 102)),
    ({'holdout_examples': 4}, range(6), range(6, 10)),
    (
      {'holdout_examples': 4, 'train_examples': 5, 'test_examples': 3},
      range(5),
      range(6, 9),
    ),
  ],
)
def test_the_first_examples_are_used(fields, train, test):
  dataset = _select(**fields)
  for split, labels in ((dataset.train, train), (dataset.test, test)):
    np.testing.assert_array_equal(split.labels, labels)
    np.testing.assert_array_equal(split.images[:, 0, 0, 0], labels)


@pytest.mark.parametrize('asked, held_out', [(4, 4), (10, 5), (10_000, 5)])
def test_at_most_half_is_held_out_of_a_split_that_is_too_small(asked, held_out):
  dataset = _select(holdout_examples=asked, test_examples=512, at_most=True)
  np.testing.assert_array_equal(dataset.train.labels, range(10 - held_out))
  np.testing.assert_array_equal(dataset.test.labels, range(10 - held_out, 10))


def test_the_arrays_are_on_the_device():
  dataset = _select()
  assert isinstance(dataset.train.images, jax.Array)
  assert isinstance(dataset.test.labels, jax.Array)


def test_the_rest_of_the_data_set_is_unchanged():
  dataset = _select(train_examples=3)
  assert (dataset.name, dataset.digest) == ('toy', 'digest')
  assert dataset.task == (200, (2, 2, 1))


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'train_examples': 11}, 'train_examples=11: toy has 10'),
    ({'test_examples': 5}, 'test_examples=5: toy has 4'),
    ({'holdout_examples': 10}, 'holdout_examples=10: toy has 10'),
    ({'holdout_examples': 4, 'train_examples': 7}, 'train_examples=7'),
  ],
)
def test_more_examples_than_there_are_are_refused(fields, message):
  with pytest.raises(errors.UserError, match=message):
    _select(**fields)


class _ImagesOnDisk:
  """Images that are read in batches; `part` is a view of some."""

  def __init__(self, images):
    self.images = images
    self.shape = images.shape

  def part(self, start, stop):
    return _ImagesOnDisk(self.images[start:stop])

  def batches(self, indices, size):
    raise NotImplementedError


def test_images_on_disk_stay_there():
  dataset = _dataset()
  on_disk = Split(_ImagesOnDisk(dataset.train.images), dataset.train.labels)
  section = ConfigDict(
    {'holdout_examples': 0, 'train_examples': 3, 'test_examples': 0}
  )
  chosen = selection.select(
    Dataset('toy', on_disk, dataset.test, 200, 'digest'), section
  )
  assert isinstance(chosen.train.images, _ImagesOnDisk)
  np.testing.assert_array_equal(chosen.train.labels, range(3))
  assert chosen.train.images.shape == (3, 2, 2, 1)
