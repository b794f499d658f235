"""One epoch over arrays on the device: shuffle, gather, augment, step.

Where a compiled loop is fast (accelerators, and MLPs on a CPU), one compiled
function gathers each batch by index and takes the steps from `start` to `stop`.
The function serves every epoch, every subset of the examples and every chunk of
an epoch, so that a long epoch shows its progress. For convolutions on a CPU,
and for examples on disk, only one step is compiled, and Python loops over the
steps. Results do not depend on the chunks.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.data import augmentation as augment
from kd_jax.runtime import mesh
from kd_jax.training.batch import Batch, Examples, Mixture, Targets
from kd_jax.training.hyperparameters import Hyperparameters
from kd_jax.training.step import Sums, TrainState, TrainStep

PyTree = Any
# A number that is larger than every step's. As `nonfinite_step` it means that
# every loss was finite.
NEVER = np.iinfo(np.int32).max
# Folded into an epoch's key to get the key of its views. No step has this
# number, so that no step has this key.
_VIEWS = NEVER
# Folded into a step's key to get the key of mixup.
_MIXUP = NEVER
# (teacher variables, images uint8 [B, ...]) -> (logits, features by layer).
LiveTeacher = Callable[[PyTree, jax.Array], tuple[jax.Array, dict]]


class Pipeline(NamedTuple):
  """The way from stored examples to a batch.

  Attributes:
    preprocess: maps stored images to the network's input.
    augmentation: chooses and applies a view of each image; None for none.
    mixup_alpha: the parameter of mixup; 0 for none.
    live_teacher: computes the teacher's outputs in every step; None to take
      stored outputs.
  """

  preprocess: Callable[[jax.Array], jax.Array]
  augmentation: augment.Augmentation | None = None
  mixup_alpha: float = 0.0
  live_teacher: LiveTeacher | None = None


class EpochOptions(NamedTuple):
  """The static options of a compiled epoch.

  Attributes:
    batch_size: examples per step.
    sum_names: the names of the sums that the train step returns.
    drop_remainder: whether examples that do not fill a batch are left out.
    loop: where the loop over steps is: 'device', compiled; or 'host', Python's
      around one compiled step.
    num_seeds: S, to train S networks in one compiled function: states and keys
      then have a leading axis [S]. None for one network.
  """

  batch_size: int
  sum_names: tuple[str, ...]
  drop_remainder: bool = False
  loop: str = 'device'
  num_seeds: int | None = None


class EpochViews(NamedTuple):
  """The augmented views of one epoch; with seeds, a leading axis [S].

  Attributes:
    views: int32 [N], or None without augmentation.
    teacher_logits: float32 [N, K], the teacher's logits for the views; None if
      they are not stored.
  """

  views: jax.Array | None = None
  teacher_logits: jax.Array | None = None


class StepInputs(NamedTuple):
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
  """The inputs of an epoch whose examples are arrays on the device.

  Attributes:
    examples: the examples to gather from.
    views: the epoch's views of them.
    order: int32 [M], positions of the examples in the order of the epoch.
    each_step: the inputs that all steps share.
  """

  examples: Examples
  views: EpochViews
  order: jax.Array
  each_step: StepInputs


# With S seeds in one function: the inputs that have a leading axis [S], and
# those that all seeds share, as `jax.vmap` takes them.
_BY_SEED: Any = 0
_SHARED: Any = None
_SEED_AXES = EpochInputs(
  examples=_SHARED,
  views=_BY_SEED,
  order=_BY_SEED,
  each_step=StepInputs(
    num_examples=_SHARED,
    key=_BY_SEED,
    hyperparameters=_SHARED,
    teacher_variables=_SHARED,
  ),
)


class CompiledEpoch(NamedTuple):
  """The functions of an epoch; JAX compiles each on its first call.

  Attributes:
    shuffle: maps (subset bool [N], key) to int32 [M]: the subset's examples in
      random order, then the others; M is N rounded up to whole batches.
    choose_views: maps (key, N) to int32 [N], the view of each example in an
      epoch; None without augmentation.
    run_steps: maps (state, sums, EpochInputs, start, stop) to (state, sums)
      after the steps start, ..., stop - 1. If start == stop, compiles and
      returns state and sums unchanged.
    run_step: maps (state, sums, examples of a batch, StepInputs, step) to
      (state, sums) after one step, for examples that are read from disk.
    zero_sums: returns the sums before the first step.
    batch_size: examples per step.
    drop_remainder: as in EpochOptions.
  """

  shuffle: Callable[[jax.Array, jax.Array], jax.Array]
  choose_views: Callable[[jax.Array, int], jax.Array] | None
  run_steps: Callable[..., tuple[TrainState, Sums]]
  run_step: Callable[..., tuple[TrainState, Sums]]
  zero_sums: Callable[[], Sums]
  batch_size: int
  drop_remainder: bool


def compile_epoch(
  train_step: TrainStep, pipeline: Pipeline, options: EpochOptions
) -> CompiledEpoch:
  """Returns the functions of an epoch, compiled on first use."""
  shuffle = functools.partial(_shuffle, batch_size=options.batch_size)
  run_step = _make_run_step(train_step, pipeline, options)
  gather_and_step = functools.partial(_gather_and_step, run_step, options)
  if options.num_seeds is not None:
    shuffle = jax.vmap(shuffle, in_axes=(None, 0))
    gather_and_step = jax.vmap(
      gather_and_step, in_axes=(0, 0, _SEED_AXES, None)
    )
  return CompiledEpoch(
    shuffle=jax.jit(shuffle),
    choose_views=_compile_views(pipeline.augmentation, options),
    run_steps=_LOOPS[options.loop](gather_and_step),
    run_step=jax.jit(run_step, donate_argnums=(0, 1)),
    zero_sums=functools.partial(_zero_sums, options),
    batch_size=options.batch_size,
    drop_remainder=options.drop_remainder,
  )


def _shuffle(subset: jax.Array, key: jax.Array, *, batch_size: int):
  """Returns the subset's examples in random order: see CompiledEpoch."""
  num_examples = subset.shape[0]
  # Sorting random numbers shuffles. Examples outside the subset get the largest
  # numbers and sort behind the others, so that one shape serves every subset.
  bits = jax.random.bits(key, (num_examples,), jnp.uint32) >> 1
  bits = jnp.where(subset, bits, jnp.uint32(2**31))
  shuffled = jnp.argsort(bits).astype(jnp.int32)
  return jnp.pad(shuffled, (0, -num_examples % batch_size))


