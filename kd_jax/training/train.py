"""Runs one training: resumes it, trains, logs, saves and describes it."""

import contextlib
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from kd_jax import data
from kd_jax.evaluation import evaluate
from kd_jax.models import costs
from kd_jax.runtime import (
  environment,
  errors,
  files,
  mesh,
  processes,
  run_records,
)
from kd_jax.sections import TrainingSections
from kd_jax.training import (
  checkpoint,
  epoch_loop,
  example_source,
  training_folder,
  training_functions,
  training_record,
)
from kd_jax.training.context import Context
from kd_jax.training.example_source import TeacherInputs
from kd_jax.training.hyperparameters import Hyperparameters
from kd_jax.training.plan import Plan
from kd_jax.training.step import TrainState
from kd_jax.training.training_record import TrainingResult

# Seconds. Within a long epoch, a checkpoint is saved at this interval, so that
# a kill loses at most five minutes.
MID_EPOCH_EVERY_S = 300.0


class TrainingInfo(NamedTuple):
  """The row, seeds, folder and identity of a training.

  Attributes:
    row: the row's name, or 'teacher'; for logs and the progress bar.
    seeds: one seed, or several that train in one compiled function.
    folder: for checkpoints.
    identity: JSON values that determine the result. A folder of another
      identity is replaced.
  """

  row: str
  seeds: tuple[int, ...]
  folder: pathlib.Path
  identity: dict[str, Any]


class Training(NamedTuple):
  """One training, ready to run.

  Attributes:
    info: the row, seeds, folder and identity.
    dataset: what the network learns, on the device or on disk.
    functions: the compiled functions, shared with equal trainings.
    plan: which examples are used, in which phases.
    hyperparameters_of_epoch: maps an epoch's index to its hyperparameters.
    carry_optimizer: whether the optimizer's state goes from a phase to the
      next.
    attacked_examples: how many of the first test examples are attacked after
      training, for robust accuracy.
    bias_classes: classes whose logits get a bias, chosen on the training
      examples that are in no phase.
  """

  info: TrainingInfo
  dataset: data.Dataset
  functions: training_functions.TrainingFunctions
  plan: Plan
  hyperparameters_of_epoch: Callable[[int], Hyperparameters]
  carry_optimizer: bool
  attacked_examples: int
  bias_classes: tuple[int, ...]


def make_training(
  config: ConfigDict,
  context: Context,
  sections: TrainingSections,
  plan: Plan,
  info: TrainingInfo,
  *,
  live_teacher: bool = False,
) -> Training:
  """Returns a training of a config.

  Args:
    config: the closed config of a row.
    context: the data and the functions of the run.
    sections: the sections of the network that trains.
    plan: the plan of the training.
    info: the row, seeds, folder and identity of the training.
    live_teacher: whether the teacher is called in every step.
  """
  spec = training_functions.make_spec(
    config,
    sections,
    context.dataset.task,
    total_steps=plan.num_steps,
    num_seeds=len(info.seeds) if len(info.seeds) > 1 else None,
    live_teacher=live_teacher,
  )
  return Training(
    info=info,
    dataset=context.dataset,
    functions=context.functions_for(spec),
    plan=plan,
    hyperparameters_of_epoch=functools.partial(
      training_functions.hyperparameters_of_epoch,
      sections.optim,
      sections.distill,
    ),
    carry_optimizer=sections.train.carry_optimizer,
    attacked_examples=config.eval.attacked_examples,
    bias_classes=sections.bias_classes,
  )


