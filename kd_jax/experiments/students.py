"""Trains the students of a run: row by row, seed by seed."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data, methods
from kd_jax.data import preprocessing
from kd_jax.evaluation import evaluate, inference, predictors
from kd_jax.experiments.rows import Row, RunRows
from kd_jax.models import apply, from_config
from kd_jax.runtime import files, locks, processes, run_records
from kd_jax.teachers import output_store, user_logits
from kd_jax.teachers.teacher import Teacher
from kd_jax.training import (
  example_source,
  plan,
  train,
  training_folder,
  training_record,
)

# The longest pause, in seconds, before a worker looks again for an untrained
# student.
_POLL_S = 1.0


def train_students(rows: RunRows) -> None:
  """Trains every student of a run that is not done yet.

  Workers share the students. A row that another worker is busy with, or whose
  teacher another worker is training, is tried again later.
  """
  left = [
    row for row in rows.by_name.values() if row.same_training_as == row.name
  ]
  awaited = ''
  wait = locks.Wait()
  while left := [row for row in left if not _train_row(rows, row)]:
    before = awaited
    awaited = ', '.join(
      f'{row.name} (seeds {_missing_seeds(rows, row)})' for row in left
    )
    if awaited != before:  # The limit holds for a wait without any progress.
      wait = locks.Wait(longest_poll_s=_POLL_S)
    wait.pause(f'other workers, which train {awaited}')


def collect_results(rows: RunRows) -> tuple[list[dict[str, Any]], list[str]]:
  """Collects the records of all finished students.

  A row that is the same training as an earlier row has the records of that
  row, with 'same_as' in them.

  Returns:
    The records in the order of the rows, and a line for each folder whose
    student is another one than the run's.
  """
  results = []
  left_out = {}
  for row in rows.by_name.values():
    renamed = {'row': row.name}
    if row.same_training_as != row.name:
      renamed['same_as'] = row.same_training_as
    found = {}
    for folder in sorted(rows.folder(row).glob('seed-*')):
      result = training_folder.read_result(folder)
      if result is None:
        continue
      seed = result['seed']
      if folder.name == f'seed-{seed}' and training_folder.is_of(
        folder, row.identity
      ):
        found[seed] = result | renamed
      else:
        left_out[folder] = (
          f'{folder.relative_to(rows.workdir)} is left out: it was trained on '
          'other data, by another teacher, with other settings or with another '
          'seed; a command with its seed trains it again'
        )
    results += [found[seed] for seed in sorted(found)]
  return results, list(left_out.values())


def _train_row(rows: RunRows, row: Row) -> bool:
  """Trains the seeds of a row that are missing; returns whether none is left.

  Skips seeds that another worker has locked.
  """
  folder = rows.folder(row)
  files.check_in_place(rows.workdir / 'run.json')
  missing = _missing_seeds(rows, row)
  if not missing:
    return True
  for seeds in _groups(
    missing, _seeds_per_program(rows, row, missing), row, folder
  ):
    with _held([folder / f'seed-{seed}' for seed in seeds]) as held:
      # Another worker may have trained them in the meantime.
      if not held or not set(seeds) & set(_missing_seeds(rows, row)):
        continue
      teacher = _teacher_for_seed(rows, row, seeds[0])
      if teacher is not None:
        _train_seeds(rows, row, teacher, seeds)
  return not _missing_seeds(rows, row)


def _missing_seeds(rows: RunRows, row: Row) -> list[int]:
  first = row.config.first_seed
  folder = rows.folder(row)
  return [
    seed
    for seed in range(first, first + row.config.seeds)
    if not training_folder.is_done(folder / f'seed-{seed}', row.identity, seed)
  ]


def _seeds_per_program(rows: RunRows, row: Row, missing: list[int]) -> int:
  """Returns how many seeds train in one compiled function."""
  is_on_disk = data.is_on_disk(rows.context(row).dataset.train)
  if row.config.teacher.rows or is_on_disk:
    return 1  # Each seed has its own teacher, or its own order of examples.
  if row.config.seeds_per_program:
    return row.config.seeds_per_program
  # On a CPU, seeds in one function take as long as one after the other.
  return 1 if jax.default_backend() == 'cpu' else len(missing)


def _groups(
  missing: list[int], size: int, row: Row, folder: pathlib.Path
) -> list[tuple[int, ...]]:
  """Returns the seeds that train in one compiled function, by function.

  If a stopped run had trained some seeds together, they stay together, even if
  some are done: a function of another number of seeds gives results that differ
  in the last bits.
  """
  groups = []
  left = list(missing)
  for name in processes.from_first(
    lambda: sorted(path.name for path in folder.glob('seed-*-*'))
  ):
    seeds = tuple(map(int, name.split('-')[1:]))
    same = training_folder.is_of(folder / name, row.identity)
    if same and set(seeds) & set(left):
      groups.append(seeds)
      left = [seed for seed in left if seed not in seeds]
  for first in range(0, len(left), size):
    groups.append(tuple(left[first : first + size]))
  return groups


@contextlib.contextmanager
def _held(folders: list[pathlib.Path]) -> Iterator[bool]:
  """Locks folders of students; yields False if a worker has one of them."""
  with contextlib.ExitStack() as held:
    try:
      for folder in folders:
        held.enter_context(files.locked(folder))
    except locks.Busy:
      yield False
    else:
      yield True


def _train_seeds(
  rows: RunRows, row: Row, teacher: Teacher, seeds: tuple[int, ...]
) -> None:
  """Trains seeds of a row; several train in one compiled function."""
  folder = rows.folder(row)
  config = row.config
  run_context = rows.context(row)
  name = f'seed-{"-".join(map(str, seeds))}'
  info = train.TrainingInfo(row.name, seeds, folder / name, row.identity)
  row_training = train.make_training(
    config,
    run_context,
    config_lib.student_sections(config),
    row.planned.plan,
    info,
    live_teacher=row.planned.live_teacher,
  )
  students = train.run_training(
    row_training,
    _teacher_inputs(row, teacher, run_context.dataset),
    run_records.MetricsLog(
      rows.workdir / 'metrics.jsonl', run_context.on_epoch
    ),
  )
  for student in students:
    seed = student.record['seed']
    seed_folder = folder / f'seed-{seed}'
    if training_folder.is_done(seed_folder, row.identity, seed):
      continue  # An earlier run has finished this seed.
    if from_config.is_quantized(config.student):
      student = _quantize(student, config, run_context.dataset, teacher)
    record = training_folder.finish(student, seed_folder, row.identity)
    logging.info(
      '%s seed %d: test accuracy %.2f%%, trained in %.1f s',
      row.name,
      seed,
      100 * record['test']['accuracy'],
      record['time']['train_s'],
    )
  # A training of one seed uses the student's folder. A training of several
  # seeds has a separate folder, which held only checkpoints.
  if len(seeds) > 1:
    files.remove(info.folder)


def _teacher_inputs(
  row: Row, teacher: Teacher, dataset: data.Dataset
) -> example_source.TeacherInputs:
  """Returns what a row's training takes from its teacher."""
  config = row.config
  inputs = example_source.TeacherInputs(logits=teacher.logits)
  if row.planned.live_teacher:
    return inputs._replace(variables=teacher.variables)
  if not config_lib.method_options(config.distill):
    return inputs
  if config.train.augmentation != 'none':
    assert teacher.network is not None  # See `teaching_checks`.
    view_logits = teacher.network.view_store(config.train.augmentation)
    inputs = inputs._replace(lookup_view_logits=view_logits)
  if row.planned.teacher_layers:
    outputs = teacher.network or teacher.features
    assert outputs is not None  # See `teaching_checks`.
    indices = row.planned.plan.example_indices
    if indices is None:
      indices = np.arange(len(dataset.train.labels))
    features: dict[str, np.ndarray] = {}
    for bits, shapes in row.planned.teacher_layers.items():
      stored = outputs.features(
        tuple(shapes), bits, plan.name_of_examples(config.train), indices
      )
      features |= {
        methods.stored_layer(layer, bits > 0): stored[layer] for layer in shapes
      }
    inputs = inputs._replace(features=features)
  return inputs


