"""What a run writes down: JSON files, JSON lines and its surroundings.

Every write is atomic: a reader, or the run that resumes, sees the whole of the
old file or the whole of the new one. Of a run of several processes the first
reads and writes, and all are told what it read.
"""

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import jax
from absl import logging

import kd_jax
from kd_jax import errors, processes, workers


class Busy(errors.UserError):
  """Another process is at work where this one would be."""


# The packages whose versions can change a number.
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


# Where a Linux machine shows an NVIDIA GPU or a TPU.
_ACCELERATORS = ('/dev/nvidia0', *workers.TPUS)


def write_bytes(path: os.PathLike, content: bytes) -> None:
  """Writes a file whole or not at all."""
  if not processes.is_first():
    return
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with open(temporary, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError:  # Of a full disk, what is half there fills it further.
    temporary.unlink(missing_ok=True)
    raise


def write_text(path: os.PathLike, text: str) -> None:
  """Writes a text file whole or not at all."""
  write_bytes(path, text.encode())


def write_json(path: os.PathLike, value: Any) -> None:
  """Writes a JSON file whole or not at all."""
  write_text(path, json.dumps(value, indent=1) + '\n')


def read_json(path: os.PathLike) -> Any | None:
  """Returns a JSON file's value, or None if there is none or it is damaged."""

  def read():
    try:
      return json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
      return None

  return processes.from_first(read)


def remove(path: os.PathLike) -> None:
  """Removes a file, or a folder and what is in it, if it is there."""
  path = pathlib.Path(path)
  if not processes.is_first():
    return
  if path.is_dir():
    with contextlib.suppress(FileNotFoundError):  # Another was there before.
      shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def check_room(folder: os.PathLike, needed: int, what: str) -> None:
  """Refuses what a disk has no room for.

  Args:
    folder: where it is to be written.
    needed: bytes.
    what: for the error.
  Raises:
    UserError: if there are fewer free.
  """
  free = shutil.disk_usage(folder).free
  if free < needed:
    raise errors.UserError(
      f'no space left for {what} in {folder}: it may take {needed / 1e6:.1f} '
      f'MB, and {free / 1e6:.1f} MB are free; with room there, the same '
      'command goes on'
    )


def digest(value: Any) -> str:
  """Returns the SHA-256 (hex) of a JSON value, whatever its key order."""
  text = json.dumps(value, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).hexdigest()


def differences(a: Any, b: Any, path: str) -> Iterator[str]:
  """Yields `field: a, was b` for every leaf in which two configs differ."""
  if isinstance(a, dict) and isinstance(b, dict):
    for key in sorted(a.keys() | b.keys()):
      yield from differences(a.get(key), b.get(key), f'{path}.{key}')
  elif a != b:
    yield f'{path}: {a!r}, was {b!r}'


@contextlib.contextmanager
def locked(
  folder: os.PathLike, *, wait: bool = False, shared: bool = False
) -> Iterator[None]:
  """Holds a folder against other processes; the lock dies with its holder.

  Args:
    folder: need not be there yet; the lock is a file beside it.
    wait: for another holder to let go, instead of an error.
    shared: with others who share it, too.
  Raises:
    Busy: if another process holds it.
  """
  # Of '.', too, the lock lies beside it.
  path = pathlib.Path(os.path.abspath(folder))
  with contextlib.ExitStack() as held:
    processes.from_first(
      lambda: held.enter_context(_locked(path, wait, shared))
    )
    yield


@contextlib.contextmanager
def _locked(
  folder: pathlib.Path, wait: bool, shared: bool = False
) -> Iterator[None]:
  folder.parent.mkdir(parents=True, exist_ok=True)
  how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
  with open(folder.with_name(f'.{folder.name}.lock'), 'w') as file:
    try:
      fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
      if not wait:
        raise Busy(
          f'another process is at work in {folder}: wait for it, or choose '
          'another folder with --workdir'
        ) from None
      logging.info('waiting for another process, at work in %s', folder)
      fcntl.flock(file, how)
    yield  # Closing the file lets go.


def by_row(record: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
  """Returns the students of each row of a run.json, in the run's order."""
  rows: dict[str, list[dict[str, Any]]] = {}
  for student in record.get('students', []):
    rows.setdefault(student['row'], []).append(student)
  return rows


class MetricsLog:
  """A file of JSON lines that a resumed run continues without a seam."""

  def __init__(self, path: os.PathLike):
    self.path = pathlib.Path(path)

  def read(self) -> list[dict[str, Any]]:
    """Returns the records; a line cut short by a kill is left out."""
    return processes.from_first(self._read)

  def _read(self) -> list[dict[str, Any]]:
    if not self.path.exists():
      return []
    records = []
    for line in self.path.read_text(encoding='utf-8').splitlines():
      try:
        records.append(json.loads(line))
      except json.JSONDecodeError:
        continue
    return records

  def append(self, record: dict[str, Any]) -> None:
    """Adds a line."""
    if not processes.is_first():
      return
    with (
      _locked(self.path, wait=True),
      open(self.path, 'a', encoding='utf-8') as file,
    ):
      file.write(json.dumps(record) + '\n')

  def drop(self, unwanted: Callable[[dict[str, Any]], bool]) -> None:
    """Removes the records of work that is going to be done again."""
    with locked(self.path, wait=True):
      kept = [record for record in self.read() if not unwanted(record)]
      write_text(self.path, ''.join(json.dumps(r) + '\n' for r in kept))


def log_own_lines() -> None:
  """Has this project's log lines shown, and of libraries only warnings.

  Orbax and TFDS log through absl, too, and say a great deal. Of several
  processes the first speaks, and others warn.
  """
  logging.set_verbosity(
    logging.INFO if processes.is_first() else logging.WARNING
  )
  logging.get_absl_handler().addFilter(_is_shown)


def _is_shown(line: Any) -> bool:
  # Not any path with this name: an environment may lie in a folder of it.
  if line.pathname.startswith(os.path.dirname(__file__) + os.sep):
    return True
  # What a library raises comes to us, and is said there; some log it, too,
  # each of their threads with a traceback.
  line.exc_info = line.exc_text = None
  return line.levelno >= 30  # a warning


def accelerators() -> list[str]:
  """Returns the devices that this machine has beside its CPU, used or not."""
  return [path for path in _ACCELERATORS if os.path.exists(path)]


def check_device() -> None:
  """Has JAX start what computes.

  Raises:
    UserError: if it is not there, or another process has it.
  """
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:  # JAX has both.
    raise errors.UserError(
      f'JAX finds nothing to compute on ({str(error) or "no such device"}); '
      f'JAX_PLATFORMS is {os.environ.get("JAX_PLATFORMS", "not set")}'
    ) from None


def log_device() -> None:
  """Says what computes, and loudly if that is a CPU beside an accelerator."""
  device = jax.devices()[0]
  logging.info(
    'device: %d x %s (%s), jax %s',
    jax.device_count(),
    device.device_kind,
    jax.default_backend(),
    jax.__version__,
  )
  if jax.default_backend() == 'cpu':
    expected = accelerators()
    if expected:
      logging.warning(
        'THIS RUNS ON THE CPU, though this machine has an accelerator (%s). '
        'Install jax for it, such as "jax[cuda12]" or "jax[tpu]", or unset '
        'JAX_PLATFORMS',
        ', '.join(expected),
      )


def environment() -> dict[str, Any]:
  """Returns what a number depends on besides its config: versions, device."""
  device, own = jax.devices()[0], workers.share()
  return {
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'kd_jax': kd_jax.__version__,
    'code': _code_version(),
    'python': platform.python_version(),
    'versions': {name: metadata.version(name) for name in _PACKAGES},
    'backend': jax.default_backend(),
    'device': device.device_kind,
    'num_devices': jax.device_count(),
    'num_processes': processes.count(),
    'processor': _processor(),
    'instructions': _instructions(),
    'cores': _cores(),
    'workers': 1 if own is None else own.count,  # Each with as many cores.
  }


def _code_version() -> str:
  """Returns the commit, marked if the tree differs from it; '' without git.

  What differs in results/ is no difference: it was written by a run.
  """

  def git(*args: str) -> str:
    return subprocess.run(
      ['git', *args],
      cwd=pathlib.Path(__file__).resolve().parents[1],
      capture_output=True,
      text=True,
      check=True,
      timeout=10,
    ).stdout.strip()

  try:
    commit = git('describe', '--always', '--abbrev=12')
    changed = git('diff', '--name-only', 'HEAD', '--', '.', ':!results')
  except (OSError, subprocess.SubprocessError):
    return ''
  return f'{commit}-dirty' if changed else commit


def _cores() -> int | None:
  """Returns how many cores this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count()


def cpu_info(field: str) -> str:
  """Returns what Linux says of the first CPU; '' elsewhere, or if nothing."""
  try:
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
      name, _, value = line.partition(':')
      if name.strip() == field:
        return value.strip()
  except OSError:
    pass
  return ''


def _processor() -> str:
  return cpu_info('model name') or platform.processor() or platform.machine()


# What matters to a network's speed, by Linux's names; of widths the widest.
_WIDTHS = {'avx512f': 'AVX-512', 'avx2': 'AVX2', 'sve': 'SVE', 'asimd': 'NEON'}
_BFLOAT16 = {'avx512_bf16', 'amx_bf16', 'bf16'}


def _instructions() -> str:
  """Returns a CPU's vector instructions, as 'AVX-512, bfloat16'."""
  flags = set((cpu_info('flags') or cpu_info('Features')).split())
  widths = [name for flag, name in _WIDTHS.items() if flag in flags][:1]
  return ', '.join([*widths, *(['bfloat16'] if flags & _BFLOAT16 else [])])