def run_training(
  training: Training, teacher_inputs: TeacherInputs, log: run_records.MetricsLog
) -> list[TrainingResult]:
  """Trains from the start, or resumes and finishes a training.

  Args:
    training: the training.
    teacher_inputs: the part of a teacher that the training uses.
    log: the log that gets a line for each epoch and seed.
  Returns:
    The trained network of each seed.
  """
  training_folder.make_or_replace(training.info.folder, training.info.identity)
  init_key, train_key = _keys(training)
  state = training.functions.init(init_key)
  checkpoints = checkpoint.Checkpoints(training.info.folder / 'checkpoints')
  state, done_epochs, mid_epoch = _resume(training, checkpoints, state, log)
  log.drop_epochs(training.info.row, training.info.seeds, done_epochs)
  epochs = epoch_loop.train_epochs(
    training.functions.epoch_functions,
    state,
    example_source.make_source(training.plan, training.dataset, teacher_inputs),
    training.plan,
    _loop_options(training, train_key, done_epochs, mid_epoch, log),
  )
  test_logits = None
  # `closing` removes the progress bar before an error is shown.
  with contextlib.closing(epochs):
    for result in epochs:
      state = result.state
      test_logits = _after_epoch(
        training, result, teacher_inputs, checkpoints, log
      )
  checkpoints.close()
  if not log.holds_epochs(
    training.info.row, training.info.seeds, training.plan.num_epochs
  ):
    raise errors.UserError(
      f'{log.path} has lost epochs of {training.info.row} while it trained: '
      'start the same command again, which trains it again'
    )
  if test_logits is None:  # Every epoch was done before a restart.
    test_logits = _predict(training, state, training.dataset.test.images)
  return _make_results(training, state, test_logits, teacher_inputs, log)


def _loop_options(
  training: Training,
  train_key: jax.Array,
  done_epochs: int,
  mid_epoch: epoch_loop.EpochPosition | None,
  log: run_records.MetricsLog,
) -> epoch_loop.LoopOptions:
  """Returns the options of the loop over epochs, see `LoopOptions`."""

  def save_mid_epoch(position: epoch_loop.EpochPosition) -> None:
    log.sync()  # Epoch lines go to disk before the checkpoint: see `_resume`.
    training_folder.save_mid_epoch(training.info.folder, position)

  return epoch_loop.LoopOptions(
    key=train_key,
    hyperparameters_of_epoch=training.hyperparameters_of_epoch,
    done_epochs=done_epochs,
    mid_epoch=mid_epoch,
    save_mid_epoch=save_mid_epoch,
    save_every_s=MID_EPOCH_EVERY_S,
    reset_optimizer=(
      None if training.carry_optimizer else training.functions.reset_optimizer
    ),
    progress_label=_progress_label(training.info),
  )


def _after_epoch(
  training: Training,
  result: epoch_loop.EpochResult,
  teacher_inputs: TeacherInputs,
  checkpoints: checkpoint.Checkpoints,
  log: run_records.MetricsLog,
) -> jax.Array:
  """Tests, logs and, if it is time, saves; returns test logits [S, N, K]."""
  test_logits = _predict(training, result.state, training.dataset.test.images)
  _log_epoch(training, result, test_logits, teacher_inputs, log)
  done_epochs = result.epoch + 1
  if done_epochs == training.plan.num_epochs or checkpoints.is_due():
    log.sync()
    checkpoints.save(done_epochs, result.state)
  return test_logits


def _keys(training: Training) -> tuple[jax.Array, jax.Array]:
  """Returns the keys of initialization and training; [S] keys of S seeds."""
  split = lambda seed: jax.random.split(jax.random.key(seed))
  keys = jnp.stack([split(seed) for seed in training.info.seeds], axis=1)
  if training.functions.num_seeds is None:
    keys = keys[:, 0]
  init_keys, train_keys = keys
  return init_keys, train_keys


def _progress_label(info: TrainingInfo) -> str | None:
  if not processes.is_first():
    return None
  return f'{info.row} seed {",".join(map(str, info.seeds))}'


def _predict(training: Training, state: TrainState, images: Any) -> jax.Array:
  """Returns logits [S, N, K], S = 1 for one network."""
  logits = training.functions.predict(state.variables, images)
  return training.functions.with_seed_axis(logits)


# --- Resuming. ---


