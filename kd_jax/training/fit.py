"""The loop over epochs, and how a training resumes within it.

The order of the data and every random number are functions of (key, epoch,
step): a training that starts again after some epochs, or within one, ends
where an uninterrupted training ends.
"""

import functools
import operator
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from kd_jax.runtime import mesh
from kd_jax.training import plan
from kd_jax.training.batch import Examples
from kd_jax.training.epoch import (
  CompiledEpoch,
  EpochInputs,
  EpochViews,
  StepInputs,
  fold_in,
  with_views,
)
from kd_jax.training.finite import check_loss, check_state
from kd_jax.training.hyperparameters import Hyperparameters
from kd_jax.training.pace import Pace, describe, progress_bar
from kd_jax.training.step import Sums, TrainState

PyTree = Any


class ExampleReader(NamedTuple):
  """Reads examples from disk while a training needs them.

  Attributes:
    batches: maps indices [M] to an iterator over batches of those examples, in
      that order, on the host. With several processes each gets its own share
      of every batch.
  """

  batches: Callable[[np.ndarray], Iterator[Examples]]


class ExampleSource(NamedTuple):
  """Where a training's examples come from.

  Attributes:
    examples: arrays on the device, or what reads examples from disk.
    teacher_variables: the variables of a live teacher, or None.
    view_logits: maps the views [N] of an epoch to the teacher's stored logits
      for them, [N, K]; None without.
  """

  examples: Examples | ExampleReader
  teacher_variables: PyTree = None
  view_logits: Callable[[np.ndarray], np.ndarray] | None = None


class EpochProgress(NamedTuple):
  """The state of a training at some step of an epoch.

  Attributes:
    epoch: the epoch's index.
    step: how many steps of the epoch are done.
    state: after those steps.
    sums: totals over those steps.
    train_s: seconds that those steps took.
  """

  epoch: int
  step: int
  state: TrainState
  sums: Sums
  train_s: float


class EpochResult(NamedTuple):
  """A training after an epoch.

  Attributes:
    epoch: the epoch's index, counted from 0 over all phases.
    phase: the name of its phase.
    state: after the epoch. The next epoch takes its buffers: use the state
      before asking for the next result.
    sums: totals over the epoch's examples, on the host.
    train_s: seconds of training, without compilation.
    compile_s: seconds of compilation, in the first epoch; about 0 if the
      functions were compiled before.
    teacher_s: seconds spent on the teacher's logits for the epoch's views.
  """

  epoch: int
  phase: str
  state: TrainState
  sums: dict[str, np.ndarray]
  train_s: float
  compile_s: float
  teacher_s: float


class FitOptions(NamedTuple):
  """The options of `fit`.

  Attributes:
    key: the key of the whole training; keys [S] for S seeds in one function.
    hyperparameters: maps an epoch's index to its hyperparameters.
    done_epochs: how many epochs the given state has behind it.
    partial: a checkpoint within the next epoch; it replaces the state.
    partial_every_s: seconds within an epoch after which an EpochProgress is
      yielded.
    reset_optimizer: applied to the state at the start of each later phase; None
      to carry the optimizer's state on.
    progress: the label of a progress bar, or None for no bar.
  """

  key: jax.Array
  hyperparameters: Callable[[int], Hyperparameters]
  done_epochs: int = 0
  partial: EpochProgress | None = None
  partial_every_s: float = np.inf
  reset_optimizer: Callable[[TrainState], TrainState] | None = None
  progress: str | None = None


def fit(
  compiled: CompiledEpoch,
  state: TrainState,
  source: ExampleSource,
  phases: list[plan.Phase],
  options: FitOptions,
) -> Generator[EpochResult | EpochProgress, None, None]:
  """Trains epoch by epoch; the caller evaluates and saves in between.

  Args:
    compiled: the functions of an epoch.
    state: after `options.done_epochs` epochs; its buffers are taken.
    source: where the examples come from.
    phases: the phases, in order.
    options: key, hyperparameters, where to resume.
  Yields:
    An EpochResult after each epoch, and an EpochProgress within an epoch that
    takes longer than `options.partial_every_s`.
  Raises:
    NonFiniteLoss: names the step and the hyperparameters.
  """
  timetable = plan.timetable(
    phases, compiled.batch_size, compiled.drop_remainder
  )
  pace, compile_s = Pace(options.partial_every_s), None
  with progress_bar(
    timetable, options.done_epochs, label=options.progress
  ) as bar:
    for epoch in timetable[options.done_epochs :]:
      start = _start_epoch(compiled, state, epoch, options)
      bar.update(start.step * epoch.batch_size)
      key = fold_in(options.key, epoch.index)
      began = time.perf_counter()
      views = epoch_views(
        compiled, key, len(epoch.phase.subset), source.view_logits
      )
      teacher_s = time.perf_counter() - began
      each_step = StepInputs(
        num_examples=epoch.num_examples,
        key=key,
        hyperparameters=options.hyperparameters(epoch.index),
        teacher_variables=source.teacher_variables,
      )
      make_take_steps = functools.partial(
        _make_take_steps, compiled, source, epoch.phase, views, each_step
      )
      if compile_s is None:
        start, compile_s = _compile(compiled, make_take_steps, start)
      pace.start_epoch(start.train_s)
      end = yield from _run_epoch(
        make_take_steps(start.step),
        start,
        epoch,
        each_step.hyperparameters,
        pace,
        bar,
      )
      state = end.state
      yield EpochResult(
        epoch=epoch.index,
        phase=epoch.phase.name,
        state=state,
        sums=jax.device_get(end.sums),
        train_s=end.train_s,
        compile_s=compile_s,
        teacher_s=teacher_s,
      )
      compile_s = 0.0


