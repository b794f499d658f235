"""Timing of calls in turn, and medians and quartiles of the seconds."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

_MIN_ROUNDS = 5
_MAX_ROUNDS = 1000
# The least time of a call: a coarse clock may not move within a short one, and
# times are divided by each other.
_TICK_S = 1e-9


def since(start: float) -> float:
  """Returns the seconds since a reading of `time.perf_counter`, above 0."""
  return max(time.perf_counter() - start, _TICK_S)


def quartiles(values: Sequence[float] | np.ndarray) -> dict[str, float | int]:
  """Returns the median, the quartiles and the number of measurements."""
  lower, median, upper = np.percentile(values, (25, 50, 75))
  return {
    'median': float(median),
    'lower': float(lower),
    'upper': float(upper),
    'n': len(values),
  }


def interleave(
  calls: Mapping[str, Callable[[], Any]], *, budget_s: float
) -> dict[str, list[float]]:
  """Times calls in rounds, with a new random order in each round.

  A call leaves caches and threads in a state that affects the next call: in a
  fixed order, a student that followed its teacher took up to twice as long.

  Args:
    calls: functions by name. The timer blocks on what a function returns.
    budget_s: timed seconds for each function, on average. At least five rounds
      are timed, even if they take longer.
  Returns:
    The seconds of each round, by name.
  """
  for call in calls.values():  # Warms up: allocation, caches, lazy set-up.
    jax.block_until_ready(call())
  seconds: dict[str, list[float]] = {name: [] for name in calls}
  total_s = 0.0
  for i in range(_MAX_ROUNDS):
    if i >= _MIN_ROUNDS and total_s > budget_s * len(calls):
      break
    for name in random.Random(i).sample(list(calls), len(calls)):
      start = time.perf_counter()
      jax.block_until_ready(calls[name]())
      seconds[name].append(since(start))
      total_s += seconds[name][-1]
  return seconds
