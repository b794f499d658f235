"""UserError, and out-of-memory errors turned into it."""

import contextlib
import errno
import os
from collections.abc import Iterator


class UserError(Exception):
  """An error whose message names the mistake, the value and the fix.

  launch.py prints the message without a traceback.
  """


# What code raises that takes values from a file which another version wrote, or
# somebody by hand.
BAD_VALUES = (
  ArithmeticError,
  AttributeError,
  LookupError,
  RecursionError,
  TypeError,
  ValueError,
)


def in_a_line(error: BaseException) -> str:
  """Returns the type and the message of an error, in one line."""
  return f'{type(error).__name__}: {" ".join(str(error).split())}'


@contextlib.contextmanager
def name_file(path: str | os.PathLike) -> Iterator[None]:
  """Adds the path to write errors that lack one.

  Raises:
    OSError: with the path as its `filename`.
  """
  try:
    yield
  except OSError as error:
    if error.filename is not None:
      raise
    # NumPy raises an OSError without a number if it could not write all.
    raise OSError(
      error.errno or errno.EIO, error.strerror or str(error), os.fspath(path)
    ) from error


# XLA reports exhausted memory under several codes, but with these words.
_OUT_OF_MEMORY = ('RESOURCE_EXHAUSTED', 'Out of memory')


@contextlib.contextmanager
def explain_out_of_memory() -> Iterator[None]:
  """Turns an out-of-memory error of the device or the host into a UserError.

  Raises:
    UserError: instead of NumPy's or XLA's error.
  """
  try:
    yield
  except (MemoryError, RuntimeError) as error:
    if not (
      isinstance(error, MemoryError)
      or any(words in str(error) for words in _OUT_OF_MEMORY)
    ):
      raise
    raise UserError(
      f'there is too little memory ({str(error) or "on the host"}). Saved '
      'results are kept. Choose a smaller batch, a smaller network or '
      'seeds_per_program=1; for a folder of images or a TFDS data set, a lower '
      'data.memory_gib leaves the images on disk'
    ) from error
