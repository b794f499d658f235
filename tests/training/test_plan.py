"""Plans: which examples a training uses, in which phases and steps."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from kd_jax.data.dataset import NO_LABEL, Dataset, Split
from kd_jax.training import plan
from tests.training import toy_training as toy


def test_the_fold_loop_of_the_papers_code():
  phases = plan.make_phases(np.ones(60_000, bool), epochs=3, folds=3)
  assert [p.name for p in phases] == ['fold0', 'fold1', 'fold2', 'fit']
  assert [p.mask.sum() for p in phases] == [40_000] * 3 + [60_000]
  left_out = [~p.mask for p in phases[:3]]
  np.testing.assert_array_equal(np.sum(left_out, axis=0), 1)
  # In all, these are 3 E epochs of the whole training set.
  assert sum(p.epochs * p.mask.sum() for p in phases) == 9 * 60_000
  whole = plan.Plan(None, phases, 0, batch_size=32, drop_remainder=False)
  assert whole.num_steps == 9 * 1875


def test_folds_divide_the_examples_that_are_used():
  used = np.arange(60) < 48
  *folds, whole = plan.make_phases(used, epochs=1, folds=3)
  np.testing.assert_array_equal(whole.mask, used)
  assert [p.mask.sum() for p in folds] == [32] * 3
  assert not any(p.mask[48:].any() for p in folds)


def test_the_remainder_of_an_epoch_can_be_dropped():
  phases = toy.make_phases(epochs=1, folds=0)
  assert plan.epoch_size(phases[0], 8, True) == (48, 6)
  assert plan.epoch_size(phases[0], 8, False) == (50, 7)
  assert plan.Plan(None, phases, 0, 8, drop_remainder=True).num_steps == 6


def test_the_timetable_counts_epochs_over_all_phases():
  phases = toy.make_phases(epochs=2, folds=3)
  epochs = plan.Plan(None, phases, 0, 8, drop_remainder=False).epochs
  assert [epoch.index for epoch in epochs] == list(range(8))
  assert [epoch.phase.name for epoch in epochs[::2]] == [
    'fold0',
    'fold1',
    'fold2',
    'fit',
  ]
  assert [epoch.starts_phase for epoch in epochs] == [True, False] * 4
  # The folds leave out 17, 17 and 16 of 50 examples.
  assert [epoch.num_examples for epoch in epochs[::2]] == [33, 33, 34, 50]
  assert [epoch.num_steps for epoch in epochs[::2]] == [5, 5, 5, 7]


def _dataset(unlabeled: int = 0) -> Dataset:
  """Returns 40 examples of 4 classes, and images without labels behind them."""
  labels = np.concatenate([np.arange(40) % 4, np.full(unlabeled, NO_LABEL)])
  split = Split(np.zeros((len(labels), 2, 2, 1), np.uint8), labels)
  name = 'unlabeled-digest' if unlabeled else ''
  return Dataset('toy', split, split, 4, 'digest', unlabeled=name)


def _plan(
  subset: str,
  holdout_fraction: float = 0.0,
  *,
  dataset: Dataset | None = None,
  **fields,
) -> plan.Plan:
  """Returns a plan for 40 examples of 4 classes."""
  section = ConfigDict(
    {
      'subset': subset,
      'holdout_fraction': holdout_fraction,
      'epochs': 1,
      'folds': 0,
      'batch_size': 8,
      'drop_remainder': False,
      'unlabeled_ratio': 0.0,
      **fields,
    }
  )
  return plan.make_plan(section, dataset or _dataset())


@pytest.mark.parametrize('holdout_fraction, used', [(0.0, 40), (0.25, 30)])
def test_all_examples_up_to_the_untrained_ones_are_a_mask(
  holdout_fraction, used
):
  whole = _plan('all', holdout_fraction)
  assert whole.example_indices is None
  assert whole.num_held_out == 40 - used
  (phase,) = whole.phases
  np.testing.assert_array_equal(phase.mask, np.arange(40) < used)


def test_a_subset_is_a_list_of_examples():
  part = _plan('first5')
  assert len(part.example_indices) == 20
  (phase,) = part.phases
  np.testing.assert_array_equal(phase.mask, np.ones(20, bool))


def test_the_rest_of_the_examples_trains_without_its_labels():
  dataset = _dataset()
  part = _plan('first2', 0.25, unlabeled='rest')
  assert sorted(part.example_indices) == list(range(30))
  labels = part.labels(dataset)
  shown = np.arange(40) < 8
  shown |= np.arange(40) >= 30  # Held out, and not trained on.
  np.testing.assert_array_equal(
    labels, np.where(shown, dataset.train.labels, NO_LABEL)
  )
  np.testing.assert_array_equal(dataset.train.labels, np.arange(40) % 4)
  assert np.sum(part.labels_of_epoch(dataset) != NO_LABEL) == 8


def test_without_any_labels_all_examples_are_a_mask():
  part = _plan('none', unlabeled='rest')
  assert part.example_indices is None and len(part.unlabeled_indices) == 40
  assert part.phases[0].mask.all()


def test_added_images_are_not_held_out():
  part = _plan('all', 0.25, dataset=_dataset(8), unlabeled='folder')
  assert part.num_held_out == 10 and part.unlabeled_indices is None
  assert sorted(part.example_indices) == [*range(30), *range(40, 48)]


@pytest.mark.parametrize(
  'ratio, labeled, unlabeled',
  [(0, 40, 8), (1, 40, 40), (2, 40, 80), (0.1, 80, 8), (0.2, 40, 8)],
)
def test_the_kind_that_has_too_few_examples_is_repeated(
  ratio, labeled, unlabeled
):
  dataset = _dataset(8)
  part = _plan(
    'all', dataset=dataset, unlabeled='folder', unlabeled_ratio=ratio
  )
  labels = part.labels_of_epoch(dataset)
  assert np.sum(labels != NO_LABEL) == labeled
  assert np.sum(labels == NO_LABEL) == unlabeled
  if part.example_indices is not None:
    counts = np.bincount(part.example_indices, minlength=48)
    assert counts.min() >= 1
    assert np.ptp(counts[:40]) <= 1 and np.ptp(counts[40:]) <= 1


def test_examples_without_labels_change_the_name_of_a_store():
  names = {
    plan.name_of_examples(
      ConfigDict(
        dict(subset='first5', unlabeled=unlabeled, unlabeled_ratio=ratio)
      )
    )
    for unlabeled in ('', 'rest', 'folder')
    for ratio in (0.0, 2.0)
  }
  assert len(names) == 6 and 'first5' in names
