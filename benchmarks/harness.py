"""The options, processes and records that all benchmarks share.

A benchmark's script also starts its workers: it calls `serve` if the command
line has --worker, and `comparison.compare` otherwise.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, NamedTuple

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
# Lines of standard error that are shown of a process that ended early.
_SHOWN_LINES = 20
_REASON_LENGTH = 200  # Characters of a reason in a record.


def make_parser(
  about: str, *, rounds: int, systems: Sequence[str] = ()
) -> argparse.ArgumentParser:
  """Returns a parser with the options that all benchmarks share.

  Args:
    about: the benchmark's docstring.
    rounds: the default number of rounds.
    systems: the systems that --systems can pick; no --systems if there are
      none.
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
  if systems:
    parser.add_argument(
      '--systems',
      nargs='*',
      default=(),
      metavar='SYSTEM',
      help=f'the systems that are compared, besides {next(iter(systems))}; '
      f'default all: {", ".join(systems)}',
    )
  return parser


def select_systems(
  systems: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
  """Returns the named systems, or all systems if no name is given.

  The first system is always included, because the others are compared with it.

  Args:
    systems: all systems of a benchmark, by name.
    names: the chosen names.
  Raises:
    SystemExit: If a name is unknown.
  """
  unknown = [name for name in names if name not in systems]
  if unknown:
    sys.exit(
      f'--systems: unknown: {", ".join(unknown)}; known: {", ".join(systems)}'
    )
  kept = {next(iter(systems)), *names} if names else set(systems)
  return {name: about for name, about in systems.items() if name in kept}


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


class SystemFailed(Exception):
  """A system's process ended early; the message is the reason."""


def _why_ended(code: int, errors: str) -> str:
  """Returns why a process ended, in one line without paths.

  Args:
    code: the exit code of the process.
    errors: what the process wrote to standard error.
  """
  lines = [line for line in errors.splitlines() if line.strip()]
  print('\n'.join(lines[-_SHOWN_LINES:]), file=sys.stderr, flush=True)
  if code < 0:
    return f'killed by signal {-code}'
  if code == 0 or not lines:
    return f'ended early with exit code {code}'
  return re.sub(r'(/[\w.+@-]+)+/', '', lines[-1].strip())[:_REASON_LENGTH]


class Worker:
  """A process that runs one system and answers requests, see `serve`."""

  def __init__(
    self, script: str, system: str, environment: Mapping[str, str] | None = None
  ):
    self._errors: IO[str] = tempfile.TemporaryFile('w+', errors='replace')
    self._process = subprocess.Popen(
      [sys.executable, script, f'--worker={system}'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
      env=os.environ | _KEPT_MEMORY | dict(environment or {}),
    )
    assert self._process.stdin is not None  # Both are pipes.
    assert self._process.stdout is not None
    self._requests, self._answers = self._process.stdin, self._process.stdout

  def answer(self) -> Any:
    """Returns the next answer, and skips output that is not JSON.

    Raises:
      SystemFailed: If the process ended.
    """
    for line in self._answers:
      try:
        return json.loads(line)
      except json.JSONDecodeError:
        continue
    code = self._process.wait()
    self._errors.seek(0)
    reason = _why_ended(code, self._errors.read())
    self.close()
    raise SystemFailed(reason)

  def ask(self, request: str) -> Any:
    """Sends a request and returns its answer.

    Raises:
      SystemFailed: If the process ended.
    """
    with contextlib.suppress(BrokenPipeError):  # `answer` says why.
      self._requests.write(f'{request}\n')
      self._requests.flush()
    return self.answer()

  def close(self) -> None:
    """Ends the process and waits for its end."""
    with contextlib.suppress(BrokenPipeError):
      self._requests.close()
    self._process.wait()
    self._answers.close()
    self._errors.close()


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
  Raises:
    SystemFailed: If the process failed.
  """
  done = subprocess.run(
    [sys.executable, script, *args],
    env=os.environ | _KEPT_MEMORY | dict(environment or {}),
    capture_output=True,
    text=True,
  )
  if done.returncode or not done.stdout.strip():
    raise SystemFailed(_why_ended(done.returncode, done.stderr))
  return json.loads(done.stdout.splitlines()[-1])


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
  """Returns the machine, our versions, and the versions of the peers.

  The version of a peer that is not installed is None.
  """
  from importlib import metadata

  from kd_jax.runtime import environment

  versions: dict[str, str | None] = {}
  for name in peers:
    try:
      versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      versions[name] = None
  return environment.describe() | {'peers': versions}