def _quantize(
  student: training_record.TrainingResult,
  config: ConfigDict,
  dataset: data.Dataset,
  teacher: Teacher,
) -> training_record.TrainingResult:
  """Adds the deployed network of a quantized student.

  The record gets its metrics under the key `run_records.QUANTIZED`.
  'trained_agreement': the share of test images on which the integer network and
  the float network predict the same class.
  """
  images, labels = dataset.test.images, dataset.test.labels
  quantized = from_config.quantize_weights(config.student, student.variables)
  network, variables = from_config.deploy(
    config.student, dataset.task, quantized
  )
  predict = inference.make_batched_predict(
    apply.make_apply(network),
    preprocessing.unfused(config.data.scaling),
    batch_size=config.eval.batch_size,
  )
  logits = predict(variables, images)
  float_logits = _make_student_predict(config, dataset)(
    student.variables, images
  )
  same = jnp.argmax(logits, axis=-1) == jnp.argmax(float_logits, axis=-1)
  metrics = evaluate.evaluate(logits, labels, teacher.logits.get('test'))
  metrics |= {'trained_agreement': float(jnp.mean(same))}
  return student._replace(
    record=student.record | {run_records.QUANTIZED: metrics},
    quantized=quantized,
  )


def _make_student_predict(
  config: ConfigDict, dataset: data.Dataset
) -> inference.PredictFn:
  return predictors.make_predict(
    config.student,
    dataset.num_classes,
    config.data.scaling,
    config.eval.batch_size,
  )


