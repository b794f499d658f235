"""Clocks: calls in turn, blocked on, and their medians and quartiles."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

_MIN_ROUNDS = 5
_MAX_ROUNDS = 1000


def quartiles(values: Sequence[float]) -> dict[str, float | int]:
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
  """Times calls in turn, in each round in an order of its own.

  What a call leaves behind, in caches and of threads, is the next one's: a
  student that always followed its teacher took up to twice as long.

  Args:
    calls: by name; what each returns is blocked on.
    budget_s: of timed seconds for each name, on average; at least five rounds
      are made whatever they take.
  Returns:
    Seconds of each round, by name.
  """
  for call in calls.values():  # Warm up: allocation, caches, lazy set-up.
    jax.block_until_ready(call())
  seconds: dict[str, list[float]] = {name: [] for name in calls}
  spent = 0.0
  for done in range(_MAX_ROUNDS):
    if done >= _MIN_ROUNDS and spent > budget_s * len(calls):
      break
    order = random.Random(done).sample(list(calls), len(calls))
    for name in order:
      began = time.perf_counter()
      jax.block_until_ready(calls[name]())
      seconds[name].append(time.perf_counter() - began)
      spent += seconds[name][-1]
  return seconds
