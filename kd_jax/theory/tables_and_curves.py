"""The JSON format of results.

report/tables.py shows the tables, and report/theory_plots.py the curves.
"""

from collections.abc import Iterable
from typing import Any

# 'tables' and 'curves', each by its title or name.
Results = dict[str, Any]


def make_table(columns: list[str], rows: list[list[Any]]) -> dict[str, Any]:
  """Returns a table.

  Args:
    columns: the headings.
    rows: a name, then a number or None for each further heading.
  """
  return {'columns': columns, 'rows': rows}


def make_line(
  x: Iterable[float],
  y: Iterable[float],
  error: Iterable[float] | None = None,
  *,
  points: bool = False,
) -> dict[str, Any]:
  """Returns a line of a plot.

  Args:
    x: the positions, N numbers.
    y: the heights, N numbers.
    error: the half-lengths of N error bars; None for no error bars.
    points: whether the plot shows points instead of a connected line.
  """
  return {
    'x': [float(value) for value in x],
    'y': [float(value) for value in y],
    'error': None if error is None else [float(value) for value in error],
    'points': points,
  }
