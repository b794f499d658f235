"""A run from start to finish: data, teacher, students, timing, report.

A run is one folder. Nothing is done twice in it: the same command resumes an
interrupted run, adds the seeds that are missing, or reports. Teachers live
beside the runs, in folders named by what determines them, so that runs share
them.
"""

import functools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import logging
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.config_checks import (
  class_checks,
  image_checks,
  traced_checks,
  unused_fields,
)
from kd_jax.experiments import (
  data_record,
  network_timing,
  part_times,
  run_checks,
  student_errors,
  students,
)
from kd_jax.experiments.rows import make_rows, plan_rows
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
from kd_jax.runtime.callbacks import Callback, Callbacks
from kd_jax.teachers import provider, publishing
from kd_jax.training import context

Record = dict[str, Any]


def run_config(
  config: ConfigDict,
  *,
  workdir: os.PathLike,
  teachers_dir: os.PathLike,
  data_dir: str | os.PathLike | None = None,
  source_dir: str | os.PathLike | None = None,
  callbacks: Sequence[Callback] = (),
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
    callbacks: follow the run.
  Returns:
    The content of the run's run.json.
  Raises:
    UserError: for a mistake in the config, the data or the command, or if a
      training diverges.
  """
  load = run_checks.make_loader(config, data_dir, source_dir)
  return run_config_on_data(
    config,
    load,
    RunOptions(
      pathlib.Path(workdir),
      pathlib.Path(teachers_dir),
      data_dir=data_dir,
      callbacks=tuple(callbacks),
    ),
  )


class RunOptions(NamedTuple):
  """The options of a run: folders, record, callbacks.

  Attributes:
    workdir: the run's folder.
    teachers_dir: where teachers are kept.
    data_dir: where prepared data sets are kept; a per-user cache if None.
    with_report: whether the run's folder gets a report.
    command: what starts the run, for its record; '' for the command line.
    callbacks: follow the run.
    set_fields: the dotted names of the config's fields that the user has set;
      those that have no effect are named.
    warnings: the caller's reasons to doubt the results.
    rephrase: maps a warning to the words of the caller, who may have no config.
  """

  workdir: pathlib.Path
  teachers_dir: pathlib.Path
  data_dir: str | os.PathLike | None = None
  with_report: bool = True
  command: str = ''
  callbacks: tuple[Callback, ...] = ()
  set_fields: tuple[str, ...] = ()
  warnings: tuple[str, ...] = ()
  rephrase: Callable[[str], str] = str


def run_config_on_data(
  config: ConfigDict,
  load: Callable[[str], data.Dataset],
  options: RunOptions,
) -> Record:
  """Completes a run on the data that `load` returns; see `run_config`.

  Args:
    config: a config from configs/.
    load: loads a data set by its name.
    options: where and how the run is recorded.
  Returns:
    The content of the run's run.json.
  Raises:
    UserError: see `run_config`.
  """
  config, row_configs = run_checks.close_and_check(config)
  environment.log_device()
  is_worker = workers.is_worker()
  with (
    files.locked(options.workdir, shared=is_worker),
    mesh.use(config.mesh.data),
  ):
    record = new_or_stored_record(config, options)
    callbacks = Callbacks(options.callbacks)
    callbacks.on_start(record['config'], options.workdir)
    part_times.add_earlier(record)
    with part_times.measure(record, 'data'):
      run_context = context.make_context(config, load, options.data_dir)
      run_context = run_context._replace(on_epoch=callbacks.on_epoch)
    record = _run_in_locked_folder(
      config, row_configs, record, options, run_context
    )
    callbacks.on_end(record)
    return record


def _run_in_locked_folder(
  config: ConfigDict,
  row_configs: dict[str, ConfigDict],
  record: Record,
  options: RunOptions,
  run_context: context.Context,
) -> Record:
  """Completes a run whose folder is locked; returns its record."""
  workdir = options.workdir
  context_for = functools.cache(
    functools.partial(context.on_transfer_set, run_context)
  )
  plans = run_checks.check_run_and_plan(config, row_configs, context_for)
  data_record.check_same(record, workdir, run_context.dataset)
  record['data'] = data_record.describe(run_context.dataset)
  record['warnings'] = []
  warn = functools.partial(_warn, record, options.rephrase)
  warn(options.warnings)
  warn(unused_fields.find(config, row_configs, options.set_fields))
  warn(image_checks.find_doubts(run_context.dataset))
  warn(class_checks.find_lacking(config, row_configs, plans, context_for))
  warn(traced_checks.find_weaknesses(row_configs, run_context.dataset.task))
  planned = plan_rows(row_configs, plans, context_for)
  with part_times.measure(record, 'teacher'):
    teacher = provider.get_teacher(
      config, run_context, options.teachers_dir, record.get('teacher')
    )
  record['teacher'] = teacher.record
  warn(teacher.warnings)
  if not workers.is_worker():
    # Only now the folder belongs to this config: a mistake in the data or in
    # the teacher's outputs leaves it free for the corrected command.
    _write(workdir, record)
  if workers.is_preparing():
    return record
  if not row_configs:  # A recipe that trains a teacher alone.
    publishing.publish(config, run_context.dataset, teacher, workdir)
  rows = make_rows(planned, context_for, teacher, workdir)
  with part_times.measure(record, 'students'):
    students.train_students(rows)
  if workers.is_worker():
    return record
  record['students'], left_out = processes.from_first(
    lambda: students.collect_results(rows)
  )
  warn(left_out)
  _write_again(workdir, record)
  with part_times.measure(record, 'timing'):
    network_timing.time_run(config, rows, record)
  record['status'] = 'complete'
  _write_again(workdir, record)
  if options.with_report:
    processes.from_first(lambda: student_errors.write(rows, record['students']))
    processes.from_first(lambda: run_report.write(workdir, record))
  return record


def _warn(
  record: Record, rephrase: Callable[[str], str], warnings: Sequence[str]
) -> None:
  """Adds warnings to a run's record, and shows them before hours are spent."""
  warnings = [rephrase(warning) for warning in warnings]
  record['warnings'] += warnings
  # The process that prepares a run for workers shows them.
  if processes.is_first() and not workers.is_worker():
    for warning in warnings:
      logging.warning('%s', warning)


def _write(workdir: pathlib.Path, record: Record) -> None:
  json_records.write(workdir / 'run.json', record)


def _write_again(workdir: pathlib.Path, record: Record) -> None:
  """Rewrites run.json; raises an error if the folder was moved or removed."""
  files.check_in_place(workdir / 'run.json')
  _write(workdir, record)


def new_or_stored_record(config: ConfigDict, options: RunOptions) -> Record:
  """Returns the run's record, new or continued.

  Args:
    config: the run's config, with open rows.
    options: where and how the run is recorded.
  Raises:
    UserError: if the folder belongs to another config.
  """
  recorded = config_lib.recorded(config)
  record = _read_run(options.workdir, recorded)
  if record is None:
    record = {'environment': environment.describe()}
  record |= {
    'status': 'running',
    'name': config.name,
    'command': options.command or environment.command(),
    'config': recorded,
  }
  return record


def _read_run(workdir: pathlib.Path, recorded: Record) -> Record | None:
  """Returns the record of a run that goes on; None for a new run.

  Args:
    workdir: the run's folder.
    recorded: the config as a record keeps it.
  Raises:
    UserError: if the folder holds a run of another config, or students of an
      unknown config.
  """
  path = workdir / 'run.json'
  record, problem = json_records.find(path, json_records.RUN)
  if record is None and problem is None:  # There is no run.json.
    _refuse_unknown_students(workdir, 'it is missing')
    return None
  if problem is not None:  # It was damaged, edited or written by other code.
    # If the config is the same, the students in the folder are this run's: each
    # has a checksum of its record.
    if not _has_same_config(record, recorded):
      _refuse_unknown_students(workdir, problem)
    logging.warning('%s is written anew: %s', path, problem)
    return None
  assert record is not None  # A record of another shape is a problem.
  differences = _compare_configs(record['config'], recorded)
  if differences:
    raise errors.UserError(
      f'{workdir} holds a run of another config:\n  '
      + '\n  '.join(differences)
      + '\nChoose another folder with --workdir, or remove this one'
    )
  return record


def _has_same_config(record: Any, recorded: Record) -> bool:
  """Returns whether a damaged record still has the config, whole and equal."""
  if json_records.mismatch(record, json_records.RUN) is not None:
    return False
  return not _compare_configs(record['config'], recorded)


def _compare_configs(old: Record, new: Record) -> list[str]:
  """Returns a line for each changed field, among those that may not change."""
  old = config_lib.rename_fields(old)
  return list(
    files.differences(
      config_lib.fixed_fields(new), config_lib.fixed_fields(old), 'config'
    )
  )


def _refuse_unknown_students(workdir: pathlib.Path, problem: str) -> None:
  """Raises an error if a folder without a sound run.json holds students."""
  if processes.from_first((workdir / 'students').exists):
    raise errors.UserError(
      f'{workdir} holds students but no sound run.json ({problem}), so what '
      'they were trained with is unknown: restore run.json, remove the folder, '
      'or choose another with --workdir'
    )
