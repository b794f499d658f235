"""Systems that take turns: each in a process of its own, timed round by round.

A benchmark's `__main__` calls `worker` if it was started as one, and `compare`
otherwise.
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
# Systems import the project from here, whatever the folder they start in.
sys.path.insert(0, str(ROOT))
# Of an NVIDIA GPU's memory: as it is needed, as several systems share it.
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')


# As `kd_jax.host_memory` has it of our processes, for all alike: it is 15 to
# 25 % of a ResNet's step, whoever takes it.
_KEPT_MEMORY = {
  'MALLOC_TRIM_THRESHOLD_': '-1',
  'MALLOC_MMAP_MAX_': '0',
  'MALLOC_ARENA_MAX': '1',
}


def parser(about: str, *, rounds: int) -> argparse.ArgumentParser:
  """Returns the command line that benchmarks share.

  Args:
    about: the benchmark's docstring.
    rounds: how many there are by default.
  """
  own = argparse.ArgumentParser(description=about.splitlines()[0])
  own.add_argument(
    '--rounds', type=int, default=rounds, help=f'of turns; {rounds}'
  )
  own.add_argument(
    '--out_dir',
    type=pathlib.Path,
    default=ROOT / 'results',
    help='for the record; results/ by default',
  )
  own.add_argument('--worker', help=argparse.SUPPRESS)
  return own


def chosen(systems: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
  """Returns the systems of these names, all if there are none.

  Raises:
    SystemExit: if a name is of none, or ours is not the first.
  """
  unknown = [name for name in names if name not in systems]
  if unknown or (names and names[0] != 'ours'):
    sys.exit(
      f'--systems: {", ".join(unknown) or names[0]} is not known, or comes '
      f'before ours, which is the first; known: {", ".join(systems)}'
    )
  return {name: systems[name] for name in names or systems}


def on_gpu() -> bool:
  """Whether JAX computes on a GPU here; then PyTorch is to, as well."""
  import jax

  return jax.default_backend() == 'gpu'


def torch_device() -> str:
  """Returns 'cuda' or 'cpu': what JAX has, so that all compute on one thing.

  Raises:
    RuntimeError: if PyTorch has no GPU where JAX has one.
  """
  import torch

  if not on_gpu():
    return 'cpu'
  if not torch.cuda.is_available():
    raise RuntimeError(
      'JAX computes on a GPU that this PyTorch cannot use: install its CUDA '
      'build, or set JAX_PLATFORMS=cpu'
    )
  # Ten bits of a product's factors, which is JAX's own default.
  torch.set_float32_matmul_precision('high')
  torch.backends.cudnn.benchmark = True
  return 'cuda'


class System(NamedTuple):
  """What takes turns.

  Attributes:
    turn: takes a case, such as a batch size; does some work of that, and
      returns the examples done and the seconds taken.
    check: what must equal the others' before any timing, such as the losses of
      the first steps; None if there is nothing to compare.
    group: of the systems whose checks are compared with each other.
  """

  turn: Callable[[str], tuple[int, float]]
  check: list[float] | None = None
  group: str = ''


def worker(
  make: Callable[[], System],
  cases: Sequence[str],
  limits: Callable[[], dict[str, float]] | None = None,
) -> None:
  """Answers each line of input: a case to time, or 'limits'.

  Args:
    make: a system.
    cases: warmed up first.
    limits: measures what the machine can do, by this system's library.
  """
  system = make()
  for case in cases:
    system.turn(case)  # compiles, and warms up
  own = {'check': system.check, 'group': system.group}
  print(json.dumps(own), flush=True)
  for line in sys.stdin:
    request = line.strip()
    answer = limits() if request == 'limits' else system.turn(request)
    print(json.dumps(answer), flush=True)


def repeat(
  call: Callable[[], Any],
  examples: int,
  *,
  seconds: float = 0.2,
  enough: float = 5.0,
) -> tuple[int, float]:
  """Calls as often as fits: a turn of `System`.

  Args:
    call: done when it returns.
    examples: of a call.
    seconds: to fill, with three calls at least,
    enough: but no more calls once these have passed.
  """
  began = time.perf_counter()
  count, taken = 0, 0.0
  while taken < seconds or (count < 3 and taken < enough):
    call()
    count += 1
    taken = time.perf_counter() - began
  return count * examples, taken


class Worker:
  """A system in a process of its own."""

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

  def answer(self) -> Any:
    """Returns the next answer; whatever else is printed is passed over."""
    for line in self._process.stdout:
      try:
        return json.loads(line)
      except json.JSONDecodeError:
        continue
    raise RuntimeError(f'a worker died: {self._process.args}')

  def ask(self, request: str) -> Any:
    """Sends a request and returns its answer."""
    self._process.stdin.write(f'{request}\n')
    self._process.stdin.flush()
    return self.answer()

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait()


def compare(
  starters: Mapping[str, Callable[[], Worker]],
  cases: Sequence[str],
  *,
  rounds: int,
  limits_of: Sequence[str],
  rtol: float,
  atol: float = 0.0,
) -> dict[str, Any]:
  """Lets systems take turns.

  Args:
    starters: of the workers, by name; the first is ours.
    cases: each system has a turn for each of them in every round.
    rounds: of turns.
    limits_of: systems whose libraries measure what the machine can do.
    rtol, atol: of what must be equal before.
  Returns:
    JSON values. 'cases': for each case and system its 'examples_per_s',
    'ours_over_it' and, if there is a system 'ours-live', 'live_over_it', round
    by round (quartiles of each). 'limits': quartiles of what each library of
    `limits_of` measured, in the same rounds. 'checks': of each system, as
    compared.
  """
  from kd_jax.benchmark import timing

  ours = next(iter(starters))
  workers, checks, first_of = {}, {}, {}
  for name, start in starters.items():  # one by one, to warm up undisturbed
    workers[name] = start()
    ready = workers[name].answer()
    checks[name] = ready['check']
    if checks[name] is not None:
      first = first_of.setdefault(ready['group'], checks[name])
      np.testing.assert_allclose(
        checks[name], first, rtol=rtol, atol=atol, err_msg=name
      )
    print(f'{name}: ready', flush=True)
  rates = {case: {name: [] for name in workers} for case in cases}
  limits: dict[str, list[dict[str, float]]] = {name: [] for name in limits_of}
  for done in range(rounds):
    # In an order of its own, so that none always follows the same.
    order = random.Random(done).sample(list(workers), len(workers))
    for case in cases:
      for name in order:
        time.sleep(0.3)  # the last one's threads go to sleep
        examples, seconds = workers[name].ask(case)
        rates[case][name].append(examples / seconds)
        print(
          f'{case} {name}: {examples / seconds:,.1f} examples/s', flush=True
        )
    for name, measured in limits.items():
      time.sleep(0.3)
      measured.append(workers[name].ask('limits'))
  for own in workers.values():
    own.close()
  references = {'ours_over_it': ours}
  if 'ours-live' in workers:
    references['live_over_it'] = 'ours-live'
  return {
    'cases': {
      case: {
        name: {
          'examples_per_s': timing.quartiles(own),
        }
        | {
          over: timing.quartiles(np.divide(by_name[reference], own))
          for over, reference in references.items()
        }
        for name, own in by_name.items()
      }
      for case, by_name in rates.items()
    },
    'limits': {
      name: {
        what: timing.quartiles([own[what] for own in measured])
        for what in measured[0]
      }
      for name, measured in limits.items()
    },
    'checks': checks,
  }


def in_process(
  script: str, *args: str, environment: Mapping[str, str] | None = None
) -> Any:
  """Returns the JSON in a script's last line, run in a process of its own."""
  output = subprocess.run(
    [sys.executable, script, *args],
    env=os.environ | _KEPT_MEMORY | dict(environment or {}),
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  ).stdout
  return json.loads(output.splitlines()[-1])


