"""The clock of a training: steps per call, saves and the progress bar."""

import types

import numpy as np
import pytest

from kd_jax.training import pace, plan
from tests.training import toy_training as toy


@pytest.fixture(name='clock')
def _clock(monkeypatch):
  """A clock that stands still; tests advance its only entry."""
  seconds = [1e9]
  clocks = types.SimpleNamespace(perf_counter=lambda: seconds[0])
  monkeypatch.setattr(pace, 'time', clocks)
  return seconds


def _timer(save_every_s):
  bar = pace.progress_bar([], 0, label=None)
  return pace.Pace(save_every_s, bar)


def _call(timer, clock, num_steps, seconds):
  timer.start_call()
  clock[0] += seconds
  timer.end_call(num_steps)


def test_calls_grow_at_most_fourfold_towards_a_second(clock):
  timer = _timer(np.inf)
  timer.restart_clock(0.0)
  assert timer.steps_per_call == 1
  for seconds, steps in ((0.001, 4), (0.004, 16), (0.5, 32), (4.0, 8)):
    _call(timer, clock, timer.steps_per_call, seconds)
    assert timer.steps_per_call == steps
  _call(timer, clock, timer.steps_per_call, 100.0)
  assert timer.steps_per_call == 1


@pytest.mark.faults
def test_a_clock_that_stands_still_or_goes_back_divides_by_nothing(clock):
  """A clock that does not move within a call: the calls grow as usual."""
  timer = _timer(np.inf)
  timer.restart_clock(0.0)
  for seconds, steps in ((0.0, 4), (-5.0, 16)):
    _call(timer, clock, timer.steps_per_call, seconds)
    assert timer.steps_per_call == steps


def test_a_save_is_due_some_time_after_the_last_one(clock):
  timer = _timer(10.0)
  timer.restart_clock(0.0)
  _call(timer, clock, 1, 9.0)
  assert not timer.save_is_due()
  _call(timer, clock, 1, 2.0)
  assert timer.save_is_due()
  with timer.saving():
    clock[0] += 5.0
  _call(timer, clock, 1, 9.0)
  assert not timer.save_is_due()


def test_the_clock_stops_for_saves_and_goes_on_after_a_resume(clock):
  timer = _timer(10.0)
  timer.restart_clock(100.0)
  clock[0] += 3.0
  with timer.saving():
    clock[0] += 50.0
  clock[0] += 4.0
  assert timer.train_s() == pytest.approx(107.0)


def test_the_progress_bar_counts_the_examples_of_all_epochs():
  timetable = plan.timetable(toy.make_phases(), 8, drop_remainder=False)
  with pace.progress_bar(timetable, 3, label='toy seed 0') as bar:
    # Folds of 33, 33 and 34 examples, and then all 50, for two epochs each.
    assert (bar.total, bar.initial) == (300, 99)
  with pace.progress_bar(timetable, 3, label=None) as bar:
    assert bar.disable


def test_the_progress_bar_shows_means_over_all_seeds():
  totals = {
    'loss': np.array([6.0, 2.0]),
    'correct': np.array([3.0, 1.0]),
    'count': np.array([4.0, 4.0]),
  }
  assert pace.describe(totals) == 'loss 1.0000, training accuracy 50.00%'


def test_the_accuracy_in_the_bar_is_that_of_examples_with_labels():
  totals = {
    'loss': np.array([6.0, 2.0]),
    'correct': np.array([3.0, 1.0]),
    'count': np.array([40.0, 40.0]),
    'labeled': np.array([4.0, 4.0]),
  }
  assert pace.describe(totals) == 'loss 0.1000, training accuracy 50.00%'
  totals['labeled'] = totals['correct'] = np.zeros(2)
  assert pace.describe(totals) == 'loss 0.1000'
