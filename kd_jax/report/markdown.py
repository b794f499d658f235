"""Cells and tables of Markdown."""

import re
import statistics
from collections.abc import Mapping, Sequence

import tabulate

NONE = '–'  # The cell of an unknown value.


def as_text(text: str) -> str:
  """Returns a line in which nothing is markup, such as names of classes."""
  return re.sub(r'([\\`*_\[\]<>#|])', r'\\\1', text)


def number(value: float | None, digits: int) -> str:
  """Returns a number with `digits` decimals, or `NONE` for None."""
  return NONE if value is None else f'{value:.{digits}f}'


def mean_sd(
  values: Sequence[float | None], digits: int, *, scale: float = 1.0
) -> str:
  """Returns a sample as 'mean ± standard deviation'.

  Args:
    values: a sample; None marks an unknown value, which is left out.
    digits: decimals of both numbers.
    scale: a factor for all values, such as 100 for percent.
  Returns:
    The mean alone for a sample of one; `NONE` for an empty sample.
  """
  known = [scale * value for value in values if value is not None]
  if not known:
    return NONE
  text = f'{statistics.fmean(known):.{digits}f}'
  if len(known) > 1:
    text += f' ± {statistics.stdev(known):.{digits}f}'
  return text


def quartiles(values: Mapping[str, float] | None, digits: int) -> str:
  """Returns 'median (lower quartile–upper quartile)', or `NONE` for None.

  Args:
    values: 'median', 'lower' and 'upper', as `timing.quartiles` returns them.
    digits: decimals of the three numbers.
  """
  if values is None:
    return NONE
  return (
    f'{values["median"]:.{digits}f} '
    f'({values["lower"]:.{digits}f}–{values["upper"]:.{digits}f})'
  )


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a table with the first column aligned left, the others right."""
  return tabulate.tabulate(
    rows,
    headers,
    tablefmt='github',
    disable_numparse=True,
    colalign=['left'] + ['right'] * (len(headers) - 1),
  )


def table_of_lines(lines: Sequence[Mapping[str, str]]) -> str:
  """Returns a table of lines that map each column's header to a cell.

  Args:
    lines: at least one line; all lines have the same headers in one order.
  """
  return table(list(lines[0]), [list(line.values()) for line in lines])


def without_empty_columns(
  lines: Sequence[Mapping[str, str]],
) -> list[dict[str, str]]:
  """Returns lines of a table without the columns that have no value.

  Args:
    lines: as for `table_of_lines`.
  """
  used = {key for line in lines for key in line if line[key] != NONE}
  return [{k: v for k, v in line.items() if k in used} for line in lines]
