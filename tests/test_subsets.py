"""The readings of the reduced training set."""

import numpy as np

from kd_jax import data

LABELS = np.random.default_rng(0).integers(0, 10, 50_000)


def test_first_500_of_each_class_in_file_order():
  index = data.SUBSETS['first500'](LABELS)
  np.testing.assert_array_equal(np.bincount(LABELS[index]), [500] * 10)
  for label in range(10):
    own = index[LABELS[index] == label]
    missing = np.setdiff1d(np.flatnonzero(LABELS == label), own)
    assert own.max() < missing.min()


def test_first_500_of_each_block_of_5000():
  index = data.SUBSETS['block5000'](LABELS)
  assert len(index) == len(set(index)) == 5000
  assert set(index[:500]) == set(range(500))
  assert set(index[500:1000]) == set(range(5000, 5500))


def test_as_published_it_is_ten_images_500_times():
  index = data.SUBSETS['as_published'](LABELS)
  np.testing.assert_array_equal(np.bincount(index), [500] * 10)


def test_all_is_all():
  np.testing.assert_array_equal(data.SUBSETS['all'](LABELS), np.arange(50_000))
