"""Workers: processes that train the students of a run side by side.

A small network leaves most of a machine idle, however its batches are divided.
Therefore each worker runs the run's command again on a share of the machine
(some CPU cores, one GPU) and trains whole students. A worker claims students
that no other worker has claimed, and ends when none is left.

Before the workers start, the command prepares the run (the data, the teacher)
with the whole machine. After the workers have ended, the command has the folder
to itself again, for the benchmark and the report.
"""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from kd_jax.runtime import errors

# The environment variable that tells a process its role: _PREPARING or
# 'INDEX/COUNT' of a worker.
_ROLE = 'KD_JAX_WORKER'
_PREPARING = 'prepare'
# The environment variable of the seconds that this process's workers have taken
# to train students.
_SECONDS = 'KD_JAX_WORKERS_SECONDS'
_POLL_S = 0.1
# The fraction of a GPU's memory that workers on the same GPU share.
_GPU_MEMORY_FRACTION = 0.9
# The device files by which Linux shows a TPU.
TPUS = ('/dev/accel0', '/dev/vfio/0')


@dataclasses.dataclass(frozen=True)
class Share:
  """A worker's index, counted from 0, and the number of workers."""

  index: int
  count: int


def share() -> Share | None:
  """Returns this process's share; None if the process is not a worker."""
  role = os.environ.get(_ROLE, '')
  if role in ('', _PREPARING):
    return None
  index, _, count = role.partition('/')
  return Share(int(index), int(count))


def is_worker() -> bool:
  """Returns whether this process trains a share of a run's students."""
  return share() is not None


def is_preparing() -> bool:
  """Returns whether this process prepares the run and trains no student."""
  return os.environ.get(_ROLE) == _PREPARING


def limit_to_share() -> bool:
  """Limits this process to its cores, if a command started it as a part.

  Call this function before JAX is used. From then on, the process ends together
  with the command that started it.

  Returns:
    Whether this process is a part of a run: a worker, or the preparation.
  """
  if _ROLE not in os.environ:
    return False
  threading.Thread(target=_end_with_parent, daemon=True).start()
  worker = share()
  if worker is not None and hasattr(os, 'sched_setaffinity'):
    cores = worker_cores(worker, sorted(os.sched_getaffinity(0)))
    os.sched_setaffinity(0, cores)
  return True


def _end_with_parent() -> None:
  # The parent never writes; the read returns when the parent has ended.
  os.read(sys.stdin.fileno(), 1)
  os._exit(1)


def worker_cores(worker: Share, cores: Sequence[int]) -> list[int]:
  """Returns a worker's share of the machine's cores, at least one core.

  Args:
    worker: the worker's index and the number of workers.
    cores: the core numbers that the run may use.
  """
  first, last = (
    len(cores) * i // worker.count for i in (worker.index, worker.index + 1)
  )
  return list(cores[first:last]) or [cores[worker.index % len(cores)]]


def gpu_variables(worker: Share, gpus: Sequence[str]) -> dict[str, str]:
  """Returns the environment variables that give a worker its GPU, if any.

  Args:
    worker: the worker's index and the number of workers.
    gpus: the names of the GPUs that the run may use.
  """
  if not gpus:
    return {}
  variables = {'CUDA_VISIBLE_DEVICES': gpus[worker.index % len(gpus)]}
  workers_per_gpu = -(-worker.count // len(gpus))
  if workers_per_gpu > 1:
    fraction = _GPU_MEMORY_FRACTION / workers_per_gpu
    variables['XLA_PYTHON_CLIENT_MEM_FRACTION'] = f'{fraction:.3f}'
  return variables


def _gpus() -> list[str]:
  """Returns the names that CUDA_VISIBLE_DEVICES uses for the usable GPUs."""
  visible = os.environ.get('CUDA_VISIBLE_DEVICES')
  if visible is not None:
    return [name for name in visible.split(',') if name]
  found = [
    match[1]
    for path in pathlib.Path('/dev').glob('nvidia*')
    if (match := re.fullmatch(r'nvidia(\d+)', path.name))
  ]
  return sorted(found, key=int)


def run_workers(command: Sequence[str], count: int) -> None:
  """Prepares a run, and waits until workers have trained its students.

  Args:
    command: the arguments for Python that start the run.
    count: the number of workers.
  Raises:
    UserError: if a worker was killed, or if the workers would share a TPU.
    SystemExit: if a worker failed; the worker has printed the reason.
  """
  if os.environ.get('JAX_PLATFORMS') != 'cpu' and any(
    map(os.path.exists, TPUS)
  ):
    raise errors.UserError(
      f'--workers={count}: a TPU serves one process; leave --workers out (on a '
      'TPU the seeds train in one compiled function), or set JAX_PLATFORMS=cpu'
    )
  _wait([_start(command, _PREPARING, {})])
  shares = [Share(index, count) for index in range(count)]
  gpus = _gpus()
  began = time.perf_counter()
  _wait(
    [
      _start(
        command,
        f'{worker.index}/{worker.count}',
        {'TQDM_POSITION': str(worker.index), **gpu_variables(worker, gpus)},
      )
      for worker in shares
    ]
  )
  os.environ[_SECONDS] = str(time.perf_counter() - began)


def pop_seconds() -> float:
  """Returns how many seconds this command's workers trained, 0 without workers.

  Every later call returns 0, so that a run counts the seconds once.
  """
  return float(os.environ.pop(_SECONDS, 0))


def _start(
  command: Sequence[str], role: str, variables: dict[str, str]
) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, *command],
    # The pipe closes only when this process ends; see `_end_with_parent`.
    stdin=subprocess.PIPE,
    env=os.environ | variables | {_ROLE: role},
    # Otherwise each worker would answer an interrupt with a traceback.
    start_new_session=True,
  )


def _wait(workers: list[subprocess.Popen]) -> None:
  """Waits for all workers; if one fails, ends the others."""
  try:
    while any(worker.poll() is None for worker in workers):
      if any(worker.poll() for worker in workers):
        break
      time.sleep(_POLL_S)
    for code in (worker.poll() for worker in workers):
      if code is not None and code < 0:
        raise errors.UserError(
          f'a worker was killed (signal {-code}), perhaps for lack of memory: '
          'start the same command again, which resumes the run; use fewer '
          '--workers if memory is short'
        )
      if code:
        sys.exit(code)
  finally:
    for worker in workers:
      worker.kill()
      worker.communicate()
