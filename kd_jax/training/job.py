"""Runs one training: resumes it, trains, logs, saves and describes it."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from kd_jax import data
from kd_jax.evaluation import evaluate
from kd_jax.models import costs
from kd_jax.runtime import environment, mesh, processes, run_records
from kd_jax.training import checkpoint, fit, job_folder, outcome
from kd_jax.training.batch import Examples
from kd_jax.training.factory import CompiledTraining
from kd_jax.training.outcome import Trained
from kd_jax.training.plan import Plan
from kd_jax.training.step import Hyperparameters, TrainState

PyTree = Any

# An epoch that takes longer is saved in between, so that no more is lost.
PARTIAL_EVERY_S = 300.0


class Target(NamedTuple):
  """Whose training it is, and where it is kept.

  Attributes:
    label: the row's name, or 'teacher'; for logs and the progress bar.
    seeds: one seed, or several that train in one compiled function.
    folder: for checkpoints.
    identity: JSON values that determine the result. What a folder holds of
      another identity is removed.
  """

  label: str
  seeds: tuple[int, ...]
  folder: pathlib.Path
  identity: dict[str, Any]


class Job(NamedTuple):
  """A training.

  Attributes:
    target: whose it is, and where it is kept.
    compiled: its compiled functions.
    plan: which examples it uses, in which fits.
    hyperparameters: maps an epoch's index to its hyperparameters.
    carry_optimizer: whether the optimizer's state goes from a fit to the next.
    attacked_examples: how many of the first test examples are attacked after
      training, for robust accuracy.
    bias_classes: classes whose logits get a bias, chosen on the held-out part
      of the training split.
  """

  target: Target
  compiled: CompiledTraining
  plan: Plan
  hyperparameters: Callable[[int], Hyperparameters]
  carry_optimizer: bool
  attacked_examples: int
  bias_classes: tuple[int, ...]


class TeacherInputs(NamedTuple):
  """What a training takes from a teacher.

  Attributes:
    logits: [N, K] by split, on the device; None for training on labels alone.
      Without the test split, metrics that compare with the teacher are left
      out.
    variables: the variables of a live teacher, called in every step.
    features: stored features of the plan's examples, by layer.
    view_logits: maps (indices [M], views [M]) of training examples to stored
      logits [M, K].
  """

  logits: dict[str, jax.Array] | None = None
  variables: PyTree | None = None
  features: dict[str, np.ndarray] | None = None
  view_logits: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def run_job(
  job: Job,
  dataset: data.Dataset,
  teacher: TeacherInputs,
  log: run_records.MetricsLog,
) -> list[Trained]:
  """Trains a job, or resumes and finishes it.

  Args:
    job: the training.
    dataset: on the device.
    teacher: what the training takes from a teacher.
    log: gets a line for each epoch and seed.
  Returns:
    The trained network of each seed.
  """
  job_folder.claim(job.target.folder, job.target.identity)
  init_key, train_key = _keys(job)
  state = job.compiled.init(init_key)
  checkpoints = checkpoint.Checkpoints(job.target.folder / 'checkpoints')
  state, done_epochs, partial = _resume(job, checkpoints, state)
  _drop_undone(log, job.target, done_epochs)
  epochs = fit.fit(
    job.compiled.epoch,
    state,
    make_source(job, dataset, teacher),
    job.plan.phases,
    fit.FitOptions(
      key=train_key,
      hyperparameters=job.hyperparameters,
      done_epochs=done_epochs,
      partial=partial,
      partial_every_s=PARTIAL_EVERY_S,
      reset_optimizer=(
        None if job.carry_optimizer else job.compiled.reset_optimizer
      ),
      progress=_progress_label(job.target),
    ),
  )
  test_logits = None
  num_epochs = sum(phase.epochs for phase in job.plan.phases)
  # Closing the epochs takes the progress bar away before an error is shown.
  with contextlib.closing(epochs):
    for result in epochs:
      if isinstance(result, fit.Partial):
        job_folder.save_partial(job.target.folder, result)
        continue
      state = result.state
      test_logits = _predict(job, state, dataset.test.images)
      _log_epoch(log, job.target, result, test_logits, dataset, teacher)
      done_epochs = result.epoch + 1
      if done_epochs == num_epochs or checkpoints.is_due():
        checkpoints.save(done_epochs, state)
  checkpoints.close()
  if test_logits is None:  # Every epoch was done before a restart.
    test_logits = _predict(job, state, dataset.test.images)
  return _describe(job, state, test_logits, dataset, teacher, log)


def _keys(job: Job) -> tuple[jax.Array, jax.Array]:
  """Returns the keys of initialization and training; [S] keys of S seeds."""
  keys = [jax.random.split(jax.random.key(seed)) for seed in job.target.seeds]
  init_keys, train_keys = jnp.stack(keys, axis=1)
  if job.compiled.num_seeds is None:
    return init_keys[0], train_keys[0]
  return init_keys, train_keys


def _progress_label(target: Target) -> str | None:
  if not processes.is_first():
    return None
  return f'{target.label} seed {",".join(map(str, target.seeds))}'


def _predict(job: Job, state: TrainState, images: Any) -> jax.Array:
  """Returns logits [S, N, K], S = 1 for one network."""
  logits = job.compiled.predict(state.variables, images)
  return logits[None] if job.compiled.num_seeds is None else logits


# --- Where a training's examples come from. ---


def make_source(
  job: Job, dataset: data.Dataset, teacher: TeacherInputs
) -> fit.Source:
  """Returns where a job's training takes its examples from.

  Args:
    job: the training.
    dataset: on the device, or on disk.
    teacher: what the training takes from a teacher.
  """
  logits = None
  if teacher.view_logits is None and teacher.variables is None:
    logits = _logits_of(teacher, 'train')
  examples = Examples(dataset.train.images, dataset.train.labels, logits)
  variables = mesh.put_replicated(teacher.variables)
  if data.is_on_disk(dataset.train):
    reader = fit.ExampleReader(functools.partial(_read, job, examples))
    return fit.Source(reader, variables)
  indices = job.plan.examples
  if indices is not None:
    examples = jax.tree.map(lambda array: array[indices], examples)
  if teacher.features is not None:
    features = jax.device_put(teacher.features)
    examples = examples._replace(teacher_features=features)
  view_logits = None
  if teacher.view_logits is not None:
    if indices is None:
      indices = np.arange(len(dataset.train.labels))
    view_logits = functools.partial(teacher.view_logits, indices)
  return fit.Source(mesh.put_sharded(examples), variables, view_logits)


def _read(
  job: Job, examples: Examples, order: np.ndarray
) -> Iterator[Examples]:
  """Yields this process's share of batches that are read from disk.

  Args:
    job: the training.
    examples: of the training split; the images are on disk.
    order: positions among the plan's examples, in whole batches.
  """
  size = job.plan.batch_size // processes.count()
  indices = order if job.plan.examples is None else job.plan.examples[order]
  share = np.concatenate(
    [
      mesh.process_share(indices, start, size)
      for start in range(0, len(indices) // processes.count(), size)
    ]
  )
  labels = np.asarray(examples.labels)
  for i, images in enumerate(examples.images.batches(share, size)):
    index = share[i * size : (i + 1) * size]
    logits = examples.teacher_logits
    yield Examples(
      images, labels[index], None if logits is None else logits[index]
    )


# --- Resuming. ---


def _resume(
  job: Job, checkpoints: checkpoint.Checkpoints, state: TrainState
) -> tuple[TrainState, int, fit.Partial | None]:
  """Returns the state to go on with, the epochs done, and a partial epoch."""
  label = job.target.label
  done_epochs, state = checkpoints.restore(state) or (0, state)
  state = mesh.put_replicated(state)
  partial = job_folder.restore_partial(
    job.target.folder, state, job.compiled.epoch.zero_sums, done_epochs
  )
  if partial:
    # Newer than the last epoch's checkpoint, if saves take longer than epochs.
    done_epochs = partial.epoch
    logging.info(
      '%s: resumed after step %d of epoch %d', label, partial.step, done_epochs
    )
  elif done_epochs:
    logging.info('%s: resumed after epoch %d', label, done_epochs)
  return state, done_epochs, partial


# --- What is written down. ---


def _drop_undone(
  log: run_records.MetricsLog, target: Target, done_epochs: int
) -> None:
  """Removes the lines of epochs that are going to be done again."""
  log.drop(
    lambda line: (
      line['row'] == target.label
      and line['seed'] in target.seeds
      and line['epoch'] >= done_epochs
    )
  )


def _log_epoch(
  log: run_records.MetricsLog,
  target: Target,
  result: fit.EpochResult,
  test_logits: jax.Array,
  dataset: data.Dataset,
  teacher: TeacherInputs,
) -> None:
  """Adds a line for each seed."""
  share = len(target.seeds)  # Seeds of one function share its time equally.
  for i, seed in enumerate(target.seeds):
    test = evaluate.evaluate(
      test_logits[i], dataset.test.labels, _logits_of(teacher, 'test')
    )
    log.append(
      {
        'row': target.label,
        'seed': seed,
        'epoch': result.epoch,
        'phase': result.phase,
        **outcome.epoch_metrics(result.sums, i),
        **{f'eval/{name}': value for name, value in test.items()},
        'time/train_s': result.train_s / share,
        'time/compile_s': result.compile_s / share,
        'time/teacher_s': result.teacher_s / share,
      }
    )


def _logits_of(teacher: TeacherInputs, split: str) -> jax.Array | None:
  return (teacher.logits or {}).get(split)


def _describe(
  job: Job,
  state: TrainState,
  test_logits: jax.Array,
  dataset: data.Dataset,
  teacher: TeacherInputs,
  log: run_records.MetricsLog,
) -> list[Trained]:
  """Returns each seed's network with its record."""
  label, labels = job.target.label, dataset.test.labels
  held_out_logits = None
  if job.bias_classes:
    held_out = dataset.train.images[-job.plan.num_held_out :]
    held_out_logits = _predict(job, state, held_out)
  surroundings = environment.describe()
  trained = []
  for i, seed in enumerate(job.target.seeds):
    network = state
    if job.compiled.num_seeds is not None:
      network = jax.tree.map(lambda leaf, i=i: leaf[i], state)
    variables = network.variables
    robust = outcome.robust_accuracy(
      job.compiled.attack, variables, dataset, job.attacked_examples
    )
    record = {
      'row': label,
      'seed': seed,
      'test': evaluate.evaluate(
        test_logits[i], labels, _logits_of(teacher, 'test')
      ),
      'reliability': evaluate.reliability(test_logits[i], labels),
      'by_class': {
        **evaluate.by_class(test_logits[i], labels),
        'trained_on': outcome.examples_by_class(job.plan, dataset),
      },
      **robust,
      'steps': int(network.step),
      'parameters': costs.count_parameters(variables['params']),
      **outcome.history(log, label, seed),
      'weights': checkpoint.tree_digest(variables),
      'environment': surroundings,
    }
    if held_out_logits is not None:
      judges = outcome.bias_judges(
        dataset,
        _logits_of(teacher, 'train'),
        job.plan.num_held_out,
      )
      record['bias'] = outcome.biased_metrics(
        job.bias_classes, held_out_logits[i], judges, test_logits[i], labels
      )
    trained.append(Trained(variables, record))
  return trained
