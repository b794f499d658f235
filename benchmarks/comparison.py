"""Runs systems in turns, each in a separate process, and times every round.

If a system cannot start or ends early, the others go on: the record keeps what
was measured, and the reason.
"""

import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import harness
import numpy as np

# Examples/s by case, system and round.
Rates = dict[str, dict[str, dict[int, float]]]
_PAUSE_S = 0.3  # Between turns, until the last system's threads are asleep.


def compare(
  starters: Mapping[str, Callable[[], harness.Worker]],
  cases: Sequence[str],
  *,
  rounds: int,
  limit_systems: Sequence[str],
  rtol: float,
  atol: float = 0.0,
) -> dict[str, Any]:
  """Starts all systems, compares their checks, and times them in turns.

  A system that cannot start, whose check differs or that ends early is left
  out from then on. If the first system ends early, the comparison ends.

  Args:
    starters: functions that start a worker, by system; the first is ours.
    cases: in every round, each system has one turn for each case.
    rounds: number of rounds.
    limit_systems: systems whose libraries measure the machine's limits.
    rtol: relative tolerance of the checks.
    atol: absolute tolerance of the checks.
  Returns:
    JSON values. 'cases': for each case and system, quartiles over the rounds
    of 'examples_per_s', 'ours_over_it' and, if there is a system 'ours-live',
    'live_over_it'. 'limits': for each of `limit_systems`, quartiles of what it
    measured in the same rounds. 'checks': the checks by system. 'failures': why
    a system has no measurements, or fewer than the others, by system.
  Raises:
    SystemExit: If the first system cannot start, or ends before it is timed.
  """
  ours = next(iter(starters))
  started = _start(starters, rtol=rtol, atol=atol)
  rates: Rates = {
    case: {name: {} for name in started.workers} for case in cases
  }
  limits: dict[str, list[Any]] = {name: [] for name in limit_systems}
  for done in range(rounds):
    if ours not in started.workers:
      break
    _take_round(started, done, rates, limits)
  for worker in started.workers.values():
    worker.close()
  if not all(rates[case][ours] for case in cases):
    _exit_without(ours, started.failures[ours])
  return {
    'cases': {case: _summarize(rates[case], ours) for case in cases},
    'limits': {
      name: harness.quartiles_by_key(measured)
      for name, measured in limits.items()
      if measured
    },
    'checks': started.checks,
    'failures': started.failures,
  }


def _exit_without(system: str, reason: str) -> NoReturn:
  """Ends the benchmark, because its first system has failed."""
  sys.exit(
    f'error: the others are compared with {system}, which has failed: {reason}'
  )


class _Started(NamedTuple):
  """Systems that are ready to be timed, and those that are not.

  Attributes:
    workers: the workers that are ready, by system.
    checks: their checks.
    failures: why the other systems are left out.
  """

  workers: dict[str, harness.Worker]
  checks: dict[str, list[float] | None]
  failures: dict[str, str]

  def ask(
    self, names: Iterable[str], request: str, done: int
  ) -> Iterator[tuple[str, Any]]:
    """Asks systems one after the other, and leaves out those that fail.

    Args:
      names: the systems.
      request: a case to time, or 'limits'.
      done: the number of finished rounds, for the reason of a failure.
    Yields:
      The names and answers of the systems that have answered.
    """
    for name in names:
      if name not in self.workers:
        continue
      time.sleep(_PAUSE_S)
      try:
        yield name, self.workers[name].ask(request)
      except harness.SystemFailed as error:
        del self.workers[name]
        self.failures[name] = f'ended in round {done + 1}: {error}'
        print(f'{name}: {self.failures[name]}', flush=True)


def _take_round(
  started: _Started, done: int, rates: Rates, limits: dict[str, list[Any]]
) -> None:
  """Gives each system its turns, and adds what they measure.

  Args:
    started: the systems.
    done: how many rounds there were before.
    rates: get the examples/s of each case and system.
    limits: get what each system's library measures of the machine's limits.
  """
  # Each round has a different order, so no system always follows the same.
  order = random.Random(done).sample(
    list(started.workers), len(started.workers)
  )
  for case, systems in rates.items():
    for name, (examples, seconds) in started.ask(order, case, done):
      rate = systems[name][done] = examples / seconds
      print(f'{case} {name}: {rate:,.1f} examples/s', flush=True)
  for name, measured in started.ask(limits, 'limits', done):
    limits[name].append(measured)


def _start(
  starters: Mapping[str, Callable[[], harness.Worker]],
  *,
  rtol: float,
  atol: float,
) -> _Started:
  """Starts workers one after the other, so that each warms up undisturbed.

  Raises:
    SystemExit: If the first system cannot start.
  """
  started = _Started({}, {}, {})
  first_of_group: dict[str, list[float]] = {}
  for name, start in starters.items():
    worker = start()
    try:
      ready = worker.answer()
    except harness.SystemFailed as error:
      started.failures[name] = f'cannot start: {error}'
    else:
      check = ready['check']
      first = check
      if check is not None:
        first = first_of_group.setdefault(ready['group'], check)
      if _is_close(check, first, rtol, atol):
        started.workers[name], started.checks[name] = worker, check
        print(f'{name}: ready', flush=True)
        continue
      worker.close()
      started.failures[name] = (
        f'its results differ from those of other systems: {check[:3]}, not '
        f'{first[:3]}'
      )
    print(f'{name}: {started.failures[name]}', flush=True)
    if not started.workers:
      _exit_without(name, started.failures[name])
  return started


def _is_close(
  check: list[float] | None,
  first: list[float] | None,
  rtol: float,
  atol: float,
) -> bool:
  """Returns whether a check equals the first check of its group."""
  if check is None or first is None:  # A system that is not compared.
    return True
  return len(check) == len(first) and np.allclose(check, first, rtol, atol)


def _summarize(
  rates: Mapping[str, Mapping[int, float]], ours: str
) -> dict[str, dict[str, Any]]:
  """Returns quartiles of each system's rates, and of ours over each rate.

  Ratios are taken over the rounds that both systems finished.

  Args:
    rates: examples/s by round, by system.
    ours: the name of our system.
  """
  from kd_jax.benchmark import timing

  references = {'ours_over_it': ours}
  if rates.get('ours-live'):
    references['live_over_it'] = 'ours-live'
  summary = {}
  for name, by_round in rates.items():
    if not by_round:
      continue
    summary[name] = {'examples_per_s': timing.quartiles([*by_round.values()])}
    for key, reference in references.items():
      ratios = [
        rates[reference][done] / rate
        for done, rate in by_round.items()
        if done in rates[reference]
      ]
      if ratios:
        summary[name][key] = timing.quartiles(ratios)
  return summary