def write(
  out_dir: pathlib.Path, what: str, *, peers: Sequence[str] = (), **fields
) -> None:
  """Writes a benchmark's record, with its name, command and environment.

  Its name says what computed, as in bench-avx2-serving: records of different
  machines are not to be mistaken for each other.

  Args:
    out_dir: for the file.
    what: was measured.
    peers: packages whose versions count, too.
    fields: of the record.
  """
  from kd_jax.runtime import environment, files

  own = environment(peers)
  width = own['instructions'].partition(',')[0].replace('-', '').lower()
  name = f'bench-{"gpu" if on_gpu() else width or "cpu"}-{what}'
  record = {'name': name, 'command': _command(sys.argv), 'environment': own}
  files.write_json(out_dir / f'{name}.json', record | fields)


def add_shares(
  results: dict[str, Any],
  work: Callable[[str, str], tuple[float, float]],
) -> None:
  """Adds to each system of `compare` the share of the machine's limit.

  The limit is what the fastest product and the fastest copy of any library
  leave; of systems of bfloat16, products of bfloat16, if the machine has
  instructions for them.

  Args:
    results: of `compare`.
    work: (case, system) -> operations and bytes of an example.
  """
  limits = results['limits'].values()

  def best(what: str) -> float | None:
    known = [own[what]['median'] for own in limits if what in own]
    return 1e9 * max(known) if known else None

  bandwidth = best('memory_gb_per_s')
  for case, systems in results['cases'].items():
    for name, own in systems.items():
      rate = best(
        'product_bfloat16_gflops' if 'bfloat16' in name else 'product_gflops'
      )
      if rate is not None:
        operations, num_bytes = work(case, name)
        floor = max(operations / rate, num_bytes / bandwidth)
        own['share_of_limit'] = own['examples_per_s']['median'] * floor


