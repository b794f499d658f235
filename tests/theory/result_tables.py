"""Reads the tables of results of theory."""

from typing import Any


def columns(results: dict[str, Any], title: str) -> dict[str, list[Any]]:
  """Returns the columns of the table whose title starts with `title`."""
  (table,) = [
    table for name, table in results['tables'].items() if name.startswith(title)
  ]
  return {
    column: [row[i] for row in table['rows']]
    for i, column in enumerate(table['columns'])
  }
