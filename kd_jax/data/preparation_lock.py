"""A lock for each data set, of the processes that might prepare it."""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

from absl import logging


@contextlib.contextmanager
def exclusive(data_dir: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
  """Holds the lock of a data set; yields the folder where locks lie."""
  private = data_dir / '.kd_jax'
  private.mkdir(parents=True, exist_ok=True)
  # The kernel's lock: it goes with its process, however that ends.
  with open(private / f'{name.replace("/", "-")}.lock', 'w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      logging.info('%s: waiting for the process that prepares it', name)
      fcntl.flock(lock, fcntl.LOCK_EX)
    yield private
