"""Runs systems in turns, each in a separate process, and times every round.

A benchmark's script also starts its workers: it calls `serve` if the command
line has --worker, and `compare` otherwise.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The workers import the project from here, whatever their working folder is.
sys.path.insert(0, str(ROOT))
# Several systems share one GPU, so JAX must not reserve the GPU's memory.
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

# The allocator settings of `kd_jax.runtime.host_memory`, for every system
# alike: they save 15 to 25 % of a ResNet's step in any library.
_KEPT_MEMORY = {
  'MALLOC_TRIM_THRESHOLD_': '-1',
  'MALLOC_MMAP_MAX_': '0',
  'MALLOC_ARENA_MAX': '1',
}
_PAUSE_S = 0.3  # Between turns, until the last system's threads are asleep.


def make_parser(about: str, *, rounds: int) -> argparse.ArgumentParser:
  """Returns a parser with the options that all benchmarks share.

  Args:
    about: the benchmark's docstring.
    rounds: the default number of rounds.
  """
  parser = argparse.ArgumentParser(description=about.splitlines()[0])
  about_rounds = f'number of rounds; default {rounds}'
  parser.add_argument('--rounds', type=int, default=rounds, help=about_rounds)
  parser.add_argument(
    '--out_dir',
    type=pathlib.Path,
    default=ROOT / 'results',
    help='the record lies below it, in bench/MACHINE/; default results/',
  )
  parser.add_argument('--worker', help=argparse.SUPPRESS)
  return parser


def select_systems(
  systems: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
  """Returns the named systems, or all systems if no name is given.

  Args:
    systems: all systems of a benchmark, by name.
    names: the chosen names; the first one must be 'ours'.
  Raises:
    SystemExit: If a name is unknown, or the first name is not 'ours'.
  """
  unknown = [name for name in names if name not in systems]
  if unknown:
    sys.exit(
      f'--systems: unknown: {", ".join(unknown)}; known: {", ".join(systems)}'
    )
  if names and names[0] != 'ours':
    sys.exit(f'--systems: the first must be ours, and is {names[0]}')
  return {name: systems[name] for name in names or systems}


def on_gpu() -> bool:
  """Returns whether JAX computes on a GPU; PyTorch then uses the GPU, too."""
  import jax

  return jax.default_backend() == 'gpu'


def torch_device() -> str:
  """Returns PyTorch's name for the device that JAX uses: 'cuda' or 'cpu'.

  On a GPU, also lets PyTorch multiply with ten bits of mantissa, which is
  JAX's default, and choose convolution algorithms by timing.

  Raises:
    RuntimeError: If JAX has a GPU that PyTorch cannot use.
  """
  import torch

  if not on_gpu():
    return 'cpu'
  if not torch.cuda.is_available():
    raise RuntimeError(
      'JAX computes on a GPU that this PyTorch cannot use: install its CUDA '
      'build, or set JAX_PLATFORMS=cpu'
    )
  torch.set_float32_matmul_precision('high')
  torch.backends.cudnn.benchmark = True
  return 'cuda'


class System(NamedTuple):
  """A system that takes turns with others.

  Attributes:
    turn: (case) -> (number of examples, seconds); does some of the work of a
      case, for example of a batch size.
    check: values that must equal those of the other systems of `group` before
      anything is timed, for example the first losses; None to compare nothing.
    group: the name of the group of systems whose checks are compared.
  """

  turn: Callable[[str], tuple[int, float]]
  check: list[float] | None = None
  group: str = ''


def serve(
  make: Callable[[], System],
  cases: Sequence[str],
  measure_limits: Callable[[], dict[str, float]] | None = None,
) -> None:
  """Runs a worker: makes a system, then answers requests until input ends.

  A request is a line of standard input: a case to time, or 'limits'. An answer
  is a line of JSON on standard output.

  Args:
    make: () -> the system.
    cases: the cases to warm up before the first request.
    measure_limits: () -> the machine's limits, measured with the system's
      library.
  """
  system = make()
  for case in cases:
    system.turn(case)  # Compiles, and warms up.
  ready = {'check': system.check, 'group': system.group}
  print(json.dumps(ready), flush=True)
  for line in sys.stdin:
    request = line.strip()
    if request == 'limits' and measure_limits is not None:
      answer: Any = measure_limits()
    else:
      answer = system.turn(request)
    print(json.dumps(answer), flush=True)


def repeat(
  call: Callable[[], Any],
  examples: int,
  *,
  seconds: float = 0.2,
  max_s: float = 5.0,
) -> tuple[int, float]:
  """Repeats a call until it fills a turn of a `System`.

  Args:
    call: () -> anything; returns when the work is done.
    examples: number of examples in one call.
    seconds: least duration of the turn.
    max_s: duration after which a turn may have fewer than three calls.
  Returns:
    The number of examples, and the seconds taken.
  """
  began = time.perf_counter()
  count, taken = 0, 0.0
  while taken < seconds or (count < 3 and taken < max_s):
    call()
    count += 1
    taken = time.perf_counter() - began
  return count * examples, taken


class Worker:
  """A process that runs one system and answers requests, see `serve`."""

  def __init__(
    self, script: str, system: str, environment: Mapping[str, str] | None = None
  ):
    self._process = subprocess.Popen(
      [sys.executable, script, f'--worker={system}'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env=os.environ | _KEPT_MEMORY | dict(environment or {}),
    )
    assert self._process.stdin is not None  # Both are pipes.
    assert self._process.stdout is not None
    self._requests, self._answers = self._process.stdin, self._process.stdout

  def answer(self) -> Any:
    """Returns the next answer, and skips output that is not JSON.

    Raises:
      RuntimeError: If the process ended.
    """
    for line in self._answers:
      try:
        return json.loads(line)
      except json.JSONDecodeError:
        continue
    raise RuntimeError(f'a worker ended early: {self._process.args!r}')

  def ask(self, request: str) -> Any:
    """Sends a request and returns its answer."""
    self._requests.write(f'{request}\n')
    self._requests.flush()
    return self.answer()

  def close(self) -> None:
    """Ends the process and waits for its end."""
    self._requests.close()
    self._process.wait()


def compare(
  starters: Mapping[str, Callable[[], Worker]],
  cases: Sequence[str],
  *,
  rounds: int,
  limit_systems: Sequence[str],
  rtol: float,
  atol: float = 0.0,
) -> dict[str, Any]:
  """Starts all systems, compares their checks, and times them in turns.

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
    measured in the same rounds. 'checks': the checks by system.
  """
  workers, checks = _start(starters, rtol=rtol, atol=atol)
  rates: dict[str, dict[str, list[float]]] = {
    case: {name: [] for name in workers} for case in cases
  }
  limits: dict[str, list[Any]] = {name: [] for name in limit_systems}
  for done in range(rounds):
    # Each round has a different order, so no system always follows the same.
    order = random.Random(done).sample(list(workers), len(workers))
    for case in cases:
      for name in order:
        time.sleep(_PAUSE_S)
        examples, seconds = workers[name].ask(case)
        rate = examples / seconds
        rates[case][name].append(rate)
        print(f'{case} {name}: {rate:,.1f} examples/s', flush=True)
    for name, measured in limits.items():
      time.sleep(_PAUSE_S)
      measured.append(workers[name].ask('limits'))
  for worker in workers.values():
    worker.close()
  ours = next(iter(starters))
  return {
    'cases': {case: _summarize(rates[case], ours) for case in cases},
    'limits': {name: quartiles_by_key(limits[name]) for name in limits},
    'checks': checks,
  }


def _start(
  starters: Mapping[str, Callable[[], Worker]], *, rtol: float, atol: float
) -> tuple[dict[str, Worker], dict[str, list[float] | None]]:
  """Starts workers one after the other, so that each warms up undisturbed.

  Returns:
    The workers and their checks, by system.
  Raises:
    AssertionError: If a check differs from the first check of its group.
  """
  workers: dict[str, Worker] = {}
  checks: dict[str, list[float] | None] = {}
  first_of_group: dict[str, list[float]] = {}
  for name, start in starters.items():
    workers[name] = start()
    ready = workers[name].answer()
    check = checks[name] = ready['check']
    if check is not None:
      first = first_of_group.setdefault(ready['group'], check)
      np.testing.assert_allclose(
        check, first, rtol=rtol, atol=atol, err_msg=name
      )
    print(f'{name}: ready', flush=True)
  return workers, checks


def _summarize(
  rates: Mapping[str, Sequence[float]], ours: str
) -> dict[str, dict[str, Any]]:
  """Returns quartiles of each system's rates, and of ours over each rate.

  Args:
    rates: examples/s of each round, by system.
    ours: the name of our system.
  """
  from kd_jax.benchmark import timing

  references = {'ours_over_it': ours}
  if 'ours-live' in rates:
    references['live_over_it'] = 'ours-live'
  return {
    name: {'examples_per_s': timing.quartiles(of_rounds)}
    | {
      key: timing.quartiles(np.divide(rates[reference], of_rounds))
      for key, reference in references.items()
    }
    for name, of_rounds in rates.items()
  }


def quartiles_by_key(
  measurements: Sequence[Mapping[str, float]], keys: Sequence[str] = ()
) -> dict[str, dict[str, float | int]]:
  """Returns quartiles of each number that all measurements have.

  Args:
    measurements: numbers by key, one mapping a measurement.
    keys: the keys to summarize; all keys of the first measurement if empty.
  """
  from kd_jax.benchmark import timing

  return {
    key: timing.quartiles([numbers[key] for numbers in measurements])
    for key in keys or measurements[0]
  }


def run_in_process(
  script: str, *args: str, environment: Mapping[str, str] | None = None
) -> Any:
  """Runs a script in a separate process.

  Args:
    script: path of the script.
    *args: arguments of the script.
    environment: environment variables to add.
  Returns:
    The JSON value in the last line that the script printed.
  """
  output = subprocess.run(
    [sys.executable, script, *args],
    env=os.environ | _KEPT_MEMORY | dict(environment or {}),
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  ).stdout
  return json.loads(output.splitlines()[-1])


def write_record(
  out_dir: pathlib.Path, topic: str, *, peers: Sequence[str] = (), **fields
) -> None:
  """Writes a benchmark's record, with its name, command and environment.

  The name holds the kind of machine, as in bench-avx2-serving, so that records
  of different machines cannot be mistaken for each other.

  Args:
    out_dir: folder of records, such as results/.
    topic: what was measured, the last part of the name.
    peers: packages of other systems, whose versions are recorded.
    **fields: JSON values of the record.
  """
  from kd_jax.report import results_folder
  from kd_jax.runtime import files

  environment = describe_environment(peers)
  instructions = environment['instructions'].partition(',')[0]
  width = instructions.replace('-', '').lower()
  name = f'bench-{"gpu" if on_gpu() else width or "cpu"}-{topic}'
  record = {
    'name': name,
    'command': _command(sys.argv),
    'environment': environment,
  }
  files.write_json(results_folder.path(out_dir, name), record | fields)


def _command(argv: Sequence[str]) -> str:
  """Returns the command without --out_dir, which is a path of one machine."""
  kept, is_path = [f'benchmarks/{pathlib.Path(argv[0]).name}'], False
  for argument in argv[1:]:
    if argument.startswith('--out_dir'):
      is_path = '=' not in argument
    elif is_path:
      is_path = False
    else:
      kept.append(argument)
  return ' '.join(kept)


def describe_environment(peers: Sequence[str]) -> dict[str, Any]:
  """Returns the machine, our versions, and the versions of the peers."""
  from importlib import metadata

  from kd_jax.runtime import environment

  versions = {name: metadata.version(name) for name in peers}
  return environment.describe() | {'peers': versions}
