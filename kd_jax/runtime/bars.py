"""Progress: a bar that moves on a terminal, and lines in a file."""

import sys
from collections.abc import Iterable
from typing import Any

import tqdm

# Seconds between lines of progress where there is no terminal.
LINE_EVERY_S = 30.0
_LINE = '{desc}: {percentage:.0f} %, {elapsed} spent, {remaining} left{postfix}'


def make(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm.tqdm:
  """Returns a bar; where stderr is no terminal, a line from time to time.

  Args:
    iterable: the items to count, or None.
    **options: further arguments of `tqdm.tqdm`.
  """
  if not sys.stderr.isatty() and not _is_notebook():
    options |= {
      'file': _Lines(),
      'mininterval': LINE_EVERY_S,
      'maxinterval': LINE_EVERY_S,
      'delay': LINE_EVERY_S,
      'bar_format': _LINE,
      'dynamic_ncols': False,
    }
  return tqdm.tqdm(iterable, leave=False, **options)


class _Lines:
  """A file that turns the states of a moving bar into lines of stderr."""

  def write(self, text: str) -> None:
    """Writes a state as a line; what only moves the cursor is left out."""
    if text.strip():
      sys.stderr.write(f'{text.strip()}\n')

  def flush(self) -> None:
    """Writes what is buffered."""
    sys.stderr.flush()


def _is_notebook() -> bool:
  """Returns whether a notebook shows stderr, where a bar can move."""
  return 'ipykernel' in sys.modules
