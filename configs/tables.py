"""Configs of several rows.

`config.rows` holds the students that a config trains. A config of one row has
closed fields. A table has several rows: fields in which the rows differ are
open (None) in the table, and each row holds its value for every open field. A
value that the command line gives to an open field holds for all rows.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict
from ml_collections.config_flags import config_path


def make_table(
  config: config_dict.ConfigDict, rows: Mapping[str, Mapping[str, Any]]
) -> config_dict.ConfigDict:
  """Turns a config into a table of rows.

  Args:
    config: the fields that the rows share; changed in place.
    rows: the values that a row changes, by the row's name and by the field's
      dotted path.
  Returns:
    The config. Every field that a row changes is open, and each row holds its
    value for every open field.
  """
  varying = sorted({path for row in rows.values() for path in row})
  defaults = {path: config_path.get_value(path, config) for path in varying}
  config.rows = config_dict.ConfigDict(sort_keys=False)
  for name, row in rows.items():
    config.rows[name] = config_dict.ConfigDict()
    for path in varying:
      _create_field(config.rows[name], path, row.get(path, defaults[path]))
  for path, value in defaults.items():
    section, _, last = path.rpartition('.')
    open_field = config_dict.placeholder(type(value))
    parent = config_path.get_value(section, config) if section else config
    parent[last] = open_field
  return config


def make_row(
  config: config_dict.ConfigDict, name: str, fields: Mapping[str, Any]
) -> config_dict.ConfigDict:
  """Turns a config into a config of one row.

  Args:
    config: the config; changed in place.
    name: the row's name.
    fields: the values that the row changes, by the field's dotted path.
  Returns:
    The config, whose fields are all closed.
  """
  config.update_from_flattened_dict(fields)
  config.rows = config_dict.create(**{name: config_dict.ConfigDict()})
  return config


def _create_field(
  config: config_dict.ConfigDict, path: str, value: Any
) -> None:
  """Sets a field by its dotted path and creates missing sections."""
  first, _, rest = path.partition('.')
  if not rest:
    config[first] = value
    return
  if first not in config:
    config[first] = config_dict.ConfigDict()
  _create_field(config[first], rest, value)
