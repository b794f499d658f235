"""Runs a network over a whole split; no example is dropped."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.methods import attacks
from kd_jax.models.apply import ApplyFn
from kd_jax.runtime import bars, mesh

PyTree = Any
# predict(variables, images uint8 [N, H, W, C]) -> logits [N, K].
PredictFn = Callable[[PyTree, Any], jax.Array]
# attack(variables, images uint8 [N, H, W, C], labels [N]) -> logits [N, K].
AttackFn = Callable[[PyTree, Any, jax.Array | np.ndarray], jax.Array]


def make_batched_predict(
  apply_fn: ApplyFn,
  preprocess: Callable[[jax.Array], jax.Array],
  *,
  batch_size: int,
  num_seeds: int | None = None,
  output: Callable[[jax.Array, dict[str, jax.Array]], PyTree] | None = None,
) -> Callable[[PyTree, Any], PyTree]:
  """Returns `predict(variables, images) -> logits`.

  Args:
    apply_fn: the network; called with train=False.
    preprocess: maps a batch of stored images to the network's input.
    batch_size: examples per call; a split may have any length.
    num_seeds: S, for variables with a leading axis of S networks. The logits
      are then [S, N, K].
    output: maps (logits, features) to the arrays [B, ...] that `predict`
      returns instead of the logits.
  """
  axis = 0 if num_seeds is None else 1

  def forward(variables, images):
    images = mesh.shard(images)
    logits, features, _ = apply_fn(
      variables, preprocess(images), train=False, key=None
    )
    return mesh.replicate(
      logits if output is None else output(logits, features)
    )

  if num_seeds is not None:
    forward = jax.vmap(forward, in_axes=(0, None))
  forward = jax.jit(forward)

  def predict(variables, images):
    num_examples = images.shape[0]
    size = min(batch_size, num_examples)
    outputs = []
    for start in range(0, num_examples, size):
      # The last batch reaches back to be whole: one shape, one compilation.
      first = min(start, num_examples - size)
      batch = (
        jax.lax.dynamic_slice_in_dim(images, first, size)
        if isinstance(images, jax.Array)
        else mesh.put_examples(images, first, size)
      )
      part = forward(variables, batch)
      new = lambda leaf, seen=start - first: jax.lax.slice_in_dim(
        leaf, seen, size, axis=axis
      )
      outputs.append(jax.tree.map(new, part))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis), *outputs)

  return predict


def make_predict_views(
  predict: Callable[[jax.Array], jax.Array],
  apply_views: Callable[[jax.Array, jax.Array], jax.Array],
  images: Any,
  *,
  batch_size: int,
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
  """Returns `(indices [M], views [M]) -> logits [M, K]`, with a progress bar.

  Args:
    predict: maps stored images to logits.
    apply_views: `Augmentation.apply`, see data/augmentation.py.
    images: uint8 [N, H, W, C], as stored.
    batch_size: examples per call.
  """
  apply_views = jax.jit(apply_views)

  def predict_views(indices: np.ndarray, views: np.ndarray) -> np.ndarray:
    outputs = []
    for index in _whole_batches(
      len(indices), batch_size, 'teacher outputs of views'
    ):
      batch = apply_views(images[indices[index]], jnp.asarray(views[index]))
      outputs.append(np.asarray(predict(batch)))
    return np.concatenate(outputs)[: len(indices)]

  return predict_views


def make_predict_features(
  predict: Callable[[jax.Array], dict[str, jax.Array]],
  images: Any,
  *,
  batch_size: int,
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
  """Returns `indices [M] -> features by layer [M, ...]`, with a progress bar.

  Args:
    predict: maps stored images to features by layer.
    images: uint8 [N, H, W, C], as stored.
    batch_size: examples per call.
  """

  def predict_features(indices: np.ndarray) -> dict[str, np.ndarray]:
    parts = [
      jax.device_get(predict(images[indices[index]]))
      for index in _whole_batches(len(indices), batch_size, 'teacher features')
    ]
    return {
      layer: np.concatenate([part[layer] for part in parts])[: len(indices)]
      for layer in parts[0]
    }

  return predict_features


def _whole_batches(num_examples: int, batch_size: int, label: str):
  """Yields positions [batch_size] of each batch, with a progress bar.

  The last batch wraps around to be whole: one shape, one compilation. The
  caller cuts the surplus off.
  """
  starts = range(0, num_examples, batch_size)
  for start in bars.make(starts, desc=label, unit='batch'):
    yield np.arange(start, start + batch_size) % num_examples


# The usual attack on CIFAR-10, by which robust accuracy is compared. Both
# values are shares of the range of a pixel.
ATTACK = {'epsilon': 8 / 255, 'step_size': 2 / 255}
ATTACK_STEPS = 20


def make_batched_attack(
  apply_fn: ApplyFn,
  preprocess: Callable[[jax.Array], jax.Array],
  *,
  batch_size: int,
) -> AttackFn:
  """Returns `attack(variables, images, labels) -> logits` of attacked images.

  The attack takes 20 steps of projected gradient descent and starts at the
  images themselves, so that a network's robust accuracy involves no chance.
  Python loops over the steps, which is faster on a CPU than a compiled loop.

  Args:
    apply_fn: the network; called with train=False.
    preprocess: maps stored images to the network's input.
    batch_size: examples per call.
  """

  def logits_fn(variables, inputs):
    return apply_fn(variables, inputs, train=False, key=None)[0]

  def image_range(images):
    pixel = (1, *(1,) * (images.ndim - 2), images.shape[-1])
    return tuple(
      preprocess(jnp.full(pixel, value, jnp.uint8)) for value in (0, 255)
    )

  @jax.jit
  def step(variables, attacked, images, labels):
    return attacks.pgd_step(
      functools.partial(logits_fn, variables),
      attacked,
      preprocess(images),
      labels,
      image_range(images),
      **ATTACK,
    )

  preprocess_jit, logits_jit = jax.jit(preprocess), jax.jit(logits_fn)

  def attack(variables, images, labels):
    num_examples = images.shape[0]
    size = min(batch_size, num_examples)
    outputs = []
    for index in _whole_batches(num_examples, size, 'attack'):
      batch, batch_labels = images[index], labels[index]
      attacked = preprocess_jit(batch)
      for _ in range(ATTACK_STEPS):
        attacked = step(variables, attacked, batch, batch_labels)
      outputs.append(logits_jit(variables, attacked))
    return jnp.concatenate(outputs)[:num_examples]

  return attack
