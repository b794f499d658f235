"""Subsets of the training set."""

import numpy as np
import pytest

from kd_jax import data

LABELS = np.random.default_rng(0).integers(0, 10, 50_000)


def test_first_500_of_each_class_in_file_order():
  index = data.find_subset('first500')(LABELS)
  np.testing.assert_array_equal(np.bincount(LABELS[index]), [500] * 10)
  for label in range(10):
    chosen = index[LABELS[index] == label]
    missing = np.setdiff1d(np.flatnonzero(LABELS == label), chosen)
    assert chosen.max() < missing.min()


def test_first_500_of_each_block_of_5000():
  index = data.find_subset('block5000')(LABELS)
  assert len(index) == len(set(index)) == 5000
  assert set(index[:500]) == set(range(500))
  assert set(index[500:1000]) == set(range(5000, 5500))


def test_as_published_repeats_ten_images_500_times():
  index = data.find_subset('as_published')(LABELS)
  np.testing.assert_array_equal(np.bincount(index), [500] * 10)


def test_all_selects_every_example():
  np.testing.assert_array_equal(
    data.find_subset('all')(LABELS), np.arange(50_000)
  )


def test_any_number_of_each_class():
  index = data.find_subset('first7')(LABELS)
  np.testing.assert_array_equal(np.bincount(LABELS[index]), [7] * 10)
  assert set(index) < set(data.find_subset('first8')(LABELS))


def test_selected_classes_or_all_other_classes():
  only = data.find_subset('only7_8')(LABELS)
  assert set(LABELS[only]) == {7, 8}
  without = data.find_subset('without7_8')(LABELS)
  assert set(LABELS[without]) == set(range(10)) - {7, 8}
  np.testing.assert_array_equal(
    np.sort(np.concatenate([only, without])), np.arange(len(LABELS))
  )
  assert (np.diff(only) > 0).all()


def test_a_class_without_examples_is_an_error():
  for name in ('only12', 'without3_12'):
    with pytest.raises(data.DataError, match='class 12 has no example'):
      data.find_subset(name)(LABELS)
  with pytest.raises(data.DataError, match='the subset has no example'):
    data.find_subset('without0_1')(np.array([0, 1, 1]))


def test_too_few_examples_of_a_class_are_an_error():
  with pytest.raises(data.DataError, match='but class 1 has 2'):
    data.find_subset('first3')(np.array([0, 0, 0, 1, 1]))


@pytest.mark.parametrize(
  'name',
  ['first', 'first0', 'first-1', 'first5x', 'x', 'only', 'without3_', 'only_3'],
)
def test_other_names_are_unknown(name):
  assert data.find_subset(name) is None
