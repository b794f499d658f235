"""The host's memory: freed memory that is kept, and how much there is."""

import ctypes
import pathlib

from kd_jax.runtime import errors

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
  """Makes the process keep freed memory and reuse it.

  By default glibc returns a large buffer to the kernel as soon as the buffer is
  freed. When the next step allocates the buffer again, the kernel zeroes its
  pages, with one page fault each. A step on a CPU does that with all its
  activations: this took 15 to 25 % of a ResNet's step.

  Call this function before JAX computes anything, if possible before JAX is
  imported. Threads that already run keep their own malloc arenas, and in those
  a buffer as large as a step's is mapped anew each time, whatever is set here.

  Returns:
    Whether the setting took effect; False on a system without glibc.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return False
  return all(
    [
      mallopt(_M_MMAP_MAX, 0),
      mallopt(_M_TRIM_THRESHOLD, -1),
      mallopt(_M_ARENA_MAX, 1),
    ]
  )


# What Linux says about the memory of the machine and of a container.
_MACHINE = pathlib.Path('/proc/meminfo')
_CONTAINER = pathlib.Path('/sys/fs/cgroup')


def available_bytes() -> int | None:
  """Returns the memory that this process can still take; None if unknown."""
  found = [_machine_bytes(), _container_bytes()]
  return min((size for size in found if size is not None), default=None)


def _machine_bytes() -> int | None:
  try:
    fields = _fields(_MACHINE)
    return 1024 * int(fields['MemAvailable:'])
  except (OSError, KeyError, ValueError):
    return None


def _container_bytes() -> int | None:
  """Returns what a container's limit leaves; None without a limit."""
  try:
    limit = int((_CONTAINER / 'memory.max').read_text())
    # The rest of the memory in use is a cache of files, which can be dropped.
    return limit - int(_fields(_CONTAINER / 'memory.stat')['anon'])
  except (OSError, KeyError, ValueError):  # 'max' is no number.
    return None


def _fields(path: pathlib.Path) -> dict[str, str]:
  """Returns the second word of each line by the first word."""
  lines = path.read_text().splitlines()
  return {words[0]: words[1] for words in map(str.split, lines) if words[1:]}


def check_available(needed: int, what: str, mend: str) -> None:
  """Checks before an allocation that the memory is free.

  Without the check, the kernel would end the process without a line.

  Args:
    needed: bytes, at least.
    what: what needs the memory, for the error message.
    mend: what the user can do.
  Raises:
    UserError: if there is less memory than needed.
  """
  available = available_bytes()
  if available is not None and needed > available:
    raise errors.UserError(
      f'{what} take {needed / 2**30:.1f} GiB of memory, and '
      f'{available / 2**30:.1f} GiB are free: {mend}'
    )
