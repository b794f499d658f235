"""Means, intervals and tests over the seeds of a run.

A number after ± is the standard deviation over seeds, everywhere. Intervals
are 95 % intervals by Student's t.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

LEVEL = 0.95  # of all intervals
ALPHA = 0.05  # of all tests


class Estimate(NamedTuple):
  """A mean over seeds.

  Attributes:
    n: number of values.
    mean: their mean.
    sd: their standard deviation; nan for one value.
    low: lower end of the 95 % confidence interval of the mean; nan for one.
    high: its upper end.
    p: p-value of the two-sided test that the mean is 0; nan for one.
  """

  n: int
  mean: float
  sd: float
  low: float
  high: float
  p: float


class Interval(NamedTuple):
  """An interval from `low` to `high`."""

  low: float
  high: float

  def holds(self, value: float) -> bool:
    """Returns whether the interval contains a value."""
    return self.low <= value <= self.high


def estimate(values: Sequence[float]) -> Estimate:
  """Returns the mean of values, its interval, and the test that it is 0.

  Args:
    values: independent draws; at least one.
  """
  from scipy import stats

  mean = statistics.fmean(values)
  if len(values) < 2:
    return Estimate(1, mean, *[math.nan] * 4)
  sd = statistics.stdev(values)
  if sd == 0:  # scipy warns, and returns nan.
    return Estimate(len(values), mean, 0.0, mean, mean, float(mean == 0))
  test = stats.ttest_1samp(values, 0.0)
  interval = test.confidence_interval(LEVEL)
  return Estimate(
    len(values),
    mean,
    sd,
    float(interval.low),
    float(interval.high),
    float(test.pvalue),
  )


def paired_difference(
  values: Mapping[int, float], control: Mapping[int, float]
) -> Estimate:
  """Returns the mean difference of two networks that share their seeds.

  Args:
    values: a metric of one network, by seed.
    control: the metric of the other network, by seed.
  Returns:
    The estimate of values - control over the seeds that both have.
  Raises:
    ValueError: if no seed is shared.
  """
  shared = sorted(values.keys() & control.keys())
  if not shared:
    raise ValueError('the two rows share no seed')
  return estimate([values[seed] - control[seed] for seed in shared])


def prediction_interval(values: Sequence[float]) -> Interval:
  """Returns the 95 % prediction interval of one more draw.

  A figure that was drawn in the same way as the values lies within this
  interval with a probability of 95 %.

  Args:
    values: independent draws; with fewer than two, the interval is nan.
  """
  from scipy import stats

  if len(values) < 2:
    return Interval(math.nan, math.nan)
  scale = statistics.stdev(values) * math.sqrt(1 + 1 / len(values))
  low, high = stats.t.interval(
    LEVEL, len(values) - 1, loc=statistics.fmean(values), scale=scale
  )
  return Interval(float(low), float(high))


def nested_prediction_interval(groups: Sequence[Sequence[float]]) -> Interval:
  """Returns the 95 % prediction interval of one student of one more teacher.

  The variance of the draw is that among teachers and that among the students
  of a teacher. The degrees of freedom are Satterthwaite's.

  Args:
    groups: for each teacher, the values of its students. At least two
      teachers, with equally many students, at least two.
  Raises:
    ValueError: if the groups are fewer, smaller or unequal.
  Reference: Satterthwaite 1946, An approximate distribution of estimates of
    variance components, Biometrics Bulletin 2 (6).
  """
  from scipy import stats

  teachers, students = len(groups), len(groups[0])
  if teachers < 2 or students < 2 or any(len(g) != students for g in groups):
    raise ValueError(
      f'groups of {[len(group) for group in groups]} values: expected two or '
      'more groups of one size, of two or more values'
    )
  means = [statistics.fmean(group) for group in groups]
  within = statistics.fmean(statistics.variance(group) for group in groups)
  # The variance of a new draw around the mean of all draws is the sum of these:
  parts = (
    (statistics.variance(means) * (1 + 1 / teachers), teachers - 1),
    (within * (1 - 1 / students), teachers * (students - 1)),
  )
  variance = sum(part for part, _ in parts)
  if variance == 0:
    return Interval(means[0], means[0])
  freedom = variance**2 / sum(part**2 / freedom for part, freedom in parts)
  low, high = stats.t.interval(
    LEVEL, freedom, loc=statistics.fmean(means), scale=math.sqrt(variance)
  )
  return Interval(float(low), float(high))


def holm(p_values: Sequence[float]) -> list[float]:
  """Returns p-values corrected for the number of tests, by Holm's method.

  If every test whose corrected p-value is below 0.05 is called a difference,
  the probability of any false call is at most 5 %.

  Args:
    p_values: one for each test; nan, a test that was not possible, stays nan
      and does not count.
  Reference: Holm 1979, A simple sequentially rejective multiple test procedure,
    Scandinavian Journal of Statistics 6 (2).
  """
  counted = [i for i, p in enumerate(p_values) if not math.isnan(p)]
  corrected = [math.nan] * len(p_values)
  largest = 0.0
  for rank, i in enumerate(sorted(counted, key=p_values.__getitem__)):
    largest = max(largest, min(1.0, p_values[i] * (len(counted) - rank)))
    corrected[i] = largest
  return corrected
