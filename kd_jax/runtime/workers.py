"""Workers: processes that train a run's students side by side.

A network too small to keep a machine busy leaves most of it idle, however its
batches are split. So each worker is the run's command again with a share of the
machine (of the CPU's cores, one of the GPUs) and trains whole students: it
claims those that no other has, and ends when none is left. Before them the
command prepares the run, with all of the machine: the data, the teacher. After
them it has the folder for itself again, for the timing and the report.
"""

import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from kd_jax.runtime import errors

# Tells a process of a run that it is not the whole of it.
_ROLE = 'KD_JAX_WORKER'
_PREPARING = 'prepare'
_POLL_S = 0.1
# Of a GPU's memory, for those that share it.
_GPU_MEMORY = 0.9
# Where a Linux machine shows a TPU.
TPUS = ('/dev/accel0', '/dev/vfio/0')


class Share(NamedTuple):
  """Which of how many workers a process is, counted from 0."""

  index: int
  count: int


def share() -> Share | None:
  """Returns which worker this process is; None if it is none."""
  role = os.environ.get(_ROLE, '')
  if role in ('', _PREPARING):
    return None
  index, _, count = role.partition('/')
  return Share(int(index), int(count))


def is_preparing() -> bool:
  """Whether this process is to stop before the students."""
  return os.environ.get(_ROLE) == _PREPARING


def begin() -> bool:
  """Takes this process's share of the machine, if it is one of several.

  It must come before JAX is used. The process ends with the one that started
  it.

  Returns:
    Whether it is.
  """
  if _ROLE not in os.environ:
    return False
  threading.Thread(target=_end_with_parent, daemon=True).start()
  own = share()
  if own is not None and hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, cores_of(own, sorted(os.sched_getaffinity(0))))
  return True


def _end_with_parent() -> None:
  os.read(sys.stdin.fileno(), 1)  # Returns when the other end is gone.
  os._exit(1)


def cores_of(own: Share, cores: Sequence[int]) -> list[int]:
  """Returns a worker's share of a machine's cores, of one at least."""
  first, last = (
    len(cores) * i // own.count for i in (own.index, own.index + 1)
  )
  return list(cores[first:last]) or [cores[own.index % len(cores)]]


def gpu_of(own: Share, gpus: Sequence[str]) -> dict[str, str]:
  """Returns the environment variables that give a worker its GPU, if any."""
  if not gpus:
    return {}
  variables = {'CUDA_VISIBLE_DEVICES': gpus[own.index % len(gpus)]}
  sharing = -(-own.count // len(gpus))
  if sharing > 1:
    fraction = _GPU_MEMORY / sharing
    variables['XLA_PYTHON_CLIENT_MEM_FRACTION'] = f'{fraction:.3f}'
  return variables


def _gpus() -> list[str]:
  """Returns what CUDA_VISIBLE_DEVICES calls the GPUs that may be used."""
  visible = os.environ.get('CUDA_VISIBLE_DEVICES')
  if visible is not None:
    return [name for name in visible.split(',') if name]
  found = [
    match[1]
    for path in pathlib.Path('/dev').glob('nvidia*')
    if (match := re.fullmatch(r'nvidia(\d+)', path.name))
  ]
  return sorted(found, key=int)


def run(command: Sequence[str], count: int) -> None:
  """Prepares a run and has its students trained by workers.

  Args:
    command: the run's, to be given to Python.
    count: of workers.
  Raises:
    UserError: if one was killed, or they would have to share a TPU.
    SystemExit: if one failed, which has said why.
  """
  if os.environ.get('JAX_PLATFORMS') != 'cpu' and any(
    map(os.path.exists, TPUS)
  ):
    raise errors.UserError(
      f'--workers={count}: a TPU serves one process; leave it out (seeds train '
      'as one program there), or set JAX_PLATFORMS=cpu'
    )
  _wait([_start(command, _PREPARING, {})])
  shares = [Share(index, count) for index in range(count)]
  gpus = _gpus()
  _wait(
    [
      _start(
        command,
        f'{own.index}/{own.count}',
        {'TQDM_POSITION': str(own.index), **gpu_of(own, gpus)},
      )
      for own in shares
    ]
  )


def _start(
  command: Sequence[str], role: str, variables: dict[str, str]
) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, *command],
    # It never ends, but with us.
    stdin=subprocess.PIPE,
    env=os.environ | variables | {_ROLE: role},
    # Else each would answer an interrupt with a traceback of its own.
    start_new_session=True,
  )


def _wait(workers: list[subprocess.Popen]) -> None:
  """Waits for all of them, or until one fails: then the others are ended."""
  try:
    while any(worker.poll() is None for worker in workers):
      if any(worker.poll() for worker in workers):
        break
      time.sleep(_POLL_S)
    for code in (worker.poll() for worker in workers):
      if code is not None and code < 0:
        raise errors.UserError(
          f'a worker was killed (signal {-code}), perhaps for want of memory: '
          'the same command goes on, with fewer --workers if need be'
        )
      if code:
        sys.exit(code)
  finally:
    for worker in workers:
      worker.kill()
      worker.communicate()
