"""Files that are whole: JSON, folders held by locks, digests.

Every write is atomic: a reader, or the run that resumes, sees the whole of the
old file or the whole of the new one. Of a run of several processes the first
reads and writes, and all are told what it read.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from absl import logging

from kd_jax.runtime import errors, processes


class Busy(errors.UserError):
  """Another process is at work where this one would be."""


def cache_dir() -> pathlib.Path:
  """Returns the user's cache: $XDG_CACHE_HOME or ~/.cache, then kd_jax."""
  cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(cache).expanduser() / 'kd_jax'


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
