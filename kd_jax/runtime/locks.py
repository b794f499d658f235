"""Locks of files, and waits that have an end.

A wait says what it waits for and how long it will, and ends with a line that
names the mend. This module imports no JAX: loading data needs locks, too.
"""

import datetime
import errno
import fcntl
import json
import os
import pathlib
import shlex
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from absl import logging

from kd_jax.runtime import console, errors

# Seconds between two looks: at first, and at most.
_POLL_S, _LONGEST_POLL_S = 0.001, 0.1
# Seconds of a wait until the first line about it, and between further lines.
_FIRST_LINE_S, _LINE_S = 2.0, 60.0
# What file systems without locks answer.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
# Seconds to wait for another process that only appends or reads: it holds the
# lock for milliseconds, unless it was stopped.
BRIEF_S = 600.0
# The longest record of a holder, in bytes.
_RECORD_SIZE = 4096
# Hours to wait for another process that trains or prepares what this one needs:
# the default, and what `limit_waits` has set.
MAX_WAIT_H = 24.0
_max_wait_h = MAX_WAIT_H


class Busy(errors.UserError):
  """Another process holds the lock of the folder."""


def limit_waits(hours: float) -> None:
  """Limits all waits for the work of other processes.

  Args:
    hours: the limit; 0 for no wait.
  Raises:
    UserError: if the limit is below 0 or not finite.
  """
  if not 0 <= hours < float('inf'):
    raise errors.UserError(
      f'--max_wait_h={hours}: expected hours, a finite number of at least 0'
    )
  global _max_wait_h
  _max_wait_h = hours


class Wait:
  """A wait for other processes."""

  def __init__(
    self,
    limit_s: float | None = None,
    *,
    longest_poll_s: float = _LONGEST_POLL_S,
  ):
    """Starts the wait.

    Args:
      limit_s: the longest wait in seconds; None for that of `limit_waits`.
      longest_poll_s: the longest pause in seconds.
    """
    self._began = time.monotonic()
    # The next pause; pauses grow up to the longest.
    self._poll_s = _POLL_S
    self._longest_poll_s = longest_poll_s
    # When to say next what it waits for, in seconds from the start.
    self._next_line_s = _FIRST_LINE_S
    # --max_wait_h does not move a limit that the caller gives.
    self._has_own_limit = limit_s is not None
    self._limit_s = 3600 * _max_wait_h if limit_s is None else limit_s

  def pause(self, awaited: str | Callable[[], str]) -> None:
    """Sleeps for a moment; from time to time says what it waits for.

    Args:
      awaited: what is waited for, such as 'process 7, which ...', or a function
        that looks it up.
    Raises:
      Busy: if the wait has reached its limit.
    """
    describe = (lambda: awaited) if isinstance(awaited, str) else awaited
    waited_s = time.monotonic() - self._began
    if waited_s >= self._limit_s:
      longer = (
        '' if self._has_own_limit else '; --max_wait_h=HOURS waits longer'
      )
      raise Busy(
        f'waited {_duration(waited_s)} for {describe()}: if its process makes '
        'no progress, end it, which frees what it holds, and start the same '
        f'command again{longer}'
      )
    if waited_s >= self._next_line_s:
      logging.info(
        'waiting for %s; this command goes on when that work is done or its '
        'process has ended (%s so far, at most %s)',
        describe(),
        _duration(waited_s),
        _duration(self._limit_s),
      )
      self._next_line_s = waited_s + _LINE_S
    time.sleep(min(self._poll_s, max(0.0, self._limit_s - waited_s)))
    self._poll_s = min(2 * self._poll_s, self._longest_poll_s)


def _duration(seconds: float) -> str:
  """Returns a time such as '45 s', '10 min' or '24 h'."""
  if seconds < 120:
    return f'{seconds:.0f} s'
  if seconds < 7200:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3600:.3g} h'


def acquire(
  descriptor: int,
  folder: pathlib.Path,
  *,
  wait: bool,
  shared: bool = False,
  limit_s: float | None = None,
) -> None:
  """Takes the lock of a file; says what it waits for.

  The file then names this process, for those who wait.

  Args:
    descriptor: the file, open to be read and written; the lock ends when the
      file is closed.
    folder: the folder that the lock protects; named in messages.
    wait: whether to wait for another process instead of raising an error.
    shared: see `files.locked`.
    limit_s: the longest wait in seconds; None for that of `limit_waits`.
  Raises:
    Busy: if another process holds the lock and `wait` is False, or holds it
      for longer than the limit.
    UserError: if the file system has no locks.
  """
  mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
  pause = Wait(limit_s)
  while not _try_lock(descriptor, mode, folder):
    if not wait:
      if not _holder(descriptor):
        time.sleep(_LONGEST_POLL_S)  # It may be about to write its name.
      raise Busy(
        f'another process is at work in {folder}{_holder(descriptor)}: wait '
        'for it, or choose another folder with --workdir'
      )
    pause.pause(
      lambda: (
        f'another process, which is at work in {folder}{_holder(descriptor)}'
      )
    )
  _name_holder(descriptor)


def _try_lock(descriptor: int, mode: int, folder: pathlib.Path) -> bool:
  """Returns whether the lock could be taken."""
  try:
    fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError as error:
    if error.errno not in _NO_LOCKS:
      raise
    raise errors.UserError(
      f'the file system of {folder} has no locks ({error.strerror}), without '
      'which two commands could write there at a time: name a folder on '
      'another disk (--workdir, --runs_dir, --data_dir), or mount the file '
      'system with locks, as Lustre does with the option flock'
    ) from error
  return True


def _name_holder(descriptor: int) -> None:
  """Writes to a lock's file which process holds the lock."""
  now = datetime.datetime.now(datetime.UTC)
  record = {
    'process': os.getpid(),
    'host': socket.gethostname(),
    'since': now.isoformat(' ', 'seconds'),
    'command': shlex.join(['python', *sys.argv])[:1000],
  }
  try:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(record).encode(), 0)
  except OSError:
    pass  # A full disk; the lock itself is held.


def _holder(descriptor: int) -> str:
  """Describes the process that has a lock, as ' (process ...)', or returns ''.

  A lock that several processes share names one of them.
  """
  try:
    record: Any = json.loads(os.pread(descriptor, _RECORD_SIZE, 0))
    process, host = int(record['process']), str(record['host'])
    since, command = str(record['since']), str(record['command'])
  except (OSError, ValueError, KeyError, TypeError, RecursionError):
    return ''  # That of an older version, or one not yet written.
  text = f'process {process} on {host} since {since}: {command}'
  state = _state(process) if host == socket.gethostname() else ''
  if state == 'T':
    text += f'; it is stopped, and `kill -CONT {process}` continues it'
  return f' ({console.printable(text)})'


def _state(process: int) -> str:
  """Returns the letter by which Linux names the state of a process, or ''."""
  try:
    content = pathlib.Path(f'/proc/{process}/stat').read_text()
  except (OSError, ValueError):
    return ''
  return content.rpartition(')')[2].split()[0]
