"""What this project prints, on consoles of any encoding."""

import io
import sys


def escape_unknown_characters() -> None:
  """Makes `print` escape characters that the console cannot show.

  A class may be named in Japanese, and the console take Latin-1 alone. The
  error would come at the end of hours of sound work.
  """
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors='backslashreplace')


def printable(text: str) -> str:
  """Returns a name with line breaks and control characters escaped."""
  return ''.join(
    c if c.isprintable() else c.encode('unicode_escape').decode() for c in text
  )
