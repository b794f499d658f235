"""The shared part of resnet_training.py's systems: table, batch, turns."""

import time
from collections.abc import Callable
from typing import Any

import harness
import numpy as np

BATCH, TEMPERATURE, RATE = 100, 4.0, 0.1
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
CHECKED_STEPS = 2
_TURN_S = 5.0  # A turn should not take longer than this.
# System: (description, most steps of a timed turn).
_CPU_SYSTEMS = {
  'ours': ('kd_jax, stored outputs', 6),
  'ours-live': ('kd_jax, live teacher', 3),
  'flax': ('plain Flax, stored outputs', 1),
  'torch-float32': ('PyTorch, stored outputs', 6),
  'torch-bfloat16': ('PyTorch bfloat16, stored outputs', 6),
  'torch-compiled-float32': ('PyTorch compiled, stored outputs', 6),
  'torch-compiled-bfloat16': ('PyTorch compiled bfloat16, stored outputs', 6),
  'torch-live-float32': ('PyTorch, live teacher', 3),
  'torch-live-compiled-float32': ('PyTorch compiled, live teacher', 3),
  'torch-live-bfloat16': ('PyTorch bfloat16, live teacher', 4),
  'torch-live-compiled-bfloat16': (
    'PyTorch compiled bfloat16, live teacher',
    4,
  ),
  'distiller-jax': ('Keras Distiller on JAX, live teacher', 2),
  'distiller-torch': ('Keras Distiller on torch, live teacher', 2),
  'torchdistill-live': ('torchdistill, live teacher', 3),
}
_GPU_SYSTEMS = {
  'ours': ('kd_jax, stored outputs', 1000),
  'ours-bfloat16': ('kd_jax bfloat16, stored outputs', 1000),
  'ours-live': ('kd_jax, live teacher', 200),
  'ours-live-bfloat16': ('kd_jax bfloat16, live teacher', 200),
  'torch-float32': ('PyTorch, stored outputs', 300),
  'torch-bfloat16': ('PyTorch bfloat16, stored outputs', 300),
  'torch-compiled-float32': ('PyTorch compiled, stored outputs', 500),
  'torch-compiled-bfloat16': ('PyTorch compiled bfloat16, stored outputs', 500),
  'torch-graph-float32': ('PyTorch, one CUDA graph, stored outputs', 1000),
  'torch-graph-bfloat16': (
    'PyTorch bfloat16, one CUDA graph, stored outputs',
    1000,
  ),
  'torch-live-float32': ('PyTorch, live teacher', 100),
  'torch-live-compiled-bfloat16': (
    'PyTorch compiled bfloat16, live teacher',
    200,
  ),
  'torch-live-graph-bfloat16': (
    'PyTorch bfloat16, one CUDA graph, live teacher',
    200,
  ),
}


def systems() -> dict[str, tuple[str, int]]:
  """Returns the systems that are compared on the device that JAX uses."""
  return _GPU_SYSTEMS if harness.on_gpu() else _CPU_SYSTEMS


def make_batch() -> dict[str, np.ndarray]:
  """Returns a random batch; times do not depend on the values.

  Returns:
    images: float32 [100, 32, 32, 3].
    labels: int32 [100].
    teacher_logits: float32 [100, 10].
  """
  rng = np.random.default_rng(0)
  return {
    'images': rng.normal(size=(BATCH, 32, 32, 3)).astype(np.float32),
    'labels': rng.integers(0, 10, BATCH).astype(np.int32),
    'teacher_logits': rng.normal(size=(BATCH, 10)).astype(np.float32),
  }


def make_system(
  name: str, take: Callable[[int], Any], check: list[float] | None
) -> harness.System:
  """Returns a system whose turns take the number of steps in the table.

  A turn takes fewer steps if they are slow: bfloat16 is 20 times slower on a
  processor without instructions for bfloat16.

  Args:
    name: the system's name; decides with which others `check` is compared.
    take: (number of steps) -> any; takes steps, and waits for the last.
    check: the losses of the first CHECKED_STEPS steps, or None.
  """
  most = count = systems()[name][1]

  def turn(case):
    nonlocal count
    del case
    began, taken = time.perf_counter(), count
    take(taken)
    seconds = time.perf_counter() - began
    fitting = int(taken * _TURN_S / seconds)
    count = max(1, min(most, fitting))
    return BATCH * taken, seconds

  return harness.System(turn, check, 'live' if 'live' in name else 'stored')