# --- Rows as teachers. ---


def _teacher_for_seed(rows: RunRows, row: Row, seed: int) -> Teacher | None:
  """Returns what teaches a seed of a row: the run's teacher, or earlier rows.

  Returns None while another worker trains one of those rows.
  """
  section = row.config.teacher
  transfer_set = config_lib.transfer_set_name(row.config)
  teacher = rows.teacher(row)
  if not (section.rows or section.class_shift):
    return teacher
  outputs = []
  for name in section.rows or ('teacher',):
    if name == 'teacher':
      outputs.append(teacher.logits)
      continue
    other = rows.by_name[name]
    folder = rows.folder(other) / f'seed-{seed}'
    if not training_folder.is_done(folder, other.identity, seed):
      return None
    outputs.append(
      _student_outputs(
        other.config, rows.context(row).dataset, transfer_set, folder
      )
    )
  logits = user_logits.average(outputs, section.average)
  return teacher.with_logits(
    {
      split: jnp.roll(array, section.class_shift, axis=-1)
      for split, array in logits.items()
    }
  )


def _student_outputs(
  config: ConfigDict,
  dataset: data.Dataset,
  transfer_set: str,
  folder: pathlib.Path,
) -> dict[str, np.ndarray]:
  """Returns a trained student's logits [N, K] by split; stores them beside it.

  Args:
    config: the closed config of the student's row.
    dataset: the data set of the row that the student teaches.
    transfer_set: the transfer set of the row that the student teaches.
    folder: the student's folder.
  """
  result = training_folder.read_result(folder)
  assert result is not None  # See `training_folder.is_done`.
  transfer_set = dataset.unlabeled or transfer_set

  def compute():
    variables = training_folder.restore_trained(
      folder, config.student, dataset.task
    )
    predict = _make_student_predict(config, dataset)
    return {
      name: np.asarray(predict(variables, split.images))
      for name, split in (('train', dataset.train), ('test', dataset.test))
    }

  store = folder / '-'.join(['outputs', *filter(None, [transfer_set])])
  with files.locked(store, wait=True):
    return output_store.load_or_compute(
      store,
      {
        'weights': result['weights'],
        'data_digest': dataset.digest,
        'transfer_set': transfer_set,
      },
      compute,
    )
