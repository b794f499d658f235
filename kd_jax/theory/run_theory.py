"""Computes a part of the paper's theory and keeps the results in a folder."""

import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax.config_checks import theory_checks
from kd_jax.report import run_report
from kd_jax.runtime import environment, errors, files, json_records
from kd_jax.theory import bayes_teacher, lemma1, lemma2, tables_and_curves

# Functions of a config to JSON values, by the config's field `theory`.
COMPUTATIONS: dict[str, Callable[[ConfigDict], tables_and_curves.Results]] = {
  'lemma1': lemma1.run_lemma1,
  'lemma2': lemma2.run_lemma2,
  'bayes_teacher': bayes_teacher.run_bayes_teacher,
}


def run_theory(config: ConfigDict, *, workdir: os.PathLike) -> dict[str, Any]:
  """Computes results, unless the folder holds them, and reports them.

  Args:
    config: a config of configs/theory.py with the field `theory`.
    workdir: the folder for run.json, the report and the plots.
  Returns:
    The content of run.json.
  Raises:
    UserError: for a mistake in the config, or if the folder holds a run of
      another config.
  """
  theory_checks.check_theory(config, COMPUTATIONS)
  workdir = pathlib.Path(workdir)
  with files.locked(workdir):
    record = json_records.read(workdir / 'run.json', json_records.RUN)
    if record is None:
      record = _compute(config)
      json_records.write(workdir / 'run.json', record)
    else:
      _check_same_config(config, record, workdir)
    run_report.write(workdir, record)
  return record


def _compute(config: ConfigDict) -> dict[str, Any]:
  """Computes results and returns the content of their run.json."""
  environment.log_device()
  start = time.perf_counter()
  results = COMPUTATIONS[config.theory](config)
  return {
    'name': config.name,
    'command': environment.command(),
    'config': config_lib.to_json(config),
    'environment': environment.describe(),
    'seconds': time.perf_counter() - start,
    'results': results,
    'status': 'complete',
  }


def _check_same_config(
  config: ConfigDict, record: dict[str, Any], workdir: pathlib.Path
) -> None:
  recorded = config_lib.rename_fields(record['config'])
  differences = list(
    files.differences(config_lib.to_json(config), recorded, 'config')
  )
  if differences:
    raise errors.UserError(
      f'{workdir} holds a run of another config:\n  '
      + '\n  '.join(differences)
      + '\nChoose another folder with --workdir, or remove this folder'
    )