def _resume(
  training: Training,
  checkpoints: checkpoint.Checkpoints,
  state: TrainState,
  log: run_records.MetricsLog,
) -> tuple[TrainState, int, epoch_loop.EpochPosition | None]:
  """Returns where to resume: state, finished epochs, mid-epoch checkpoint.

  If the log lacks some of the finished epochs, the training starts again: then
  the mid-epoch checkpoint is removed, and later saves replace the others.
  """
  row = training.info.row
  initial_state = state
  done_epochs, state = checkpoints.restore(state) or (0, state)
  state = mesh.put_replicated(state)
  mid_epoch = training_folder.restore_mid_epoch(
    training.info.folder,
    state,
    training.functions.epoch_functions.zero_totals,
    done_epochs,
  )
  if mid_epoch:
    # It can be newer than the last saved epoch: not every epoch is saved.
    done_epochs = mid_epoch.epoch
  if not log.holds_epochs(row, training.info.seeds, done_epochs):
    logging.warning(
      '%s: trained again from the start, because %s lacks some of the %d '
      'epochs that are done',
      row,
      log.path,
      done_epochs,
    )
    files.remove(training.info.folder / training_folder.MID_EPOCH)
    return mesh.put_replicated(initial_state), 0, None
  if mid_epoch:
    logging.info(
      '%s: resumed after step %d of epoch %d',
      row,
      mid_epoch.step_in_epoch,
      done_epochs,
    )
  elif done_epochs:
    logging.info('%s: resumed after epoch %d', row, done_epochs)
  return state, done_epochs, mid_epoch


# --- Logs and records. ---


def _log_epoch(
  training: Training,
  result: epoch_loop.EpochResult,
  test_logits: jax.Array,
  teacher_inputs: TeacherInputs,
  log: run_records.MetricsLog,
) -> None:
  """Adds a line for each seed."""
  info = training.info
  test_labels = training.dataset.test.labels
  teacher_logits = teacher_inputs.split_logits('test')
  num_seeds = len(info.seeds)  # Seeds of one function share its time equally.
  for i, seed in enumerate(info.seeds):
    test = evaluate.evaluate(test_logits[i], test_labels, teacher_logits)
    sums = training.functions.of_seed(result.sums, i)
    log.append(
      {
        'row': info.row,
        'seed': seed,
        'epoch': result.epoch,
        'phase': result.phase,
        **training_record.epoch_metrics(sums),
        **{f'eval/{name}': value for name, value in test.items()},
        'time/train_s': result.train_s / num_seeds,
        'time/compile_s': result.compile_s / num_seeds,
        'time/teacher_s': result.teacher_s / num_seeds,
      }
    )


def _make_results(
  training: Training,
  state: TrainState,
  test_logits: jax.Array,
  teacher_inputs: TeacherInputs,
  log: run_records.MetricsLog,
) -> list[TrainingResult]:
  """Returns the network and the record of each seed."""
  held_out_logits = None
  if training.bias_classes:
    held_out = training.dataset.train.images[-training.plan.num_held_out :]
    held_out_logits = _predict(training, state, held_out)
  environment_record = environment.describe()
  trained = []
  for i, seed in enumerate(training.info.seeds):
    network = training.functions.of_seed(state, i)
    record = {
      **_seed_record(training, seed, network, test_logits[i], teacher_inputs),
      **training_record.history(log, training.info.row, seed),
      'weights': checkpoint.tree_digest(network.variables),
      'environment': environment_record,
    }
    if held_out_logits is not None:
      record['bias'] = training_record.biased_metrics(
        training.bias_classes,
        held_out_logits[i],
        training_record.bias_targets(
          training.dataset,
          teacher_inputs.split_logits('train'),
          training.plan.num_held_out,
        ),
        test_logits[i],
        training.dataset.test.labels,
      )
    classes = np.argmax(np.asarray(test_logits[i]), axis=-1)
    trained.append(
      TrainingResult(network.variables, record, predicted_classes=classes)
    )
  return trained


def _seed_record(
  training: Training,
  seed: int,
  network: TrainState,
  test_logits: jax.Array,
  teacher_inputs: TeacherInputs,
) -> dict[str, Any]:
  """Returns the metrics and the counts of one seed's network."""
  labels = training.dataset.test.labels
  return {
    'row': training.info.row,
    'seed': seed,
    'test': evaluate.evaluate(
      test_logits, labels, teacher_inputs.split_logits('test')
    ),
    'reliability': evaluate.reliability(test_logits, labels),
    'by_class': {
      **evaluate.by_class(test_logits, labels),
      'trained_on': training_record.examples_by_class(
        training.plan, training.dataset
      ),
    },
    **training_record.count_unlabeled(training.plan, training.dataset),
    **training_record.robust_accuracy(
      training.functions.attack,
      network.variables,
      training.dataset,
      training.attacked_examples,
    ),
    'steps': int(network.step),
    'parameters': costs.count_parameters(network.variables['params']),
  }
