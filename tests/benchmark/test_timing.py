"""Clocks and quartiles; the tests assert no times."""

import types

import pytest

from kd_jax.benchmark import timing


def test_calls_are_interleaved_and_blocked_on(monkeypatch):
  order, now = [], [0.0]
  clock = types.SimpleNamespace(perf_counter=lambda: now[0])
  monkeypatch.setattr(timing, 'time', clock)

  class Pending:
    """A stand-in for an array that is still being computed."""

    def __init__(self, name):
      self.name = name

    def block_until_ready(self):
      now[0] += 0.002
      order.append(self.name)
      return self

  seconds = timing.interleave(
    {name: lambda name=name: Pending(name) for name in 'ab'}, budget_s=0.001
  )
  rounds = [''.join(pair) for pair in zip(order[::2], order[1::2], strict=True)]
  assert len(rounds) == 6  # The first round warms up.
  assert set(rounds) == {'ab', 'ba'}
  for of_call in seconds.values():
    assert of_call == pytest.approx([0.002] * 5)


def test_quartiles():
  assert timing.quartiles([4, 1, 2, 3, 5]) == {
    'median': 3, 'lower': 2, 'upper': 4, 'n': 5,
  }  # fmt: skip


@pytest.mark.faults
def test_a_clock_that_stands_still_gives_no_time_of_zero(monkeypatch):
  """A clock that does not move within a call: ratios of times stay finite."""
  clock = types.SimpleNamespace(perf_counter=lambda: 7.0)
  monkeypatch.setattr(timing, 'time', clock)
  seconds = timing.interleave(
    {'a': lambda: None, 'b': lambda: None}, budget_s=1e-9
  )
  assert {a / b for a, b in zip(*seconds.values(), strict=True)} == {1.0}
