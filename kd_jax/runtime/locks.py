"""Locks of files. This module imports no JAX: loading data needs locks, too."""

import errno
import fcntl
import pathlib
import time

from absl import logging

from kd_jax.runtime import errors

# Seconds between two looks at a lock: at first, and at most.
_POLL_S, _LONGEST_POLL_S = 0.001, 0.1
# Seconds of a wait until the first line about it, and between further lines.
_FIRST_LINE_S, _LINE_S = 2.0, 60.0
# What file systems without locks answer.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class Busy(errors.UserError):
  """Another process holds the lock of the folder."""


def acquire(
  descriptor: int,
  folder: pathlib.Path,
  *,
  wait: bool,
  shared: bool = False,
) -> None:
  """Takes the lock of a file; says what it waits for.

  Args:
    descriptor: the open file; the lock ends when the file is closed.
    folder: the folder that the lock protects; named in messages.
    wait: whether to wait for another process instead of raising an error.
    shared: see `locked`.
  Raises:
    Busy: if another process holds the lock and `wait` is False.
    UserError: if the file system has no locks.
  """
  mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
  began, next_line_s, poll_s = time.monotonic(), _FIRST_LINE_S, _POLL_S
  while True:
    try:
      fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
      if not wait:
        raise Busy(
          f'another process is at work in {folder}: wait for it, or choose '
          'another folder with --workdir'
        ) from None
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        raise
      raise errors.UserError(
        f'the file system of {folder} has no locks ({error.strerror}), without '
        'which two commands could write there at a time: name a folder on '
        'another disk (--workdir, --runs_dir, --data_dir), or mount the file '
        'system with locks, as Lustre does with the option flock'
      ) from error
    else:
      return
    waited_s = time.monotonic() - began
    if waited_s >= next_line_s:
      logging.info(
        'waiting for another process, which is at work in %s; this command '
        'goes on as soon as that one has finished or ended (%.0f s so far)',
        folder,
        waited_s,
      )
      next_line_s = waited_s + _LINE_S
    time.sleep(poll_s)
    poll_s = min(2 * poll_s, _LONGEST_POLL_S)
