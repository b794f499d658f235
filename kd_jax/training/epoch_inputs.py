"""The inputs of an epoch's steps: shuffled examples, and their views.

The order of the examples and the view of each are functions of the epoch's key
alone. Examples in memory go to the device whole (`EpochInputs`); examples on
disk go there batch by batch (`DiskInputs`, `BatchInputs`).
"""

import functools
import itertools
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.data import augmentation as augment
from kd_jax.runtime import mesh
from kd_jax.training.batch import Examples
from kd_jax.training.hyperparameters import Hyperparameters

PyTree = Any

# Folded into an epoch's key to get the key of its views. The other numbers that
# are folded into an epoch's key are steps, and no step has this number.
_VIEWS = np.iinfo(np.int32).max


# Maps (mask, key) to the order of an epoch: see `make_shuffle`.
Shuffle = Callable[[jax.Array, jax.Array], jax.Array]


class ExampleReader(NamedTuple):
  """Reads examples from disk while a training needs them.

  Attributes:
    batches: maps indices [M] to an iterator over batches of those examples, in
      that order, on the host. With several processes each gets its own share
      of every batch.
  """

  batches: Callable[[np.ndarray], Iterator[Examples]]


class EpochViews(NamedTuple):
  """The augmented views of one epoch; with seeds, a leading axis [S].

  Attributes:
    views: int32 [N], or None without augmentation.
    teacher_logits: float32 [N, K], the teacher's logits for the views; None if
      they are not stored.
  """

  views: jax.Array | None = None
  teacher_logits: jax.Array | None = None


class SharedInputs(NamedTuple):
  """The inputs that all steps of an epoch share.

  Attributes:
    num_examples: the examples of the epoch. The positions after them, up to
      whole batches, are padding.
    key: the epoch's key.
    hyperparameters: the traced numbers of a step.
    teacher_variables: the variables of a live teacher, or None.
  """

  num_examples: int
  key: jax.Array
  hyperparameters: Hyperparameters
  teacher_variables: PyTree = None


class EpochInputs(NamedTuple):
  """The inputs of the steps of an epoch whose examples are on the device.

  Attributes:
    examples: the examples that the steps gather from.
    views: the epoch's views of the examples.
    order: int32 [M], positions of the examples in the order of the epoch.
    shared: the inputs that all steps share.
  """

  examples: Examples
  views: EpochViews
  order: jax.Array
  shared: SharedInputs


class BatchInputs(NamedTuple):
  """The inputs of one step whose batch is on the device.

  Attributes:
    examples: the batch, shown as the epoch's views.
    shared: the inputs that all steps share.
  """

  examples: Examples
  shared: SharedInputs


class DiskInputs(NamedTuple):
  """The inputs of the steps of an epoch whose examples are read from disk.

  Attributes:
    batches: the batches of the steps to take, in order; on the host, shown as
      the epoch's views. Each step takes the next one.
    first_batch: the first of `batches`.
    shared: the inputs that all steps share.
  """

  batches: Iterator[Examples]
  first_batch: Examples
  shared: SharedInputs


def make_shuffled_inputs(
  shuffle: Shuffle,
  examples: Examples | ExampleReader,
  mask: np.ndarray,
  views: EpochViews,
  shared: SharedInputs,
  *,
  num_done: int = 0,
) -> EpochInputs | DiskInputs:
  """Shuffles the examples of an epoch; opens their reader, if on disk.

  Args:
    shuffle: orders the examples, see `make_shuffle`.
    examples: arrays on the device, or what reads examples from disk.
    mask: bool [N], which examples the epoch uses.
    views: the epoch's views of the examples.
    shared: the inputs that all steps share.
    num_done: how many examples the steps before the first one took.
  """
  order = shuffle(jnp.asarray(mask), shared.key)
  if isinstance(examples, Examples):
    return EpochInputs(examples, views, order, shared)
  indices = np.asarray(order)[num_done:]
  batches = _show_views(examples.batches(indices), indices, views)
  first_batch = next(batches)
  batches = itertools.chain([first_batch], batches)
  return DiskInputs(batches, first_batch, shared)


