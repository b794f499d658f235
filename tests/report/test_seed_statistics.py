"""Statistics over seeds: against scipy, simulations and printed examples."""

import math

import numpy as np
import pytest
from scipy import stats

from kd_jax.report import seed_statistics


def test_an_estimate_has_students_interval_and_test():
  values = [1.0, 2.0, 4.0]
  found = seed_statistics.estimate(values)
  # By hand: mean 7/3, sd 1.527525, t(0.975, 2) = 4.302653.
  assert found.n == 3 and found.mean == pytest.approx(7 / 3)
  assert found.sd == pytest.approx(1.527525, abs=1e-6)
  half = 4.302653 * 1.527525 / math.sqrt(3)
  assert found.low == pytest.approx(7 / 3 - half, abs=1e-5)
  assert found.high == pytest.approx(7 / 3 + half, abs=1e-5)
  assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_one_value_has_no_interval():
  found = seed_statistics.estimate([3.0])
  assert (found.n, found.mean) == (1, 3.0)
  assert all(map(math.isnan, found[2:]))
  assert all(map(math.isnan, seed_statistics.prediction_interval([3.0])))


def test_equal_values_are_certain():
  assert seed_statistics.estimate([2.0, 2.0])[1:] == (2.0, 0.0, 2.0, 2.0, 0.0)
  assert seed_statistics.estimate([0.0, 0.0]).p == 1.0
  equal = seed_statistics.nested_prediction_interval([[1.0, 1.0]] * 2)
  assert equal == (1.0, 1.0)


def test_differences_are_paired_by_seed():
  found = seed_statistics.paired_difference(
    {0: 1.0, 1: 5.0, 2: 9.0}, {2: 8.0, 1: 4.5, 7: 0.0}
  )
  assert found == seed_statistics.estimate([0.5, 1.0])
  with pytest.raises(ValueError, match='share no seed'):
    seed_statistics.paired_difference({0: 1.0}, {1: 1.0})


def test_prediction_intervals_hold_one_more_draw_in_95_percent():
  rng = np.random.default_rng(0)
  draws = rng.normal(size=(1000, 6))
  held = [
    seed_statistics.prediction_interval(sample[:5]).holds(sample[5])
    for sample in draws
  ]
  assert np.mean(held) == pytest.approx(0.95, abs=0.021)


@pytest.mark.parametrize('teacher_sd', [0.3, 2.0])
def test_nested_intervals_hold_a_student_of_a_new_teacher(teacher_sd):
  rng = np.random.default_rng(1)
  held = []
  for _ in range(500):
    teachers = teacher_sd * rng.normal(size=(6, 1))
    students = teachers + rng.normal(size=(6, 4))
    interval = seed_statistics.nested_prediction_interval(students[:5].tolist())
    held.append(interval.holds(students[5, 0]))
  assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def test_nested_intervals_need_teachers_of_equally_many_students():
  with pytest.raises(ValueError, match=r'\[2, 1\] values'):
    seed_statistics.nested_prediction_interval([[1.0, 2.0], [1.0]])


def test_holm_corrects_by_rank():
  # Holm's steps by hand: 0.01 * 4, 0.02 * 3, 0.03 * 2 (raised), 0.5.
  found = seed_statistics.holm([0.03, 0.01, 0.5, 0.02, math.nan])
  assert found[:4] == pytest.approx([0.06, 0.04, 0.5, 0.06])
  assert math.isnan(found[4])
  assert seed_statistics.holm([0.9, 0.8]) == [1.0, 1.0]
