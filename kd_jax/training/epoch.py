"""The steps of an epoch.

`take_step` takes one step: it gathers the step's examples, makes a batch of
them (batch.py), calls `train_step` (step.py) and adds to the epoch's totals.
`take_steps` takes the steps of a range, in one of two loops:
- on the device, where a compiled loop is fast (accelerators, and MLPs on a
  CPU). The compiled loop serves every epoch, every mask of the examples and
  every range of steps.
- on the host, around a compiled `take_step`: for convolutions on a CPU, and for
  examples on disk.
Results do not depend on how an epoch is split into ranges. A long epoch is
therefore split, to show its progress.
The inputs of the steps come from epoch_inputs.py.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.runtime import mesh
from kd_jax.training.batch import Examples, Pipeline, make_batch
from kd_jax.training.epoch_inputs import (
  BatchInputs,
  DiskInputs,
  EpochInputs,
  SharedInputs,
  make_choose_views,
  make_shuffle,
  put_batch,
  with_views,
)
from kd_jax.training.step import Sums, TrainState, TrainStep

# The `nonfinite_step` of an epoch whose losses are all finite: later than any
# step.
NO_STEP = np.iinfo(np.int32).max


class EpochOptions(NamedTuple):
  """The static options of an epoch's functions.

  Attributes:
    batch_size: examples per step.
    sum_names: the names of the sums that the train step returns.
    loop: where the loop over steps is: 'device', compiled; or 'host', Python's
      around one compiled step.
    num_seeds: S, to train S networks in one compiled function: states and keys
      then have a leading axis [S]. None for one network.
  """

  batch_size: int
  sum_names: tuple[str, ...]
  loop: str = 'device'
  num_seeds: int | None = None


class EpochTotals(NamedTuple):
  """The totals of the steps of an epoch; with seeds, a leading axis [S].

  Attributes:
    sums: the sums of the train steps, added up.
    nonfinite_step: int32, the first step of the epoch whose loss is not finite,
      or NO_STEP.
  """

  sums: Sums
  nonfinite_step: jax.Array


# With S seeds in one function: the inputs that have a leading axis [S], and
# those that all seeds share, as `jax.vmap` takes them.
_BY_SEED: Any = 0
_SHARED: Any = None
_SEED_AXES = EpochInputs(
  examples=_SHARED,
  views=_BY_SEED,
  order=_BY_SEED,
  shared=SharedInputs(
    num_examples=_SHARED,
    key=_BY_SEED,
    hyperparameters=_SHARED,
    teacher_variables=_SHARED,
  ),
)


# (state, totals, inputs, step_in_epoch) -> (state, totals) after the step.
TakeStep = Callable[
  [TrainState, EpochTotals, EpochInputs | BatchInputs, Any],
  tuple[TrainState, EpochTotals],
]
# (state, totals, inputs, start, stop) -> (state, totals) after the steps start,
# ..., stop - 1. Donates the buffers of state and totals.
TakeSteps = Callable[
  [TrainState, EpochTotals, EpochInputs | DiskInputs, int, int],
  tuple[TrainState, EpochTotals],
]


class EpochFunctions(NamedTuple):
  """The functions of an epoch; JAX compiles each on its first call.

  Attributes:
    shuffle: maps (mask bool [N], key) to int32 [M]: the examples of the mask in
      random order, then the others; M is N rounded up to whole batches.
    choose_views: maps (key, N) to int32 [N], the view of each example in an
      epoch; None without augmentation.
    zero_totals: returns the totals before the first step.
    warm_up: has JAX compile `take_steps`. Maps (state, totals, inputs) to
      (state, totals), unchanged.
    take_steps: maps (state, totals, inputs, start, stop) to (state, totals)
      after the steps start, ..., stop - 1.
  """

  shuffle: Callable[[jax.Array, jax.Array], jax.Array]
  choose_views: Callable[[jax.Array, int], jax.Array] | None
  zero_totals: Callable[[], EpochTotals]
  warm_up: Callable[..., tuple[TrainState, EpochTotals]]
  take_steps: TakeSteps


def make_epoch_functions(
  train_step: TrainStep, pipeline: Pipeline, options: EpochOptions
) -> EpochFunctions:
  """Returns the functions of an epoch."""
  take_step = _make_take_step(train_step, pipeline, options.batch_size)
  if options.num_seeds is not None:
    take_step = jax.vmap(take_step, in_axes=(0, 0, _SEED_AXES, None))
  warm_up, take_steps = _make_take_steps(take_step, options.loop)
  return EpochFunctions(
    shuffle=make_shuffle(options.batch_size, options.num_seeds),
    choose_views=make_choose_views(pipeline.augmentation, options.num_seeds),
    zero_totals=functools.partial(_zero_totals, options),
    warm_up=warm_up,
    take_steps=take_steps,
  )


def _make_take_step(
  train_step: TrainStep, pipeline: Pipeline, batch_size: int
) -> TakeStep:
  """Returns `take_step(state, totals, inputs, step_in_epoch)`, not compiled."""

  def take_step(
    state: TrainState,
    totals: EpochTotals,
    inputs: EpochInputs | BatchInputs,
    step_in_epoch: jax.Array,
  ) -> tuple[TrainState, EpochTotals]:
    shared = inputs.shared
    examples = _examples_of_step(inputs, step_in_epoch, batch_size)
    step_key = jax.random.fold_in(shared.key, step_in_epoch)
    position = step_in_epoch * batch_size + jnp.arange(batch_size)
    mask = (position < shared.num_examples).astype(jnp.float32)
    batch = make_batch(
      pipeline,
      mesh.shard(examples),
      mask,
      step_key,
      shared.teacher_variables,
    )
    state, sums = train_step(state, batch, step_key, shared.hyperparameters)
    return mesh.replicate((state, _add(totals, sums, step_in_epoch)))

  return take_step


def _examples_of_step(
  inputs: EpochInputs | BatchInputs, step_in_epoch: jax.Array, batch_size: int
) -> Examples:
  """Returns a step's examples: its batch, or gathered by their indices."""
  if isinstance(inputs, BatchInputs):
    return inputs.examples
  index = jax.lax.dynamic_slice(
    inputs.order, (step_in_epoch * batch_size,), (batch_size,)
  )
  return jax.tree.map(
    lambda array: jnp.take(array, index, axis=0, mode='clip'),
    with_views(inputs.examples, inputs.views),
  )


