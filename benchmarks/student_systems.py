"""The shared part of student_training.py's systems: table, weights, data."""

from collections.abc import Callable
from typing import NamedTuple

import harness  # noqa: F401  (adds the project to the import path)
import numpy as np

HIDDEN, BATCH, TEMPERATURE, RATE = 300, 32, 3.5, 1e-3
TEACHER_TEMPERATURE = 3.5
CHECKED_STEPS = 10
# System: (description, Keras backend, examples of a timed turn).
SYSTEMS = {
  'ours': ('kd_jax, stored outputs', None, 60_000),
  'ours-live': ('kd_jax, live teacher', None, 4_800),
  'keras-jax': ('Keras fit on JAX, stored outputs', 'jax', 60_000),
  'keras-torch': ('Keras fit on torch, stored outputs', 'torch', 30_016),
  'torch': ('PyTorch, stored outputs', None, 60_000),
  'torch-compiled': ('PyTorch compiled, stored outputs', None, 60_000),
  'torch-bfloat16': ('PyTorch bfloat16, stored outputs', None, 30_016),
  'torch-compiled-bfloat16': (
    'PyTorch compiled bfloat16, stored outputs',
    None,
    30_016,
  ),
  'torch-live': ('PyTorch, live teacher', None, 4_800),
  'torch-live-compiled': ('PyTorch compiled, live teacher', None, 4_800),
  'torch-live-bfloat16': ('PyTorch bfloat16, live teacher', None, 1_600),
  'torch-live-compiled-bfloat16': (
    'PyTorch compiled bfloat16, live teacher',
    None,
    1_600,
  ),
  'distiller-jax': ('Keras Distiller on JAX, live teacher', 'jax', 4_800),
  'distiller-torch': ('Keras Distiller on torch, live teacher', 'torch', 4_800),
  'torchdistill-live': ('torchdistill, live teacher', None, 4_800),
}


class Trainer(NamedTuple):
  """A system that trains the student.

  Attributes:
    losses: the losses of the first CHECKED_STEPS steps; None if the loss
      cannot be compared with those of other systems.
    train: (number of examples) -> seconds of training on that many examples.
  """

  losses: list[float] | None
  train: Callable[[int], float]


def make_weights() -> list[np.ndarray]:
  """Returns the student's first weights, the same in every process.

  Returns:
    Kernel [784, 300], bias [300], kernel [300, 10], bias [10]; the kernels are
    Glorot-uniform, the biases zero.
  """
  rng = np.random.default_rng(0)
  weights = []
  for inputs, outputs in ((784, HIDDEN), (HIDDEN, 10)):
    limit = np.sqrt(6 / (inputs + outputs))
    weights.append(rng.uniform(-limit, limit, (inputs, outputs)))
    weights.append(np.zeros(outputs))
  return [array.astype(np.float32) for array in weights]


def make_teacher_weights() -> list[np.ndarray]:
  """Returns the teacher's weights, the same in every process.

  Returns:
    Kernel and bias of each layer: a convolution [3, 3, 1, 32] and three dense
    layers [inputs, outputs], the first of them over flattened [H, W, C] maps.
  """
  rng = np.random.default_rng(2)
  weights = []
  for shape in ((3, 3, 1, 32), (26 * 26 * 32, 1200), (1200, 1200), (1200, 10)):
    # With this scale the outputs differ clearly between images.
    weights.append(rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1])))
    weights.append(np.zeros(shape[-1]))
  return [array.astype(np.float32) for array in weights]


def load_arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns MNIST's training images and labels, and made-up teacher logits.

  Times do not depend on the logits. They favor the true class, with noise.

  Returns:
    images: uint8 [N, 28, 28, 1].
    labels: integers [N].
    logits: float32 [N, 10].
  """
  from kd_jax import data

  train = data.load('mnist').train
  assert isinstance(train, data.Split)  # In memory, not on disk.
  noise = np.random.default_rng(1).normal(size=(len(train.labels), 10))
  logits = (4 * np.eye(10)[train.labels] + noise).astype(np.float32)
  return np.asarray(train.images), np.asarray(train.labels), logits


def softmax(logits: np.ndarray) -> np.ndarray:
  """Returns the softmax over the last axis."""
  exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return exp / exp.sum(axis=-1, keepdims=True)