# (state, sums, start, stop) -> state and sums after the steps from start to
# stop - 1.
TakeSteps = Callable[[TrainState, Sums, int, int], tuple[TrainState, Sums]]


def _run_epoch(
  take_steps: TakeSteps,
  start: EpochProgress,
  epoch: plan.Epoch,
  hyperparameters: Hyperparameters,
  pace: Pace,
  bar: tqdm.tqdm,
) -> Generator[EpochProgress, None, EpochProgress]:
  """Takes the steps of an epoch, several in each call.

  Args:
    take_steps: from `_make_take_steps`.
    start: where the epoch starts; not at step 0 if the epoch resumes.
    epoch: the epoch.
    hyperparameters: those of the epoch, for messages.
    pace: how many steps a call takes, and when to save.
    bar: shows the progress.
  Yields:
    An EpochProgress when a save is due.
  Returns:
    The end of the epoch.
  """
  where = f'of epoch {epoch.index} ({epoch.phase.name})'
  size = epoch.batch_size
  state, sums, step = start.state, start.sums, start.step
  while step < epoch.num_steps:
    stop = min(epoch.num_steps, step + pace.steps_per_call)
    pace.start_call()
    state, sums = take_steps(state, sums, step, stop)
    totals = jax.device_get(sums)
    pace.end_call(stop - step)
    check_loss(totals, where, hyperparameters)
    bar.set_postfix_str(describe(totals), refresh=False)
    bar.update(min(stop * size, epoch.num_examples) - step * size)
    step = stop
    if step < epoch.num_steps and pace.save_is_due():
      with pace.saving():
        check_state(state, where, hyperparameters)
        yield EpochProgress(epoch.index, step, state, sums, pace.train_s())
  train_s = pace.train_s()
  check_state(state, where, hyperparameters)
  return EpochProgress(epoch.index, step, state, sums, train_s)


def _start_epoch(
  compiled: CompiledEpoch,
  state: TrainState,
  epoch: plan.Epoch,
  options: FitOptions,
) -> EpochProgress:
  """Returns where an epoch starts: at its first step, or where it resumes."""
  if epoch.index == options.done_epochs and options.partial is not None:
    return options.partial
  if epoch.starts_phase and epoch.index > 0 and options.reset_optimizer:
    state = options.reset_optimizer(state)
  return EpochProgress(epoch.index, 0, state, compiled.zero_sums(), 0.0)


def epoch_views(
  compiled: CompiledEpoch,
  key: jax.Array,
  num_examples: int,
  view_logits: Callable[[np.ndarray], np.ndarray] | None = None,
) -> EpochViews:
  """Returns the views of an epoch, and the teacher's logits for them.

  Args:
    compiled: the functions of an epoch.
    key: the epoch's key; keys [S] for S seeds in one function.
    num_examples: N.
    view_logits: as in `ExampleSource`.
  """
  if compiled.choose_views is None:
    return EpochViews()
  views = compiled.choose_views(key, num_examples)
  if view_logits is None:
    return EpochViews(views)
  indices = np.asarray(views)
  logits = (
    np.stack([view_logits(row) for row in indices])
    if indices.ndim == 2  # A row for each seed.
    else view_logits(indices)
  )
  return EpochViews(views, jnp.asarray(logits))


def _compile(
  compiled: CompiledEpoch,
  make_take_steps: Callable[[int], TakeSteps],
  start: EpochProgress,
) -> tuple[EpochProgress, float]:
  """Compiles the steps; returns the start again, and the seconds."""
  began = time.perf_counter()
  take_steps = make_take_steps(0)
  state, sums = take_steps(start.state, compiled.zero_sums(), 0, 0)
  jax.block_until_ready((state, sums))
  return start._replace(state=state), time.perf_counter() - began


def _make_take_steps(
  compiled: CompiledEpoch,
  source: ExampleSource,
  phase: plan.Phase,
  views: EpochViews,
  each_step: StepInputs,
  first: int,
) -> TakeSteps:
  """Returns a function that takes steps of an epoch, from `first` on."""
  order = compiled.shuffle(jnp.asarray(phase.subset), each_step.key)
  if isinstance(source.examples, ExampleReader):
    indices = np.asarray(order)[first * compiled.batch_size :]
    batches = _show_views(source.examples.batches(indices), indices, views)
    return _make_take_steps_on_disk(compiled, batches, each_step)
  inputs = EpochInputs(source.examples, views, order, each_step)
  return lambda state, sums, start, stop: compiled.run_steps(
    state, sums, inputs, start, stop
  )


def _make_take_steps_on_disk(
  compiled: CompiledEpoch, batches: Iterator[Examples], each_step: StepInputs
) -> TakeSteps:
  """Returns a function that takes steps on the next batches from disk."""

  def take_steps(state, sums, start, stop):
    if start == stop:  # To compile: takes a step and throws it away.
      copies = jax.tree.map(jnp.copy, (state, sums))
      examples = mesh.put_batch(next(batches))
      jax.block_until_ready(
        compiled.run_step(*copies, examples, each_step, start)
      )
    for i in range(start, stop):
      examples = mesh.put_batch(next(batches))
      state, sums = compiled.run_step(state, sums, examples, each_step, i)
    return state, sums

  return take_steps


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