def _zero_totals(options: EpochOptions) -> EpochTotals:
  shape = () if options.num_seeds is None else (options.num_seeds,)
  return EpochTotals(
    {name: jnp.zeros(shape, jnp.float32) for name in options.sum_names},
    jnp.full(shape, NO_STEP, jnp.int32),
  )


def _add(
  totals: EpochTotals, sums: Sums, step_in_epoch: jax.Array
) -> EpochTotals:
  """Adds a step's sums to the totals before the step."""
  finite = jnp.isfinite(sums['loss'])
  return EpochTotals(
    {name: total + sums[name] for name, total in totals.sums.items()},
    jnp.minimum(
      totals.nonfinite_step,
      jnp.where(finite, NO_STEP, jnp.int32(step_in_epoch)),
    ),
  )


def _make_take_steps(
  take_step: TakeStep, loop: str
) -> tuple[Callable, TakeSteps]:
  """Returns the `warm_up` and the `take_steps` of EpochFunctions."""
  take_compiled_step = jax.jit(take_step, donate_argnums=(0, 1))

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def take_steps_on_device(state, totals, inputs, start, stop):
    def body(step, carry):
      state, totals = carry
      return take_step(state, totals, inputs, step)

    return jax.lax.fori_loop(start, stop, body, (state, totals))

  def warm_up(state, totals, inputs):
    if loop == 'device' and isinstance(inputs, EpochInputs):
      return take_steps_on_device(state, totals, inputs, 0, 0)
    if isinstance(inputs, DiskInputs):
      inputs = put_batch(inputs.first_batch, inputs.shared)
    # A step donates its arguments: it takes copies, and its results are
    # thrown away.
    copies = jax.tree.map(jnp.copy, (state, totals))
    jax.block_until_ready(take_compiled_step(*copies, inputs, 0))
    return state, totals

  def take_steps(state, totals, inputs, start, stop):
    if loop == 'device' and isinstance(inputs, EpochInputs):
      return take_steps_on_device(state, totals, inputs, start, stop)
    for step in range(start, stop):
      state, totals = take_compiled_step(
        state, totals, _inputs_of_step(inputs), step
      )
    return state, totals

  return warm_up, take_steps


def _inputs_of_step(
  inputs: EpochInputs | DiskInputs,
) -> EpochInputs | BatchInputs:
  """Returns the inputs of the next step; reads its batch, if on disk."""
  if isinstance(inputs, EpochInputs):
    return inputs
  return put_batch(next(inputs.batches), inputs.shared)
