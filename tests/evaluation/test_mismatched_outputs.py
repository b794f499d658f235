"""Teachers' logits that belong to other examples, or to other classes."""

import numpy as np
import pytest

from kd_jax.evaluation import mismatched_outputs

NAMES = [str(k) for k in range(12)]
LABELS = np.arange(360) % 12


def _logits(labels, accuracy=0.9):
  """Returns logits that decide like the labels, except for some examples."""
  rng = np.random.default_rng(0)
  random = rng.integers(len(NAMES), size=len(labels))
  predicted = np.where(rng.random(len(labels)) < accuracy, labels, random)
  return 5.0 * np.eye(len(NAMES))[predicted]


def _find(**splits):
  pairs = {split: (logits, LABELS) for split, logits in splits.items()}
  return mismatched_outputs.find_mismatches(pairs, NAMES, 'the teacher')


@pytest.mark.parametrize('accuracy', [1.0, 0.9, 0.3])
def test_a_teacher_that_fits_raises_no_doubt(accuracy):
  assert _find(train=_logits(LABELS, accuracy)) == []


def test_classes_in_another_order_are_named():
  # Sorted as text: 0, 1, 10, 11, 2, ... Two classes stay in their places.
  order = np.argsort(NAMES)
  (sentence,) = _find(train=_logits(LABELS)[:, order])
  assert 'accuracy on the train split, as it takes 2 as 4, 3 as 5' in sentence
  assert 'another order; expected 0, 1, 2, 3, 4, ...' in sentence


def test_two_swapped_classes_are_named():
  order = np.array([1, 0, *range(2, 12)])
  (sentence,) = _find(train=_logits(LABELS, 1.0)[:, order])
  assert '83.3% accuracy' in sentence and 'takes 0 as 1, 1 as 0' in sentence


def test_rows_in_another_order_are_no_better_than_chance():
  rows = np.random.default_rng(1).permutation(len(LABELS))
  (sentence,) = _find(train=_logits(LABELS)[rows])
  assert 'train split, no more than by chance' in sentence


def test_one_decision_for_all_is_no_better_than_chance():
  labels = np.array([0] * 90 + [1] * 10)
  logits = np.tile([1.0, 0.0], (100, 1))
  (sentence,) = mismatched_outputs.find_mismatches(
    {'test': (logits, labels)}, ['cat', 'dog'], 'the teacher'
  )
  assert '90.0% accuracy on the test split, no more than by chance' in sentence


def test_splits_that_are_far_apart_are_named():
  far, near = _logits(LABELS, 0.6), _logits(LABELS, 0.85)
  (sentence,) = _find(train=_logits(LABELS, 1.0), test=far)
  assert 'far apart (train 100.0%, test 6' in sentence
  assert _find(train=_logits(LABELS, 1.0), test=near) == []


def test_a_network_that_was_trained_here_has_its_classes_in_order():
  # Two classes are taken for each other, as in a training of one epoch.
  labels = np.arange(90) % 3
  logits = (
    5.0
    * np.eye(3)[
      np.where(np.arange(90) < 9, labels, (labels > 0) * (3 - labels))
    ]
  )
  find = mismatched_outputs.find_unlearned
  (sentence,) = find(
    {'train': (logits, labels), 'test': (logits, labels)}, 'it'
  )
  assert sentence == (
    'it has hardly learned (40.0% accuracy on the train split; one class for '
    'all would have 33.3%): train it longer'
  )
  good = 5.0 * np.eye(3)[labels]
  assert find({'train': (good, labels), 'test': (good, labels)}, 'it') == []
  assert find({'train': (good, labels), 'test': (logits, labels)}, 'it') == [
    'it has accuracies that are far apart (train 100.0%, test 40.0%): it '
    'overfits'
  ]


def test_a_few_examples_say_nothing():
  logits = np.eye(2)[[1, 0, 1]]
  pairs = {'test': (logits, np.array([1, 1, 1]))}
  assert (
    mismatched_outputs.find_mismatches(pairs, ['cat', 'dog'], 'the teacher')
    == []
  )


def test_no_order_of_very_many_classes_is_looked_for():
  labels = np.arange(3000)
  logits = np.eye(3000, dtype=np.float32)[np.roll(labels, 1)]
  names = [str(k) for k in labels]
  (sentence,) = mismatched_outputs.find_mismatches(
    {'train': (logits, labels)}, names, 'the teacher'
  )
  assert 'no more than by chance' in sentence