def _show_views(
  batches: Iterator[Examples], order: np.ndarray, views: EpochViews
) -> Iterator[Examples]:
  """Yields batches with the views of their examples, and logits for them."""
  views = jax.device_get(views)
  start = 0  # How many examples this process has taken.
  for batch in batches:
    size = len(batch.labels)
    index = mesh.process_share(order, start, size)
    start += size
    yield with_views(batch, jax.tree.map(operator.itemgetter(index), views))


def with_views(examples: Examples, views: EpochViews) -> Examples:
  """Returns examples shown as an epoch's views, with the logits for them."""
  if views.views is None:
    return examples
  examples = examples._replace(views=views.views)
  if views.teacher_logits is None:
    return examples
  return examples._replace(teacher_logits=views.teacher_logits)


def put_batch(batch: Examples, shared: SharedInputs) -> BatchInputs:
  """Puts a batch from disk on the device, as the inputs of its step."""
  return BatchInputs(mesh.put_batch(batch), shared)


def make_shuffle(batch_size: int, num_seeds: int | None) -> Shuffle:
  """Returns a compiled function that orders the examples of an epoch.

  Args:
    batch_size: examples per step.
    num_seeds: S, for keys [S] and orders [S, M]; None for one network.
  Returns:
    Maps (mask bool [N], key) to int32 [M]: the examples of the mask in random
    order, then the others; M is N rounded up to whole batches.
  """
  shuffle = functools.partial(_shuffle, batch_size=batch_size)
  if num_seeds is not None:
    shuffle = jax.vmap(shuffle, in_axes=(None, 0))
  return jax.jit(shuffle)


def _shuffle(mask: jax.Array, key: jax.Array, *, batch_size: int) -> jax.Array:
  """Returns the examples of a mask in random order: see `make_shuffle`."""
  num_examples = mask.shape[0]
  # Sorting random numbers shuffles. Examples outside the mask get the largest
  # numbers and sort behind the others, so that one shape serves every mask.
  bits = jax.random.bits(key, (num_examples,), jnp.uint32) >> 1
  bits = jnp.where(mask, bits, jnp.uint32(2**31))
  shuffled = jnp.argsort(bits).astype(jnp.int32)
  return jnp.pad(shuffled, (0, -num_examples % batch_size))


def make_views(
  choose_views: Callable[[jax.Array, int], jax.Array] | None,
  key: jax.Array,
  num_examples: int,
  epoch_view_logits: Callable[[np.ndarray], np.ndarray] | None = None,
) -> EpochViews:
  """Returns the views of an epoch, and the teacher's logits for them.

  Args:
    choose_views: see `make_choose_views`; None without augmentation.
    key: the epoch's key; keys [S] for S seeds in one function.
    num_examples: N.
    epoch_view_logits: maps the views [N] of an epoch to the teacher's stored
      logits for them, [N, K]; None without stored logits.
  """
  if choose_views is None:
    return EpochViews()
  views = choose_views(key, num_examples)
  if epoch_view_logits is None:
    return EpochViews(views)
  indices = np.asarray(views)
  logits = (
    np.stack([epoch_view_logits(views_of_seed) for views_of_seed in indices])
    if indices.ndim == 2  # [S, N]
    else epoch_view_logits(indices)
  )
  return EpochViews(views, jnp.asarray(logits))


def make_choose_views(
  augmentation: augment.Augmentation | None, num_seeds: int | None
) -> Callable[[jax.Array, int], jax.Array] | None:
  """Returns a compiled function that chooses the views of an epoch.

  Args:
    augmentation: the augmentation of the images, or None.
    num_seeds: S, for keys [S] and views [S, N]; None for one network.
  Returns:
    Maps (key, N) to int32 [N], the view of each example; None without
    augmentation.
  """
  if augmentation is None:
    return None

  def choose_views(key: jax.Array, num_examples: int) -> jax.Array:
    # The view of an example is a function of the key and the example alone.
    views_key = jax.random.fold_in(key, _VIEWS)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
      views_key, jnp.arange(num_examples)
    )
    return augmentation.choose(keys)

  if num_seeds is not None:
    choose_views = jax.vmap(choose_views, in_axes=(0, None))
  return jax.jit(choose_views, static_argnums=1)


def fold_in(keys: jax.Array, number: int) -> jax.Array:
  """Returns `jax.random.fold_in` of one key, or of each of several keys."""
  if keys.ndim:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
  return jax.random.fold_in(keys, number)
