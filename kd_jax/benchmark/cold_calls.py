"""Timing of inference by the paper's protocol, to compare with its ratios.

A fresh process calls each network once, eagerly, on the whole test split, and
takes the argmax. The teacher is called first, and nothing warms up: the cost of
an operation's first call (here, its compilation) counts as inference. Each
network has random weights, since the weights do not affect the time.

  python -m kd_jax.benchmark.cold_calls < SPEC.json   runs one of the processes
"""

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kd_jax.benchmark import timing
from kd_jax.data import preprocessing
from kd_jax.models import apply, from_config
from kd_jax.runtime import errors

_CALLS = ('first', 'second')
# Seconds that one of the processes may take; two calls take seconds.
_LIMIT_S = 1800


def measure(
  models: Mapping[str, dict[str, Any]],
  *,
  num_classes: int,
  image_shape: tuple[int, ...],
  examples: int,
  processes: int,
) -> dict[str, Any]:
  """Times the first calls of networks in fresh processes.

  Args:
    models: config sections by network, in the order of the calls. The first
      network is the reference of the ratios.
    num_classes: K.
    image_shape: [H, W, C].
    examples: images per call.
    processes: number of fresh processes.
  Returns:
    For each network, the quartiles over processes of the seconds of the first
    and of the second call, and of the ratios reference / network of both. The
    second call does not repeat the one-time costs of the first.
  """
  spec = {
    'models': dict(models),
    'num_classes': num_classes,
    'image_shape': list(image_shape),
    'examples': examples,
  }
  runs = [_call_each_in_fresh_process(spec) for _ in range(processes)]
  reference = next(iter(models))
  results: dict[str, dict[str, Any]] = {}
  for name in models:
    results[name] = {}
    for call in _CALLS:
      seconds = [run[name][call] for run in runs]
      ratios = [run[reference][call] / run[name][call] for run in runs]
      results[name][f'{call}_call_s'] = timing.quartiles(seconds)
      results[name][f'{call}_call_ratio'] = timing.quartiles(ratios)
  return results


def _call_each_in_fresh_process(
  spec: dict[str, Any],
) -> dict[str, dict[str, float]]:
  """Returns `call_each(spec)`, computed in a fresh process.

  Raises:
    UserError: if the process fails, or does not end.
  """
  try:
    output = subprocess.run(
      [sys.executable, '-m', 'kd_jax.benchmark.cold_calls'],
      input=json.dumps(spec),
      cwd=pathlib.Path(__file__).resolve().parents[2],
      capture_output=True,
      text=True,
      check=True,
      timeout=_LIMIT_S,
    ).stdout
  except subprocess.CalledProcessError as error:
    lines = error.stderr.strip().splitlines() or ['perhaps for lack of memory']
    reason = f'exit status {error.returncode}: {lines[-1][:300]}'
  except subprocess.TimeoutExpired:
    reason = f'it did not end within {_LIMIT_S} s'
  else:
    return json.loads(output.splitlines()[-1])
  raise errors.UserError(
    f'a process that times the first calls failed ({reason}): the trained '
    'students are kept, and the same command goes on here; '
    'config.benchmark.cold_calls=0 leaves these timings out'
  )


def call_each(spec: dict[str, Any]) -> dict[str, dict[str, float]]:
  """Times the first and the second eager call of each network.

  Args:
    spec: JSON values: 'models', 'num_classes', 'image_shape' and 'examples', as
      in `measure`.
  Returns:
    The seconds by network and call ('first', 'second').
  """
  shape = (spec['examples'], *spec['image_shape'])
  pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  made = {
    name: _make_network(fields, spec) for name, fields in spec['models'].items()
  }
  images = jax.block_until_ready(preprocessing.unit(jnp.asarray(pixels)))
  seconds: dict[str, dict[str, float]] = {}
  for name, (module, variables) in made.items():
    seconds[name] = {}
    for call in _CALLS:
      start = time.perf_counter()
      logits, _ = module.apply(variables, images, train=False)
      jax.block_until_ready(jnp.argmax(logits, axis=-1))
      seconds[name][call] = timing.since(start)
  return seconds


def _make_network(
  fields: dict[str, Any], spec: dict[str, Any]
) -> tuple[nn.Module, Any]:
  """Returns the module of a config section, and random variables for it."""
  module = from_config.make_module(ConfigDict(fields), spec['num_classes'])
  variables = apply.init_variables(
    module, tuple(spec['image_shape']), jax.random.key(0)
  )
  return module, jax.block_until_ready(variables)


if __name__ == '__main__':
  print(json.dumps(call_each(json.load(sys.stdin))))