def _command(argv: Sequence[str]) -> str:
  """Returns the command, less --out_dir: a machine's own path."""
  kept, is_path = [f'benchmarks/{pathlib.Path(argv[0]).name}'], False
  for argument in argv[1:]:
    if argument.startswith('--out_dir'):
      is_path = '=' not in argument
    elif is_path:
      is_path = False
    else:
      kept.append(argument)
  return ' '.join(kept)


def environment(peers: Sequence[str]) -> dict[str, Any]:
  """Returns where this runs, and the versions of the peers."""
  from importlib import metadata

  from kd_jax.runtime import environment

  versions = {name: metadata.version(name) for name in peers}
  return environment.describe() | {'peers': versions}


_SIZE, _GPU_SIZE = 2048, 8192  # of a matrix
_MEBI = 2**20  # floats of a vector: 4 MiB, times 64 as used


def _median_seconds(call: Callable[[], Any]) -> float:
  call()
  seconds = []
  for _ in range(5):
    began = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - began)
  return float(np.median(seconds))


def _limits(size: int, products_s: dict[str, float], copy_s: float):
  return {
    f'product{kind}_gflops': 2 * size**3 / seconds / 1e9
    for kind, seconds in products_s.items()
  } | {'memory_gb_per_s': 2 * 64 * 4 * _MEBI / copy_s / 1e9}


def _kinds() -> dict[str, str]:
  """Returns the types whose products are measured, by how they are named."""
  from kd_jax.runtime import environment

  kinds = {'': 'float32'}
  if on_gpu() or 'bfloat16' in environment.describe()['instructions']:
    kinds['_bfloat16'] = 'bfloat16'
  return kinds


def jax_limits() -> dict[str, float]:
  """Returns GFLOP/s of matrix products, and GB/s of a large copy."""
  import jax
  import jax.numpy as jnp

  size = _GPU_SIZE if on_gpu() else _SIZE
  matrix = jax.random.normal(jax.random.key(0), (size, size))
  matrices = {kind: matrix.astype(dtype) for kind, dtype in _kinds().items()}
  vector = jnp.ones(64 * _MEBI)
  product, scale = jax.jit(jnp.matmul), jax.jit(lambda x: 2 * x)
  return _limits(
    size,
    {
      kind: _median_seconds(
        lambda own=own: product(own, own).block_until_ready()
      )
      for kind, own in matrices.items()
    },
    _median_seconds(lambda: scale(vector).block_until_ready()),
  )


def torch_limits() -> dict[str, float]:
  """Returns the same by PyTorch."""
  import torch

  device = torch_device()
  size = _SIZE if device == 'cpu' else _GPU_SIZE
  matrix = torch.randn(size, size, device=device)
  matrices = {
    kind: matrix.to(getattr(torch, dtype)) for kind, dtype in _kinds().items()
  }
  results = {kind: torch.empty_like(own) for kind, own in matrices.items()}
  vector = torch.ones(64 * _MEBI, device=device)
  scaled = torch.empty_like(vector)

  def done(call):
    call()
    if device == 'cuda':
      torch.cuda.synchronize()

  return _limits(
    size,
    {
      kind: _median_seconds(
        lambda kind=kind, own=own: done(
          lambda: torch.matmul(own, own, out=results[kind])
        )
      )
      for kind, own in matrices.items()
    },
    _median_seconds(lambda: done(lambda: torch.mul(vector, 2, out=scaled))),
  )
