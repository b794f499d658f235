"""Cells and tables of Markdown."""

from collections.abc import Sequence

import tabulate

NONE = '–'


def quartiles(values: dict[str, float] | None, digits: int) -> str:
  """Formats what `timing.quartiles` returns: the median, and the other two."""
  if values is None:
    return NONE
  return (
    f'{values["median"]:.{digits}f} '
    f'({values["lower"]:.{digits}f}–{values["upper"]:.{digits}f})'
  )


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a table, its first column to the left and the rest to the right."""
  return tabulate.tabulate(
    rows,
    headers,
    tablefmt='github',
    disable_numparse=True,
    colalign=['left'] + ['right'] * (len(headers) - 1),
  )
