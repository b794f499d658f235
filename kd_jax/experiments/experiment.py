"""A run from start to finish: data, teacher, students, timing, report.

A run is one folder. Nothing is done twice in it: the same command resumes an
interrupted run, adds the seeds that are missing, or reports. Teachers live
beside the runs, in folders named by what determines them, so that runs share
them.
"""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.config_checks import class_checks
from kd_jax.experiments import (
  part_times,
  preparation,
  run_data,
  run_timing,
  students,
)
from kd_jax.experiments.run import make_run
from kd_jax.report import run_report
from kd_jax.runtime import (
  environment,
  errors,
  files,
  json_records,
  mesh,
  processes,
  workers,
)
from kd_jax.teachers import provider
from kd_jax.training import context

Record = dict[str, Any]


def run_experiment(
  config: ConfigDict,
  *,
  workdir: os.PathLike,
  teachers_dir: os.PathLike,
  data_dir: str | os.PathLike | None = None,
  source_dir: str | os.PathLike | None = None,
) -> Record:
  """Completes a run: trains missing students, times them, writes the report.

  A worker trains only its share of the students. The process that prepares a
  run for workers stops before the students.

  Args:
    config: a config from configs/.
    workdir: the run's folder.
    teachers_dir: where teachers are kept.
    data_dir: where prepared data sets are kept; a per-user cache if None.
    source_dir: a folder to look for the data in before downloading.
  Returns:
    The content of the run's run.json.
  Raises:
    UserError: for a mistake in the config, the data or the command, or if a
      training diverges.
  """
  config, configs = preparation.check_config(config)
  workdir, teachers_dir = pathlib.Path(workdir), pathlib.Path(teachers_dir)
  load = preparation.make_loader(config, data_dir, source_dir)
  environment.log_device()
  is_worker = workers.is_worker()
  with (
    files.locked(workdir, shared=is_worker),
    mesh.use(config.mesh.data),
  ):
    record = _open_run(config, workdir)
    return _run_in_locked_folder(
      config, configs, record, workdir, teachers_dir, load
    )


def _run_in_locked_folder(
  config: ConfigDict,
  configs: dict[str, ConfigDict],
  record: Record,
  workdir: pathlib.Path,
  teachers_dir: pathlib.Path,
  load: Callable[[str], data.Dataset],
) -> Record:
  """Completes a run whose folder is locked; returns its record."""
  times = part_times.PartTimes(record)
  with times.measure('data'):
    run_context = context.make_context(config, load)
  context_for = functools.cache(
    functools.partial(context.on_transfer_set, run_context)
  )
  plans = preparation.plan_trainings(config, configs, context_for)
  run_data.check_same(record, workdir, run_context.dataset)
  record['data'] = run_data.describe(run_context.dataset)
  record['warnings'] = []
  _warn(record, class_checks.find_lacking(config, configs, plans, context_for))
  planned = preparation.plan_rows(configs, plans, context_for)
  with times.measure('teacher'):
    teacher = provider.get_teacher(
      config, run_context, teachers_dir, record.get('teacher')
    )
  record['teacher'] = teacher.record
  _warn(record, teacher.warnings)
  if not workers.is_worker():
    # Only now the folder belongs to this config: a mistake in the data or in
    # the teacher's outputs leaves it free for the corrected command.
    _write(workdir, record)
  if workers.is_preparing():
    return record
  if not configs:
    provider.publish(config, run_context.dataset, teacher, workdir)
  run = make_run(planned, context_for, teacher, workdir)
  with times.measure('students'):
    students.train_students(run)
  if workers.is_worker():
    return record
  record['students'], left_out = processes.from_first(
    lambda: students.collect_results(run)
  )
  _warn(record, left_out)
  _write(workdir, record)
  with times.measure('timing'):
    run_timing.time_run(config, run, record)
  record['status'] = 'complete'
  _write(workdir, record)
  processes.from_first(lambda: run_report.write(workdir, record))
  return record


def _warn(record: Record, warnings: list[str]) -> None:
  """Adds warnings to a run's record, and shows them before hours are spent."""
  record['warnings'] += warnings
  # The process that prepares a run for workers shows them.
  if processes.is_first() and not workers.is_worker():
    for warning in warnings:
      logging.warning('%s', warning)


def _write(workdir: pathlib.Path, record: Record) -> None:
  json_records.write(workdir / 'run.json', record)


def _open_run(config: ConfigDict, workdir: pathlib.Path) -> Record:
  """Returns the run's record, new or continued.

  Raises:
    UserError: if the folder belongs to another config.
  """
  recorded = config_lib.recorded(config)
  record = _read_run(workdir, recorded)
  if record is None:
    record = {'environment': environment.describe()}
  record |= {
    'status': 'running',
    'name': config.name,
    'command': environment.command(),
    'config': recorded,
  }
  return record


def _read_run(workdir: pathlib.Path, recorded: Record) -> Record | None:
  """Returns the record of a run that goes on; None for a new run.

  Args:
    workdir: the run's folder.
    recorded: the config as a record keeps it.
  Raises:
    UserError: if the folder holds a run of another config, or of an unknown
      one.
  """
  path = workdir / 'run.json'
  record, problem = json_records.find(path, json_records.RUN)
  has_config = (
    record is not None
    and json_records.mismatch(record, json_records.RUN) is None
  )
  differences = []
  if record is not None and has_config:
    old = config_lib.rename_fields(record['config'])
    new_fixed, old_fixed = map(config_lib.fixed_fields, (recorded, old))
    differences = list(files.differences(new_fixed, old_fixed, 'config'))
  # If the checksum alone is wrong, the config says whose the students are.
  is_known = has_config and not (differences and problem)
  if not is_known and processes.from_first((workdir / 'students').exists):
    raise errors.UserError(
      f'{workdir} holds students but no sound run.json '
      f'({problem or "it is missing"}), so what they were trained with is '
      'unknown: restore run.json, remove the folder, or choose another '
      'with --workdir'
    )
  if problem is not None:
    logging.warning('%s is written anew: %s', path, problem)
    return None
  if differences:
    raise errors.UserError(
      f'{workdir} holds a run of another config:\n  '
      + '\n  '.join(differences)
      + '\nChoose another folder with --workdir, or remove this one'
    )
  return record
