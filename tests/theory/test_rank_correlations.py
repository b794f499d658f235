"""Spearman's rank correlation, and its bootstrap intervals."""

import numpy as np
import pytest

from kd_jax.theory import rank_correlations

correlation = rank_correlations.rank_correlation


def test_equal_values_share_the_mean_of_their_ranks():
  rising, repeats = np.arange(20), 5
  assert correlation(rising, rising**2).value == pytest.approx(1)
  assert correlation(rising, -rising).value == pytest.approx(-1)
  # The ranks are 1, 2.5, 2.5, 4 and 1, 2, 3, 4. Rounding separates the fives.
  found = correlation([0, 5, 5 + 1e-14, 9] * repeats, [1, 2, 3, 4] * repeats)
  assert found.value == pytest.approx(0.9487, 1e-3)


def test_the_interval_is_near_that_of_fisher():
  rng = np.random.default_rng(1)
  a = rng.normal(size=100)
  b = 0.8 * a + 0.6 * rng.normal(size=100)
  found = correlation(a, b)
  assert found.low < found.value < found.high
  # The standard error of atanh(r) is about sqrt((1 + r^2 / 2) / (T - 3)).
  r = found.value
  error = np.sqrt((1 + r**2 / 2) / 97)
  low, high = np.tanh(np.arctanh(r) + 1.96 * error * np.array([-1, 1]))
  assert [found.low, found.high] == pytest.approx([low, high], abs=0.04)


def test_a_difference_compares_two_properties_of_the_same_teachers():
  rng = np.random.default_rng(2)
  a = rng.normal(size=50)
  near, far = a + 0.1 * rng.normal(size=50), rng.normal(size=50)
  found = rank_correlations.difference(a, near, far)
  assert found.value == pytest.approx(
    correlation(a, near).value - correlation(a, far).value
  )
  assert found.low > 0
  assert rank_correlations.difference(a, near, near) == (0, 0, 0)
