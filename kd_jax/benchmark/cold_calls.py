"""The paper's way of timing inference, so that its ratios can be met.

One eager call on the whole test split and the argmax of it, the teacher first,
without a warm-up, in a fresh process: whatever the first call of an operation
costs (here, its compilation) counts as inference. The weights do not matter to
the time, so each network has random ones.

  python -m kd_jax.benchmark.cold_calls < SPEC.json   is one such process
"""

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kd_jax.benchmark import timing
from kd_jax.data import preprocessing
from kd_jax.training import build


def measure(
  models: Mapping[str, dict[str, Any]],
  *,
  num_classes: int,
  image_shape: tuple[int, ...],
  examples: int,
  processes: int,
) -> dict[str, Any]:
  """Times first calls, in so many fresh processes.

  Args:
    models: config sections by name, in the order of the calls; the first is
      the reference of the ratios.
    num_classes: K.
    image_shape: (H, W, C).
    examples: a call.
    processes: repetitions.
  Returns:
    For each network the quartiles of the first call's and of a second call's
    seconds (the second shows what the first paid once), and of both ratios.
  """
  spec = {
    'models': dict(models),
    'num_classes': num_classes,
    'image_shape': list(image_shape),
    'examples': examples,
  }
  runs = [_in_fresh_process(spec) for _ in range(processes)]
  reference = next(iter(models))
  results = {}
  for name in models:
    results[name] = {}
    for call in ('first', 'second'):
      seconds = [run[name][call] for run in runs]
      ratios = [run[reference][call] / run[name][call] for run in runs]
      results[name][f'{call}_call_s'] = timing.quartiles(seconds)
      results[name][f'{call}_call_ratio'] = timing.quartiles(ratios)
  return results


def _in_fresh_process(spec: dict[str, Any]) -> dict[str, dict[str, float]]:
  output = subprocess.run(
    [sys.executable, '-m', 'kd_jax.benchmark.cold_calls'],
    input=json.dumps(spec),
    cwd=pathlib.Path(__file__).resolve().parents[2],
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  return json.loads(output.splitlines()[-1])


def call_each(spec: dict[str, Any]) -> dict[str, dict[str, float]]:
  """Returns the seconds of each network's first and second eager call."""
  shape = (spec['examples'], *spec['image_shape'])
  pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  networks = {}
  for name, fields in spec['models'].items():
    module = build.model(ConfigDict(fields), spec['num_classes'])
    variables = build.init_variables(
      module, tuple(spec['image_shape']), jax.random.key(0)
    )
    networks[name] = module, jax.block_until_ready(variables)
  images = jax.block_until_ready(preprocessing.unit(jnp.asarray(pixels)))
  seconds = {}
  for name, (module, variables) in networks.items():
    seconds[name] = {}
    for call in ('first', 'second'):
      began = time.perf_counter()
      logits, _ = module.apply(variables, images, train=False)
      jax.block_until_ready(jnp.argmax(logits, axis=-1))
      seconds[name][call] = time.perf_counter() - began
  return seconds


if __name__ == '__main__':
  print(json.dumps(call_each(json.load(sys.stdin))))
