"""Times the networks that a run has trained."""

from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax.benchmark import latency, training_steps
from kd_jax.experiments.rows import RunRows
from kd_jax.models import apply, from_config
from kd_jax.runtime import environment, files, processes
from kd_jax.teachers.teacher import Teacher
from kd_jax.training import training_folder

Record = dict[str, Any]


def time_run(config: ConfigDict, rows: RunRows, record: Record) -> None:
  """Adds 'benchmark' to a run's record, unless it is there already.

  Args:
    config: the run's config.
    rows: the rows of the run.
    record: the run's record, with its students; changed in place.
  """
  if not rows.by_name or not config.benchmark.enabled:
    return
  if processes.count() > 1:
    logging.warning(
      'nothing is timed by several processes: the same command with one '
      'process, and the same folder, adds the benchmark'
    )
    return
  configs = {name: row.config for name, row in rows.by_name.items()}
  student_models, network_by_row = latency.distinct_models(configs)
  done = record.get('benchmark', {})
  asked = config_lib.to_json(next(iter(configs.values())).benchmark)
  dataset, teacher = rows.context_for('').dataset, rows.teacher_for('')
  # Timings of older versions do not have it.
  identity = files.json_digest(
    {
      'networks': {
        name: config_lib.to_json(model)
        for name, model in student_models.items()
      },
      'image_shape': list(dataset.task.image_shape),
    }
  )
  if (
    done.get('network_of') == network_by_row
    and done.get('config') == asked
    and done.get('identity', identity) == identity
  ):
    _name_other_device(done)
    return
  record['benchmark'] = {
    'identity': identity,
    **_measure(
      rows, teacher, student_models, network_by_row, record['students']
    ),
  }


def _name_other_device(benchmark: Record) -> None:
  """Says if timings that are kept are those of another machine."""
  timed, here = benchmark.get('environment', {}), environment.describe()
  differing = [
    f'{field} {timed[field]!r}, here {here[field]!r}'
    for field in ('device', 'processor', 'cores')
    if field in timed and timed[field] != here[field]
  ]
  if differing:
    logging.warning(
      'the timings are kept as another machine took them (%s): remove '
      '"benchmark" and "checksum" from run.json, and the same command takes '
      'them here',
      '; '.join(differing),
    )


def _measure(
  rows: RunRows,
  teacher: Teacher,
  student_models: dict[str, ConfigDict],
  network_by_row: dict[str, str],
  results: list[Record],
) -> Record:
  """Times the teacher and each distinct student network."""
  configs = {name: row.config for name, row in rows.by_name.items()}
  config = next(iter(configs.values()))
  dataset = rows.context_for('').dataset
  models, variables = {}, {}
  has_random_weights = False
  if not config.teacher.logits:
    models['teacher'] = config.teacher.model
    variables['teacher'] = _teacher_variables(config, teacher, dataset)
    has_random_weights = teacher.variables is None
  for name, model in student_models.items():
    seed = next(result['seed'] for result in results if result['row'] == name)
    folder = rows.folder(rows.by_name[name]) / f'seed-{seed}'
    models[name] = model
    variables[name] = training_folder.restore_deployed(
      folder, configs[name].student, dataset.task
    )
  measured = latency.benchmark_inference(
    config, models, network_by_row, variables, dataset
  )
  if has_random_weights:
    measured['random_weights'] = ['teacher']
  section = config.benchmark
  if section.steps_against:
    measured['steps_against'] = training_steps.measure_against_row(
      configs, section.steps_against, dataset, budget_s=section.budget_s
    )
  # The timing may be later than the trainings, and by other code.
  measured['environment'] = environment.describe()
  with_live = {
    name: configs[name]
    for name in student_models
    if not config_lib.uses_rounded_features(configs[name].distill)
  }
  if section.live_teacher and 'teacher' in models and with_live:
    measured['training'] = training_steps.measure_stored_and_live(
      with_live, variables['teacher'], dataset, budget_s=section.budget_s
    )
  return measured


def _teacher_variables(config: ConfigDict, teacher: Teacher, dataset):
  """Returns the teacher's variables, or random ones of the same shapes.

  A network's time does not depend on its weights.
  """
  if teacher.variables is not None:
    return teacher.variables
  module = from_config.make_module(config.teacher.model, dataset.num_classes)
  return apply.init_variables(
    module, dataset.task.image_shape, jax.random.key(0)
  )
