"""The error that a user can fix, and out-of-memory errors turned into it."""

import contextlib
from collections.abc import Iterator


class UserError(Exception):
  """An error whose message names the mistake, the value and the fix.

  launch.py prints the message without a traceback.
  """


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
      'seeds_per_program=1; for a TFDS data set, a lower data.memory_gib '
      'leaves the images on disk'
    ) from error
