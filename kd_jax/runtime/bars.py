"""Progress: a bar that moves on a terminal, and lines in a file."""

import contextlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tqdm

# Seconds between lines of progress where there is no terminal.
LINE_EVERY_S = 30.0
# Seconds of a wait after which a bar says what it waits for.
SLOW_S = 3.0
_LINE = '{desc}: {percentage:.0f} %, {elapsed} spent, {remaining} left{postfix}'
# A sequence that moves a terminal's cursor, or changes its colors.
_ESCAPE = re.compile(r'\x1b\[[0-9;]*[A-Za-z]')


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
  return Bar(iterable, leave=False, **options)


@contextlib.contextmanager
def say_if_slow(bar: tqdm.tqdm, what: str) -> Iterator[None]:
  """Shows what a bar waits for, if a `with` block takes some seconds.

  Args:
    bar: a bar that stands still meanwhile.
    what: a word, such as 'compiling'.
  """
  timer = threading.Timer(SLOW_S, bar.set_postfix_str, [what])
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


class Bar(tqdm.tqdm):
  """A bar whose seconds do not depend on the clock of the day.

  tqdm takes that clock, which somebody may set: the bar would show years, or
  stand still for as long as the clock was set back.
  """

  # tqdm's thread against bars that stand still reads the clock of the day. It
  # is needed only where not every step looks at the time.
  monitor_interval = 0

  def __init__(self, iterable: Iterable[Any] | None = None, **options: Any):
    """Makes a bar that looks at the time in every step; see `tqdm.tqdm`."""
    super().__init__(iterable, miniters=1, **options)

  @property
  def _time(self) -> Callable[[], float]:
    return time.monotonic

  @_time.setter
  def _time(self, clock: Callable[[], float]) -> None:
    pass  # tqdm sets its clock.


class _Lines:
  """A file that turns the states of a moving bar into lines of stderr."""

  def write(self, text: str) -> None:
    """Writes states as lines; what only moves the cursor is left out."""
    for state in re.split('[\r\n]', _ESCAPE.sub('', text)):
      if state.strip():
        sys.stderr.write(f'{state.strip()}\n')

  def flush(self) -> None:
    """Writes what is buffered."""
    sys.stderr.flush()


def _is_notebook() -> bool:
  """Returns whether a notebook shows stderr, where a bar can move."""
  return 'ipykernel' in sys.modules
