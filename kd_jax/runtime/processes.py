"""Processes of one run, on one machine or on many, which take the same steps.

A run's folder is the first process's: it alone writes there, and what it reads
there all of them are told, so that all decide alike. The folder must be on a
disk that all of them see, as checkpoints are written and read by all.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from kd_jax.runtime import errors

# How long a process that says nothing is waited for.
_PATIENCE_S = 60


def start(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Makes this process one of several, before anything is computed.

  Args:
    coordinator: HOST:PORT of the first process; what the cluster announces (a
      TPU pod, Slurm, MPI, Kubernetes) if None.
    num_processes: of the run; likewise.
    process_id: of this one, counted from 0; likewise.
  Raises:
    UserError: if they are not all given and no cluster announces itself, or the
      others are not there.
  """
  given = (coordinator, num_processes, process_id)
  if any(value is not None for value in given) and None in given:
    raise errors.UserError(
      '--coordinator, --num_processes and --process_id go together: without '
      'them --distributed takes what the cluster announces'
    )
  # It has a signal to end (SIGTERM) wait for a save that nobody takes, and
  # Orbax ask it at each save. A process that ends is gone on with.
  jax.config.update('jax_enable_preemption_service', False)
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      heartbeat_timeout_seconds=_PATIENCE_S,
      shutdown_timeout_seconds=_PATIENCE_S,
    )
  except (RuntimeError, ValueError) as error:
    raise errors.UserError(
      f'the processes of this run do not find each other: {error}'
    ) from None


@contextlib.contextmanager
def guard() -> Iterator[None]:
  """Of several processes, ends this one at once if anything fails in it.

  Most often it is another that has failed: a process by itself cannot go on,
  nor end as JAX would have it, which waits for all.
  """
  try:
    yield
  except Exception as error:
    if count() == 1:
      raise
    sys.stdout.flush()
    line = f'error: process {jax.process_index()} of {count()} cannot go on '
    if isinstance(error, errors.UserError):  # Perhaps of this one's files.
      line += f'({error})'
    else:
      line += (
        f'({type(error).__name__}: {str(error)[:300]}); if another one has '
        'ended, start all of them again: the run goes on'
      )
    print(line, file=sys.stderr, flush=True)
    os._exit(1)


def count() -> int:
  """Returns how many processes the run has."""
  return jax.process_count()


def is_first() -> bool:
  """Whether this process writes the run's files and speaks for it."""
  return jax.process_index() == 0


_alone = [False]  # Whether `fn` of `from_first` is at work here.


@contextlib.contextmanager
def _being_alone() -> Iterator[None]:
  _alone[0] = True
  try:
    yield
  finally:
    _alone[0] = False


def from_first(fn: Callable[[], Any]) -> Any:
  """Returns in every process the JSON value that `fn` has in the first.

  It may call what calls `from_first` itself, but nothing that is computed by
  all processes.

  Raises:
    UserError: in every process, where `fn` raises it in the first.
  """
  if count() == 1 or _alone[0]:
    return fn()
  error, reply = None, {}
  if is_first():
    try:
      with _being_alone():
        reply = {'value': fn()}
    except errors.UserError as raised:
      error, reply = raised, {'error': str(raised)}
  content = np.frombuffer(json.dumps(reply).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(content.size)))
  if not is_first():
    content = np.zeros(size, np.uint8)
  content = multihost_utils.broadcast_one_to_all(content)
  reply = json.loads(bytes(np.asarray(content)))
  if 'error' in reply:
    raise error or errors.UserError(reply['error'])
  return reply['value']
