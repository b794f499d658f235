"""Plans: which examples a training uses, in which phases and steps."""

import numpy as np
import pytest
import toy_training as toy
from ml_collections import ConfigDict

from kd_jax.data.dataset import Dataset, Split
from kd_jax.training import plan


def test_the_fold_loop_of_the_papers_code():
  phases = plan.make_phases(np.ones(60_000, bool), epochs=3, folds=3)
  assert [p.name for p in phases] == ['fold0', 'fold1', 'fold2', 'fit']
  assert [p.subset.sum() for p in phases] == [40_000] * 3 + [60_000]
  left_out = [~p.subset for p in phases[:3]]
  np.testing.assert_array_equal(np.sum(left_out, axis=0), 1)
  # In all, these are 3 E epochs of the whole training set.
  assert sum(p.epochs * p.subset.sum() for p in phases) == 9 * 60_000
  whole = plan.Plan(None, phases, 0, batch_size=32, drop_remainder=False)
  assert whole.num_steps == 9 * 1875


def test_folds_divide_the_examples_that_are_used():
  used = np.arange(60) < 48
  *folds, whole = plan.make_phases(used, epochs=1, folds=3)
  np.testing.assert_array_equal(whole.subset, used)
  assert [p.subset.sum() for p in folds] == [32] * 3
  assert not any(p.subset[48:].any() for p in folds)


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


def _plan(subset: str, holdout_fraction: float = 0.0) -> plan.Plan:
  """Returns a plan for 40 examples of 4 classes."""
  split = Split(np.zeros((40, 2, 2, 1), np.uint8), np.arange(40) % 4)
  dataset = Dataset('toy', split, split, 4, 'digest')
  section = ConfigDict(
    {
      'subset': subset,
      'holdout_fraction': holdout_fraction,
      'epochs': 1,
      'folds': 0,
      'batch_size': 8,
      'drop_remainder': False,
    }
  )
  return plan.make_plan(section, dataset)


@pytest.mark.parametrize('holdout_fraction, used', [(0.0, 40), (0.25, 30)])
def test_all_examples_up_to_the_untrained_ones_are_a_mask(
  holdout_fraction, used
):
  whole = _plan('all', holdout_fraction)
  assert whole.examples is None
  assert whole.num_untrained == 40 - used
  (phase,) = whole.phases
  np.testing.assert_array_equal(phase.subset, np.arange(40) < used)


def test_a_subset_is_a_list_of_examples():
  part = _plan('first5')
  assert len(part.examples) == 20
  (phase,) = part.phases
  np.testing.assert_array_equal(phase.subset, np.ones(20, bool))
