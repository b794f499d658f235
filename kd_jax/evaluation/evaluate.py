"""Logits of a whole split, nothing dropped, and every metric from them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from kd_jax.evaluation import metrics
from kd_jax.methods import attacks
from kd_jax.runtime import mesh
from kd_jax.training.steps import ApplyFn

PyTree = Any
# (variables, images uint8 [N, ...]) -> logits [N, K].
PredictFn = Callable[[PyTree, jax.Array], jax.Array]


def make_predict(
  apply_fn: ApplyFn,
  preprocess: Callable[[jax.Array], jax.Array],
  *,
  batch_size: int,
  num_seeds: int | None = None,
  output: Callable[[jax.Array, dict[str, jax.Array]], PyTree] | None = None,
) -> PredictFn:
  """Returns `predict(variables, images) -> logits`.

  Args:
    apply_fn: see steps.py; called with train=False.
    preprocess: from stored images to the network's input, a batch at a time.
    batch_size: examples a call; any split length is fine.
    num_seeds: if given, variables have a leading axis of that length, and so
      have the logits: [S, N, K].
    output: from logits and features to arrays [B, ...] that are predicted in
      the place of the logits.
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
  apply: Callable[[jax.Array, jax.Array], jax.Array],
  images: jax.Array,
  *,
  batch_size: int,
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
  """Returns `(indices [M], views [M]) -> logits [M, K]`, with a progress bar.

  Args:
    predict: from stored images to logits.
    apply: of an `augment.Augmentation`.
    images: [N, H, W, C] as stored.
    batch_size: examples a call.
  """
  apply = jax.jit(apply)

  def predict_views(examples: np.ndarray, views: np.ndarray) -> np.ndarray:
    starts = range(0, len(examples), batch_size)
    outputs = []
    for start in tqdm.tqdm(
      starts, 'teacher outputs of views', unit='batch', leave=False
    ):
      # The last batch goes round to be whole: one shape, one compilation.
      index = np.arange(start, start + batch_size) % len(examples)
      batch = apply(images[examples[index]], jnp.asarray(views[index]))
      outputs.append(np.asarray(predict(batch)))
    return np.concatenate(outputs)[: len(examples)]

  return predict_views


def make_features(
  predict: Callable[[jax.Array], dict[str, jax.Array]],
  images: jax.Array,
  *,
  batch_size: int,
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
  """Returns `indices [M] -> features by name [M, ...]`, with a progress bar.

  Args:
    predict: from stored images to features by name.
    images: [N, H, W, C] as stored.
    batch_size: examples a call.
  """

  def features(examples: np.ndarray) -> dict[str, np.ndarray]:
    parts = []
    for start in tqdm.tqdm(
      range(0, len(examples), batch_size),
      'teacher features',
      unit='batch',
      leave=False,
    ):
      # The last batch goes round to be whole: one shape, one compilation.
      index = np.arange(start, start + batch_size) % len(examples)
      parts.append(jax.device_get(predict(images[examples[index]])))
    return {
      name: np.concatenate([part[name] for part in parts])[: len(examples)]
      for name in parts[0]
    }

  return features


# The attack that robust accuracy is held against: the usual one on CIFAR-10.
ATTACK = {'epsilon': 8 / 255, 'step_size': 2 / 255}
ATTACK_STEPS = 20


def make_attack(
  apply_fn: ApplyFn,
  preprocess: Callable[[jax.Array], jax.Array],
  *,
  batch_size: int,
) -> Callable[[PyTree, jax.Array, jax.Array], jax.Array]:
  """Returns `attack(variables, images, labels) -> logits` of attacked images.

  Twenty steps of projected gradient descent, from the images as they are: one
  number for one network, without chance. The loop is Python's, which suits a
  CPU, and the network as it is in use.

  Args:
    apply_fn: see steps.py; called with train=False.
    preprocess: from stored images to the network's input.
    batch_size: examples a call.
  """

  def logits_fn(variables, inputs):
    return apply_fn(variables, inputs, train=False, key=None)[0]

  def ends(images):
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
      ends(images),
      **ATTACK,
    )

  preprocess_jit, logits_jit = jax.jit(preprocess), jax.jit(logits_fn)

  def attack(variables, images, labels):
    outputs, num_examples = [], images.shape[0]
    size = min(batch_size, num_examples)
    for start in tqdm.tqdm(
      range(0, num_examples, size), 'attack', unit='batch', leave=False
    ):
      # The last batch goes round to be whole: one shape, one compilation.
      index = np.arange(start, start + size) % num_examples
      batch, own_labels = images[index], labels[index]
      attacked = preprocess_jit(batch)
      for _ in range(ATTACK_STEPS):
        attacked = step(variables, attacked, batch, own_labels)
      outputs.append(logits_jit(variables, attacked))
    return jnp.concatenate(outputs)[:num_examples]

  return attack


