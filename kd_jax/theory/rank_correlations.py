"""Spearman's rank correlation over teachers, with bootstrap intervals."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# Resamples of the teachers.
_NUM_RESAMPLES = 9999
# Values that differ by rounding alone share a rank.
_DECIMALS = 12


class Interval(NamedTuple):
  """A value with its 95 % bootstrap interval."""

  value: float
  low: float
  high: float


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> Interval:
  """Returns Spearman's rank correlation of two properties of teachers.

  Args:
    a: [T] float; a property of T teachers. Values that are equal up to 12
      decimals share the mean of their ranks.
    b: [T] float; another property of the same teachers.
  """
  return _bootstrap(_correlations, a, b)


def difference(
  a: Sequence[float], b: Sequence[float], c: Sequence[float]
) -> Interval:
  """Returns the rank correlation of a with b, minus that of a with c."""
  return _bootstrap(
    lambda a, b, c: _correlations(a, b) - _correlations(a, c), a, b, c
  )


def _bootstrap(
  statistic: Callable[..., np.ndarray], *properties: Sequence[float]
) -> Interval:
  """Resamples teachers; the interval is the bootstrap's percentiles."""
  from scipy import stats

  values = [np.round(values, _DECIMALS) for values in properties]
  bounds = stats.bootstrap(
    values,
    lambda *resampled, axis: statistic(*resampled),
    paired=True,
    vectorized=True,
    method='percentile',
    n_resamples=_NUM_RESAMPLES,
    rng=np.random.default_rng(0),
  ).confidence_interval
  return Interval(
    float(statistic(*values)), float(bounds.low), float(bounds.high)
  )


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Returns the rank correlations of arrays [..., T], [...]."""
  from scipy import stats

  ranks = (stats.rankdata(values, axis=-1) for values in (a, b))
  return stats.pearsonr(*ranks, axis=-1).statistic
