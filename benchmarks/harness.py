"""Systems that take turns: each in a process of its own, timed round by round.

A benchmark's `__main__` calls `worker` if it was started as one, and `compare`
otherwise.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Systems import the project from here, whatever the folder they start in.
sys.path.insert(0, str(ROOT))

# What a system's maker returns: its losses on the first steps, to be compared
# with the others' (None if they cannot be), and a function of examples that
# trains or predicts on so many and returns the seconds taken.
System = tuple[list[float] | None, Callable[[int], float]]


def worker(make: Callable[[], System], examples: int) -> None:
  """Answers each line of input: examples to time, or 'rate'."""
  losses, run = make()
  run(examples)  # compiles, and warms up
  print(json.dumps({'losses': losses}), flush=True)
  for line in sys.stdin:
    if line.strip() == 'rate':
      print(json.dumps(matrix_product_rate()), flush=True)
    else:
      print(json.dumps(run(examples)), flush=True)


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
      env=os.environ | dict(environment or {}),
    )

  def answer(self) -> Any:
    """Returns the next answer; whatever else is printed is passed over."""
    for line in self._process.stdout:
      try:
        return json.loads(line)
      except json.JSONDecodeError:
        continue
    raise RuntimeError(f'a worker died: {self._process.args}')

  def ask(self, request: str = 'time') -> Any:
    """Sends a request and returns its answer."""
    self._process.stdin.write(f'{request}\n')
    self._process.stdin.flush()
    return self.answer()

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait()


def compare(
  starters: Mapping[str, Callable[[], Worker]],
  examples: Mapping[str, int],
  *,
  rounds: int,
  tolerance: float,
) -> dict[str, Any]:
  """Lets systems take turns.

  Args:
    starters: of the workers, by name; the first is ours.
    examples: of a timed turn, by name.
    rounds: of turns.
    tolerance: relative, on the losses of the first steps.
  Returns:
    JSON values: for each system its 'examples_per_s', 'ours_over_it' round by
    round (quartiles of both) and 'first_losses'; 'matrix_product_gflops' is
    that of this machine, in the same rounds.
  """
  from kd_jax import timing

  ours = next(iter(starters))
  workers, losses = {}, {}
  for name, start in starters.items():  # one by one, to warm up undisturbed
    workers[name] = start()
    losses[name] = workers[name].answer()['losses']
    if losses[name] is not None and losses[ours] is not None:
      np.testing.assert_allclose(
        losses[name], losses[ours], rtol=tolerance, err_msg=name
      )
    print(f'{name}: ready', flush=True)
  rates: dict[str, list[float]] = {name: [] for name in workers}
  products = []
  for _ in range(rounds):
    for name, own in workers.items():
      time.sleep(0.5)  # the last one's threads go to sleep
      rates[name].append(examples[name] / own.ask())
      print(f'{name}: {rates[name][-1]:,.1f} examples/s', flush=True)
    products.append(workers[ours].ask('rate'))
  for own in workers.values():
    own.close()
  return {
    'systems': {
      name: {
        'examples': examples[name],
        'examples_per_s': timing.quartiles(rates[name]),
        'ours_over_it': timing.quartiles(
          np.array(rates[ours]) / np.array(rates[name])
        ),
        'first_losses': losses[name],
      }
      for name in workers
    },
    'matrix_product_gflops': timing.quartiles(products),
  }


def environment(peers: Sequence[str]) -> dict[str, Any]:
  """Returns where this runs, and the versions of the peers."""
  from importlib import metadata

  from kd_jax import records

  versions = {name: metadata.version(name) for name in peers}
  return records.environment() | {'peers': versions}


def matrix_product_rate() -> float:
  """Returns GFLOP/s of a large float32 matrix product in JAX."""
  import jax
  import jax.numpy as jnp

  size = 2048
  a = jax.random.normal(jax.random.key(0), (size, size))
  product = jax.jit(jnp.matmul)
  product(a, a).block_until_ready()
  seconds = []
  for _ in range(5):
    began = time.perf_counter()
    product(a, a).block_until_ready()
    seconds.append(time.perf_counter() - began)
  return 2 * size**3 / np.median(seconds) / 1e9