def evaluate(
  logits: jax.Array,
  labels: jax.Array,
  teacher_logits: jax.Array | None = None,
) -> dict[str, float | int]:
  """Returns every metric of a split's logits as Python numbers.

  Args:
    logits: [N, K] of the network.
    labels: [N] int.
    teacher_logits: [N, K], or None to leave out what compares with a teacher.
  """
  values = _classification(logits, labels)
  if teacher_logits is not None:
    values = values | _fidelity(logits, teacher_logits)
  return {name: value.item() for name, value in values.items()}


def by_class(logits: jax.Array, labels: jax.Array) -> dict[str, list[int]]:
  """Returns 'errors' and 'examples' of each class, lists of K."""
  num_classes = np.shape(logits)[-1]
  labels = np.asarray(labels)
  wrong = np.argmax(logits, axis=-1) != labels
  count = lambda chosen: np.bincount(chosen, minlength=num_classes).tolist()
  return {'errors': count(labels[wrong]), 'examples': count(labels)}


def add_bias(
  logits: jax.Array, classes: Sequence[int], bias: float
) -> jax.Array:
  """Returns logits [N, K] with the bias added to those of some classes."""
  return jnp.asarray(logits).at[:, np.asarray(classes)].add(bias)


def choose_bias(
  logits: jax.Array, labels: jax.Array, classes: Sequence[int]
) -> float:
  """Returns the bias on some classes that makes the fewest errors.

  The number of errors is a step function of the bias, with a step where an
  example goes over to one of the classes. Of its lowest stretch (the one
  nearest to 0, if there are several) this is the middle; of one without an end,
  a point 1 beyond the other.

  Args:
    logits: [N, K].
    labels: [N] int.
    classes: some of the K, not all.
  """
  logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
  inside = np.isin(np.arange(logits.shape[-1]), classes)
  within = np.where(inside, logits, -np.inf)
  without = np.where(inside, -np.inf, logits)
  gain = (np.argmax(within, axis=-1) == labels).astype(int) - (
    np.argmax(without, axis=-1) == labels
  )
  # Logits are float32: steps that differ in the last bits alone are one.
  going_over = np.max(without, axis=-1) - np.max(within, axis=-1)
  steps, of_step = np.unique(np.round(going_over, 5), return_inverse=True)
  change = np.bincount(of_step, gain)
  correct = np.concatenate([[0], np.cumsum(change)])  # than at -infinity
  middles = (steps[1:] + steps[:-1]) / 2
  candidates = np.concatenate([[steps[0] - 1], middles, [steps[-1] + 1]])
  best = candidates[correct == correct.max()]
  return float(best[np.argmin(np.abs(best))])


def reliability(logits: jax.Array, labels: jax.Array) -> dict[str, list[float]]:
  """Returns the bins of the reliability diagram as lists."""
  bins = metrics.reliability(logits, labels)
  return {name: np.asarray(value).tolist() for name, value in bins.items()}


_classification = jax.jit(metrics.classification)
_fidelity = jax.jit(metrics.fidelity)
