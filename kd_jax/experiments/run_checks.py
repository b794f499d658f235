"""Checks a run's config and data, and plans its trainings."""

import functools
import os
from collections.abc import Callable

from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.config_checks import (
  computed_checks,
  data_checks,
  field_checks,
  row_checks,
  traced_checks,
)
from kd_jax.runtime import errors
from kd_jax.teachers import pretrained, provider, user_features
from kd_jax.training import context, plan


def close_and_check(
  config: ConfigDict,
) -> tuple[ConfigDict, dict[str, ConfigDict]]:
  """Closes the rows of a config and checks them, without looking at data.

  Args:
    config: a config from configs/.
  Returns:
    The config with the teacher's network, and the closed config of each row.
  Raises:
    UserError: names the field of a mistake.
  """
  config = provider.with_user_teacher(config)
  config = pretrained.with_network(config)
  config = user_features.with_features(config)
  row_configs = {row: config_lib.close_row(config, row) for row in config.rows}
  # The config of a teacher trained alone has no rows, and no open fields.
  for closed_config in row_configs.values() or (config,):
    field_checks.check_fields(closed_config)
  _check_unlabeled(config, row_configs)
  row_checks.check_named_rows(config, row_configs)
  return config, row_configs


def _check_unlabeled(
  config: ConfigDict, row_configs: dict[str, ConfigDict]
) -> None:
  """Refuses images without labels that no row has a teacher for.

  Rows that learn from labels alone leave them out, see `close_row`.
  """
  asked = config.train.unlabeled
  if asked and not any(row.train.unlabeled for row in row_configs.values()):
    raise errors.UserError(
      f'config.train.unlabeled={asked!r}: images without labels teach by the '
      'outputs of a teacher, but every row learns from labels alone; expected '
      "'', or config.distill.kd_weight above 0"
    )


def make_loader(
  config: ConfigDict,
  data_dir: str | os.PathLike | None,
  source_dir: str | os.PathLike | None,
) -> Callable[[str], data.Dataset]:
  """Returns a function that loads a data set by its name, see `data.load`."""
  return functools.partial(
    data.load,
    data_dir=data_dir,
    source_dir=source_dir,
    image_size=config.data.image_size,
    memory_gib=config.data.memory_gib,
    needs_test=not config.data.holdout_examples,
  )


def check_run_and_plan(
  config: ConfigDict,
  row_configs: dict[str, ConfigDict],
  context_for: Callable[[str], context.Context],
) -> plan.Plans:
  """Checks a config against the data; returns the plans of all trainings.

  Args:
    config: the run's config.
    row_configs: the closed config of each row.
    context_for: maps a transfer set's name to its context.
  Raises:
    DataError: if the data cannot be learned from.
    UserError: names the field of a mistake.
  """
  dataset = context_for('').dataset
  rows = {}
  for name, row_config in row_configs.items():
    traced_checks.trace_scalings(row_config, dataset.task)
    traced_checks.trace_networks(row_config, dataset.task)
    traced_checks.trace_methods(row_config, dataset.task)
    computed_checks.check_student_outputs(row_config, dataset.task)
    rows[name] = data_checks.check_training_and_plan(
      config_lib.student_sections(row_config),
      context_for(config_lib.transfer_set_name(row_config)).dataset,
    )
  teacher = None
  if provider.is_trained_here(config.teacher):
    sections = config_lib.teacher_sections(config)
    teacher = data_checks.check_training_and_plan(sections, dataset)
  return plan.Plans(rows, teacher)
