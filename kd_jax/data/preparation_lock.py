"""A lock that lets one process at a time prepare a data set."""

import contextlib
import pathlib
from collections.abc import Iterator

from kd_jax.runtime import local_paths, locks


@contextlib.contextmanager
def hold(data_dir: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
  """Waits for the lock of a data set and holds the lock.

  Args:
    data_dir: the data folder.
    name: the name of the data set.
  Yields:
    The folder of the locks, `data_dir/.kd_jax`.
  """
  lock_dir = data_dir / '.kd_jax'
  lock_dir.mkdir(parents=True, exist_ok=True)
  # The kernel releases an flock when its process ends, however it ends.
  path = lock_dir / f'{name.replace("/", "-")}.lock'
  local_paths.check_regular(path, 'a lock')
  with open(path, 'a+b') as lock:
    locks.acquire(lock.fileno(), lock_dir, wait=True)
    yield lock_dir