def _compile_views(
  augmentation: augment.Augmentation | None, options: EpochOptions
) -> Callable[[jax.Array, int], jax.Array] | None:
  """Returns the `choose_views` of CompiledEpoch."""
  if augmentation is None:
    return None
  choose_views = functools.partial(_choose_views, augmentation)
  if options.num_seeds is not None:
    choose_views = jax.vmap(choose_views, in_axes=(0, None))
  return jax.jit(choose_views, static_argnums=1)


def _choose_views(
  augmentation: augment.Augmentation, key: jax.Array, num_examples: int
) -> jax.Array:
  """Returns the view of each example: a function of key and example alone."""
  views_key = jax.random.fold_in(key, _VIEWS)
  keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
    views_key, jnp.arange(num_examples)
  )
  return augmentation.choose(keys)


def _zero_sums(options: EpochOptions) -> Sums:
  shape = () if options.num_seeds is None else (options.num_seeds,)
  sums = {name: jnp.zeros(shape, jnp.float32) for name in options.sum_names}
  return sums | {'nonfinite_step': jnp.full(shape, NEVER, jnp.int32)}


def _gather_and_step(
  run_step: Callable,
  options: EpochOptions,
  state: TrainState,
  sums: Sums,
  inputs: EpochInputs,
  step: jax.Array,
) -> tuple[TrainState, Sums]:
  """Gathers a step's examples by their indices and takes the step."""
  size = options.batch_size
  index = jax.lax.dynamic_slice(inputs.order, (step * size,), (size,))
  examples = jax.tree.map(
    lambda array: jnp.take(array, index, axis=0, mode='clip'),
    with_views(inputs.examples, inputs.views),
  )
  return run_step(state, sums, examples, inputs.each_step, step)


