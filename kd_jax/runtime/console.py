"""Prints that survive consoles of any encoding, and full disks."""

import io
import os
import sys
from typing import Any

from kd_jax.runtime import errors


def make_robust() -> None:
  """Makes prints survive a console that cannot show them.

  A class may be named in Japanese, and the console take Latin-1 alone; a disk
  that takes the log may be full; the program that reads a pipe may have ended.
  The error would come at the end of hours of sound work, or end that work. A
  program that started without a console, as `>&-` and some schedulers do, has
  no streams at all.
  """
  was_closed = sys.stdout is None
  _open_closed_streams()
  for name in ('stdout', 'stderr'):
    stream = getattr(sys, name)
    if type(stream) is io.TextIOWrapper:
      stream.reconfigure(errors='backslashreplace')
      setattr(sys, name, _RobustStream(stream, name))
  if was_closed and isinstance(sys.stdout, _RobustStream):
    sys.stdout.problem = 'it is closed'


def _open_closed_streams() -> None:
  """Opens the streams that the program was started without.

  Otherwise the next files that the program opens would get their descriptors,
  and with them what libraries print.
  """
  for descriptor in range(3):
    try:
      os.fstat(descriptor)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # Takes the lowest free descriptor.
  for name in ('stdout', 'stderr'):
    if getattr(sys, name) is None:
      setattr(sys, name, open(os.devnull, 'w'))
  if sys.stdin is None:
    sys.stdin = open(os.devnull)


class _RobustStream:
  """A stream that is silent from its first error on.

  Attributes:
    problem: why output was lost; '' if none was, or if its reader has ended.
  """

  def __init__(self, stream: io.TextIOWrapper, name: str):
    """Wraps a stream.

    Args:
      stream: a stream with a file descriptor.
      name: 'stdout' or 'stderr'.
    """
    self._stream = stream
    self._name = name
    self.problem = ''

  def write(self, text: str) -> int:
    """Writes a text; returns its length even if the stream takes nothing."""
    try:
      self._stream.write(text)
    except OSError as error:
      self._silence(error)
    return len(text)

  def flush(self) -> None:
    """Writes what is buffered."""
    try:
      self._stream.flush()
    except OSError as error:
      self._silence(error)

  def _silence(self, error: OSError) -> None:
    """Lets everything that follows go nowhere, also at the end of the program.

    Libraries that write to the file descriptor are silenced, too.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, self._stream.fileno())
    os.close(nowhere)
    if self._name == 'stdout' and not isinstance(error, BrokenPipeError):
      self.problem = str(error)
      print(
        f'stdout takes no more output ({error}): the program goes on without '
        'it, and writes its files',
        file=sys.stderr,
      )

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)


def check_printed() -> None:
  """Checks that stdout took everything, for a command that writes no files.

  Raises:
    UserError: if output was lost. It is none if the program that reads the
      output, such as `head`, has ended.
  """
  sys.stdout.flush()
  problem = getattr(sys.stdout, 'problem', '')
  if problem:
    raise errors.UserError(
      f'the output is lost, because stdout did not take it ({problem}): send '
      'it to a file on a disk with free space'
    )


def printable(text: str) -> str:
  """Returns a name with line breaks and control characters escaped."""
  return ''.join(
    c if c.isprintable() else c.encode('unicode_escape').decode() for c in text
  )


def printable_lines(text: str) -> str:
  """Returns lines with control characters escaped, except for line breaks.

  A file may have brought the names in a message, and with them the sequences
  that move a terminal's cursor or clear its screen.
  """
  return '\n'.join(map(printable, text.split('\n')))
