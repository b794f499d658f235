"""The loop over epochs, and how a training resumes within it.

The order of the data and every random number are functions of (key, epoch,
step): a training that starts again after some epochs, or within one, ends
where an uninterrupted training ends.
"""

import time
from collections.abc import Callable, Generator
from typing import NamedTuple

import jax
import numpy as np

from kd_jax.runtime import bars
from kd_jax.training import plan
from kd_jax.training.divergence import check_loss, check_state
from kd_jax.training.epoch import EpochFunctions, EpochTotals
from kd_jax.training.epoch_inputs import (
  DiskInputs,
  EpochInputs,
  SharedInputs,
  fold_in,
  make_shuffled_inputs,
  make_views,
)
from kd_jax.training.example_source import ExampleSource
from kd_jax.training.hyperparameters import Hyperparameters
from kd_jax.training.pace import Pace, progress_bar
from kd_jax.training.step import TrainState


class EpochPosition(NamedTuple):
  """A training at some step of an epoch, as a mid-epoch checkpoint keeps it.

  Attributes:
    epoch: the epoch's index.
    step_in_epoch: how many steps of the epoch are done.
    state: after those steps.
    totals: of those steps.
    train_s: seconds that those steps took.
  """

  epoch: int
  step_in_epoch: int
  state: TrainState
  totals: EpochTotals
  train_s: float