def with_views(examples: Examples, views: EpochViews) -> Examples:
  """Returns examples shown as an epoch's views, with the logits for them."""
  if views.views is None:
    return examples
  examples = examples._replace(views=views.views)
  if views.teacher_logits is None:
    return examples
  return examples._replace(teacher_logits=views.teacher_logits)


def _make_run_step(
  train_step: TrainStep, pipeline: Pipeline, options: EpochOptions
) -> Callable[..., tuple[TrainState, Sums]]:
  """Returns `run_step(state, sums, examples, inputs, step)`, not compiled.

  The function makes a batch of examples, takes a train step and adds its sums
  to those of the epoch.
  """
  size = options.batch_size

  def run_step(state, sums, examples, inputs, step):
    step_key = jax.random.fold_in(inputs.key, step)
    position = step * size + jnp.arange(size)
    mask = (position < inputs.num_examples).astype(jnp.float32)
    batch = make_batch(
      pipeline, mesh.shard(examples), mask, step_key, inputs.teacher_variables
    )
    state, step_sums = train_step(
      state, batch, step_key, inputs.hyperparameters
    )
    finite = jnp.isfinite(step_sums['loss'])
    nonfinite_step = jnp.where(finite, NEVER, jnp.int32(step))
    new_sums = {
      name: sums[name] + step_sums[name] for name in options.sum_names
    }
    new_sums['nonfinite_step'] = jnp.minimum(
      sums['nonfinite_step'], nonfinite_step
    )
    return mesh.replicate((state, new_sums))

  return run_step


def make_batch(
  pipeline: Pipeline,
  examples: Examples,
  mask: jax.Array,
  key: jax.Array,
  teacher_variables: PyTree = None,
) -> Batch:
  """Augments, mixes and scales examples; asks a live teacher about them.

  Args:
    pipeline: what is done with them.
    examples: [B] each.
    mask: float32 [B], 0 for padding.
    key: the step's key.
    teacher_variables: the variables of a live teacher.
  """
  images, mixture = examples.images, None
  teacher_logits, features = examples.teacher_logits, examples.teacher_features
  if pipeline.augmentation is not None:
    assert examples.views is not None
    images = pipeline.augmentation.apply(images, examples.views)
  if pipeline.mixup_alpha > 0:
    partners = Targets(
      augment.partners(examples.labels),
      None if teacher_logits is None else augment.partners(teacher_logits),
    )
    mixup_key = jax.random.fold_in(key, _MIXUP)
    images, share = augment.mixup(images, mixup_key, alpha=pipeline.mixup_alpha)
    mixture = Mixture(share, partners)
  if pipeline.live_teacher is not None:
    teacher_logits, features = pipeline.live_teacher(teacher_variables, images)
  return Batch(
    images=pipeline.preprocess(images),
    labels=examples.labels,
    mask=mask,
    teacher_logits=teacher_logits,
    teacher_features=features,
    mixture=mixture,
  )


def _loop_on_device(step: Callable) -> Callable:
  """Returns a `run_steps` that is one compiled loop."""

  def run_steps(state, sums, inputs, start, stop):
    def body(i, carry):
      return step(*carry, inputs, i)

    return jax.lax.fori_loop(start, stop, body, (state, sums))

  return jax.jit(run_steps, donate_argnums=(0, 1))


def _loop_on_host(step: Callable) -> Callable:
  """Returns a `run_steps` that calls one compiled step after the other."""
  step = jax.jit(step, donate_argnums=(0, 1))

  def run_steps(state, sums, inputs, start, stop):
    if start == stop:  # To compile: takes a step and throws it away.
      copies = jax.tree.map(jnp.copy, (state, sums))
      jax.block_until_ready(step(*copies, inputs, start))
    for i in range(start, stop):
      state, sums = step(state, sums, inputs, i)
    return state, sums

  return run_steps


_LOOPS = {'device': _loop_on_device, 'host': _loop_on_host}


def fold_in(keys: jax.Array, number: int) -> jax.Array:
  """Returns `jax.random.fold_in` of one key, or of each of several keys."""
  if keys.ndim:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
  return jax.random.fold_in(keys, number)
