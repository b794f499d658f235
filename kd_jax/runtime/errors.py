"""The error of a mistake that is the user's to mend."""

import contextlib
from collections.abc import Iterator


class UserError(Exception):
  """Names the mistake and the mend; launch.py shows it without a traceback."""


_SAID_OF_MEMORY = ('RESOURCE_EXHAUSTED', 'Out of memory')


@contextlib.contextmanager
def naming_memory() -> Iterator[None]:
  """Has what runs out of a device's or the host's memory say so in a line.

  Raises:
    UserError: in the place of NumPy's or XLA's own error.
  """
  try:
    yield
  except (MemoryError, RuntimeError) as error:
    # XLA gives it several codes.
    if not (
      isinstance(error, MemoryError)
      or any(said in str(error) for said in _SAID_OF_MEMORY)
    ):
      raise
    raise UserError(
      f'there is too little memory ({str(error) or "of the host"}); what was '
      'saved is kept. Choose a smaller batch, a smaller network, or '
      'seeds_per_program=1; of a TFDS set, a lower data.memory_gib leaves its '
      'images on disk'
    ) from error