class EpochResult(NamedTuple):
  """A training after an epoch.

  Attributes:
    epoch: the epoch's index, counted from 0 over all phases.
    phase: the name of its phase.
    state: after the epoch. The next epoch donates its buffers: use the state
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


class LoopOptions(NamedTuple):
  """The options of `train_epochs`.

  Attributes:
    key: the key of the whole training; keys [S] for S seeds in one function.
    hyperparameters_of_epoch: maps an epoch's index to its hyperparameters.
    done_epochs: how many epochs the given state has behind it.
    mid_epoch: where to resume within the next epoch; it replaces the state.
    save_mid_epoch: saves a mid-epoch checkpoint; None to save none. The next
      step donates the position's buffers.
    save_every_s: seconds within an epoch after which `save_mid_epoch` is
      called.
    reset_optimizer: applied to the state at the start of each later phase; None
      to carry the optimizer's state on.
    progress_label: the label of a progress bar, or None for no bar.
  """

  key: jax.Array
  hyperparameters_of_epoch: Callable[[int], Hyperparameters]
  done_epochs: int = 0
  mid_epoch: EpochPosition | None = None
  save_mid_epoch: Callable[[EpochPosition], None] | None = None
  save_every_s: float = np.inf
  reset_optimizer: Callable[[TrainState], TrainState] | None = None
  progress_label: str | None = None


def train_epochs(
  functions: EpochFunctions,
  state: TrainState,
  source: ExampleSource,
  training_plan: plan.Plan,
  options: LoopOptions,
) -> Generator[EpochResult, None, None]:
  """Trains epoch by epoch; the caller evaluates and saves in between.

  Args:
    functions: the functions of an epoch.
    state: after `options.done_epochs` epochs; its buffers are donated.
    source: where the examples come from.
    training_plan: the phases and batches of the training.
    options: key, hyperparameters, where to resume.
  Yields:
    An EpochResult after each epoch.
  Raises:
    NonFiniteLoss: names the step and the hyperparameters.
  """
  epochs = training_plan.epochs
  is_warm = False
  with progress_bar(
    epochs, options.done_epochs, label=options.progress_label
  ) as bar:
    pace = Pace(options.save_every_s, bar)
    for epoch in epochs[options.done_epochs :]:
      position = _start_epoch(functions, state, epoch, options)
      bar.update(position.step_in_epoch * epoch.batch_size)
      shared = _shared_inputs(source, epoch, options)
      began = time.perf_counter()
      views = make_views(
        functions.choose_views,
        shared.key,
        len(epoch.phase.mask),
        source.epoch_view_logits,
      )
      teacher_s = time.perf_counter() - began
      pace.restart_clock(position.train_s)
      inputs = make_shuffled_inputs(
        functions.shuffle,
        source.examples,
        epoch.phase.mask,
        views,
        shared,
        num_done=position.step_in_epoch * epoch.batch_size,
      )
      compile_s = 0.0
      if not is_warm:
        with bars.say_if_slow(bar, 'compiling'):
          position, compile_s = _warm_up(functions, inputs, position, pace)
        is_warm = True
      end = _take_epoch(functions, inputs, position, epoch, options, pace)
      state = end.state
      yield EpochResult(
        epoch=epoch.index,
        phase=epoch.phase.name,
        state=state,
        sums=jax.device_get(end.totals.sums),
        train_s=end.train_s,
        compile_s=compile_s,
        teacher_s=teacher_s,
      )


def _start_epoch(
  functions: EpochFunctions,
  state: TrainState,
  epoch: plan.Epoch,
  options: LoopOptions,
) -> EpochPosition:
  """Returns where an epoch starts: at its first step, or where it resumes."""
  if epoch.index == options.done_epochs and options.mid_epoch is not None:
    return options.mid_epoch
  if epoch.starts_phase and epoch.index > 0 and options.reset_optimizer:
    state = options.reset_optimizer(state)
  return EpochPosition(epoch.index, 0, state, functions.zero_totals(), 0.0)


def _shared_inputs(
  source: ExampleSource, epoch: plan.Epoch, options: LoopOptions
) -> SharedInputs:
  """Returns the inputs that all steps of an epoch share."""
  return SharedInputs(
    num_examples=epoch.num_examples,
    key=fold_in(options.key, epoch.index),
    hyperparameters=options.hyperparameters_of_epoch(epoch.index),
    teacher_variables=source.teacher_variables,
  )


def _warm_up(
  functions: EpochFunctions,
  inputs: EpochInputs | DiskInputs,
  position: EpochPosition,
  pace: Pace,
) -> tuple[EpochPosition, float]:
  """Compiles the steps; returns the same position, and the seconds it took."""
  state, totals = jax.block_until_ready(
    functions.warm_up(position.state, position.totals, inputs)
  )
  compile_s = pace.train_s() - position.train_s
  pace.restart_clock(position.train_s)  # Compilation is not training.
  return position._replace(state=state, totals=totals), compile_s


def _take_epoch(
  functions: EpochFunctions,
  inputs: EpochInputs | DiskInputs,
  position: EpochPosition,
  epoch: plan.Epoch,
  options: LoopOptions,
  pace: Pace,
) -> EpochPosition:
  """Takes the steps of an epoch, several in each call; returns its end.

  Args:
    functions: the functions of an epoch.
    inputs: the inputs of the epoch's steps.
    position: where the epoch starts; not at step 0 if the epoch resumes.
    epoch: the epoch.
    options: say whether and how often a mid-epoch checkpoint is saved.
    pace: how many steps a call takes, and when to save.
  """
  where = f'of epoch {epoch.index} ({epoch.phase.name})'
  hyperparameters = inputs.shared.hyperparameters
  step, state, totals = position.step_in_epoch, position.state, position.totals
  while step < epoch.num_steps:
    start, step = step, min(epoch.num_steps, step + pace.steps_per_call)
    pace.start_call()
    state, totals = functions.take_steps(state, totals, inputs, start, step)
    totals_on_host = jax.device_get(totals)
    pace.end_call(step - start)
    check_loss(totals_on_host, where, hyperparameters)
    done = min(step * epoch.batch_size, epoch.num_examples)
    pace.show(totals_on_host.sums, done - start * epoch.batch_size)
    if options.save_mid_epoch and step < epoch.num_steps and pace.save_is_due():
      with pace.saving():
        check_state(state, where, hyperparameters)
        options.save_mid_epoch(
          EpochPosition(epoch.index, step, state, totals, pace.train_s())
        )
  train_s = pace.train_s()
  check_state(state, where, hyperparameters)
  return EpochPosition(epoch.index, step, state, totals, train_s)
