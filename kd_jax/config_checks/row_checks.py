"""Checks the names of a config's rows, and the rows that fields name."""

from ml_collections import ConfigDict

from kd_jax.runtime import errors, files


def check_named_rows(
  config: ConfigDict, configs: dict[str, ConfigDict]
) -> None:
  """Checks the rows that a config names.

  Args:
    config: the run's config.
    configs: the closed config of each row.
  Raises:
    UserError: if a named row does not exist, or teaches a row before itself,
      or a row's name is no name of a folder.
  """
  for name in configs:  # A row's students have a folder of its name.
    files.check_name(name, 'config.rows: the row')
  against = config.benchmark.steps_against
  if against and against not in configs:
    raise errors.UserError(
      f'config.benchmark.steps_against={against!r}: expected a row '
      f'({", ".join(configs)}), or nothing'
    )
  earlier = ['teacher']
  for name, row in configs.items():
    unknown = [other for other in row.teacher.rows if other not in earlier]
    if unknown:
      raise errors.UserError(
        f'config.teacher.rows={row.teacher.rows} of row {name!r}: expected '
        f'rows before it ({", ".join(earlier)}), not {", ".join(unknown)}'
      )
    earlier.append(name)
