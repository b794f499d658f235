"""Several processes of one run, on one machine or many, taking the same steps.

Only the first process writes to the run's folder. It also reads there and sends
the others what it read, so that all processes make the same decisions. The
folder must be on a disk that all processes see, because all of them write and
read checkpoints.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from kd_jax.runtime import addresses, errors

# After this time without a sign of life, a process counts as lost.
_TIMEOUT_S = 60
# Seconds for which a process waits for the others at the start, and until it
# says so.
_START_TIMEOUT_S = 300
_SAID_AFTER_S = 5.0


def start(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Joins this process to the others of its run, before JAX computes anything.

  If the arguments are None, JAX takes them from the cluster: a TPU pod, Slurm,
  MPI or Kubernetes. Pass either all of them or none.

  Args:
    coordinator: HOST:PORT of the first process.
    num_processes: the number of processes of the run.
    process_id: the index of this process, counted from 0.
  Raises:
    UserError: if only some arguments are given, if none is given and JAX finds
      no cluster, if the first process cannot listen at HOST:PORT, or if the
      other processes do not answer.
  """
  given = (coordinator, num_processes, process_id)
  if any(value is not None for value in given) and None in given:
    raise errors.UserError(
      '--coordinator, --num_processes and --process_id go together: give all '
      'three, or none of them, and --distributed asks the cluster'
    )
  # With its preemption service, JAX would delay SIGTERM until a save that this
  # project does not do, and Orbax would ask the service at each save. Without
  # the service SIGTERM ends the process, and the same command resumes the run.
  jax.config.update('jax_enable_preemption_service', False)
  if coordinator is not None and process_id == 0:
    addresses.check_free(coordinator, '--coordinator')
  place = coordinator or 'the address that the cluster announces'
  try:
    with _said_if_long(
      f'this process waits at {place} for the other processes of the run, for '
      f'up to {_START_TIMEOUT_S} s: start them with the same --coordinator'
    ):
      jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        initialization_timeout=_START_TIMEOUT_S,
        heartbeat_timeout_seconds=_TIMEOUT_S,
        shutdown_timeout_seconds=_TIMEOUT_S,
        # JAX would listen on all interfaces of the machine.
        coordinator_bind_address=coordinator,
      )
  except (RuntimeError, ValueError) as error:
    raise errors.UserError(
      f'the processes of this run cannot find each other: {error}'
    ) from None


@contextlib.contextmanager
def _said_if_long(line: str) -> Iterator[None]:
  """Logs a line if the context takes more than a few seconds."""
  timer = threading.Timer(_SAID_AFTER_S, logging.warning, ('%s', line))
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


@contextlib.contextmanager
def guard() -> Iterator[None]:
  """Ends this process at once if an error occurs in a run of several processes.

  The usual cause is that another process has failed. This process can then
  neither continue nor exit normally, because at exit JAX waits for all
  processes. In a run of one process, errors pass through.
  """
  try:
    yield
  except Exception as error:
    if count() == 1:
      raise
    sys.stdout.flush()
    line = f'error: process {jax.process_index()} of {count()} cannot continue '
    # The user's mistake may lie on this host alone, such as a missing file.
    if isinstance(error, errors.UserError):
      line += f'({error})'
    else:
      line += (
        f'({type(error).__name__}: {str(error)[:300]}). If another process has '
        'ended, start all processes again: the run resumes'
      )
    print(line, file=sys.stderr, flush=True)
    os._exit(1)


def count() -> int:
  """Returns the number of processes of the run."""
  return jax.process_count()


def is_first() -> bool:
  """Returns whether this process writes the run's files and its log."""
  return jax.process_index() == 0


# Whether the first process is inside the `fn` of `from_first`. The flag holds
# for all threads of the process, because `fn` may start threads.
_inside_fn = [False]


@contextlib.contextmanager
def _mark_inside_fn() -> Iterator[None]:
  _inside_fn[0] = True
  try:
    yield
  finally:
    _inside_fn[0] = False


def from_first(fn: Callable[[], Any]) -> Any:
  """Calls `fn` in the first process and returns its value in every process.

  Args:
    fn: a function that returns a JSON value. It may call `from_first` itself,
      but it must not start a computation that all processes share.
  Returns:
    The value of `fn`.
  Raises:
    UserError: in every process, if `fn` raises it in the first process.
  """
  if count() == 1 or _inside_fn[0]:
    return fn()
  error = None
  reply = {}
  if is_first():
    try:
      with _mark_inside_fn():
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
