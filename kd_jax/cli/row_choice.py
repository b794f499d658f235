"""Chooses the rows of a table that a run trains, by --rows."""

import fnmatch
from collections.abc import Sequence

from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax.runtime import errors, suggestions


def keep(config: ConfigDict, patterns: Sequence[str]) -> None:
  """Removes the rows of a config that no pattern names.

  Rows that teach a kept row stay, as does the row whose steps a benchmark
  compares with those of the others.

  Args:
    config: the config of a run; it is changed in place.
    patterns: names of rows, or patterns such as 'hint_*'.
  Raises:
    UserError: if the config has no rows, or if a pattern names none.
  """
  if not config.get('rows'):
    raise errors.UserError(
      f'--rows: {config.name} has no rows to choose from; leave --rows out'
    )
  rows = list(config.rows)
  kept = set()
  for pattern in patterns:
    named = fnmatch.filter(rows, pattern)
    if not named:
      raise errors.UserError(
        f'--rows={pattern}: no row has this name'
        f'{suggestions.nearest(pattern, rows)}; the rows are: {", ".join(rows)}'
      )
    kept.update(named)
  if config.benchmark.enabled and config.benchmark.steps_against:
    kept.add(config.benchmark.steps_against)
  # A teacher of a row stands before it.
  for row in reversed(rows):
    if row in kept:
      kept.update(config_lib.close_row(config, row).teacher.rows)
  with config.unlocked():
    for row in rows:
      if row not in kept:
        del config.rows[row]
    if config.benchmark.steps_against not in kept:  # Nothing is timed.
      config.benchmark.steps_against = ''
