"""Atomic writes, .npy files, locks on folders, and digests.

Every write is atomic: a reader, or a run that resumes, sees either the whole
old file or the whole new file. In a run of several processes, the first process
reads and writes, and sends the others what it read.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np

from kd_jax.runtime import errors, local_paths, locks, processes


def cache_dir() -> pathlib.Path:
  """Returns the user's cache folder, $XDG_CACHE_HOME/kd_jax.

  Without $XDG_CACHE_HOME the folder is ~/.cache/kd_jax.

  Raises:
    UserError: if the user has no home folder.
  """
  cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  try:
    return pathlib.Path(cache).expanduser() / 'kd_jax'
  except RuntimeError as error:
    raise errors.UserError(
      f'there is no folder for caches ({error}): set HOME, or XDG_CACHE_HOME'
    ) from None


def write_bytes(path: os.PathLike, content: bytes) -> None:
  """Writes a whole file, or leaves the old file as it was.

  Only the first process of a run writes.
  """
  if not processes.is_first():
    return
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with errors.name_file(path), open(temporary, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError:
    # The disk may be full; the partial file would fill it further.
    temporary.unlink(missing_ok=True)
    raise


def write_text(path: os.PathLike, text: str) -> None:
  """Writes a whole text file, or leaves the old file as it was."""
  write_bytes(path, text.encode())


def write_json(path: os.PathLike, value: Any) -> None:
  """Writes a whole JSON file, or leaves the old file as it was."""
  write_text(path, json.dumps(value, indent=1) + '\n')


def read_json(path: os.PathLike) -> Any | None:
  """Returns a JSON file's value; None if the file is missing or damaged."""

  def read():
    try:
      return json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
      return None

  return processes.from_first(read)


def check_in_place(path: os.PathLike) -> None:
  """Checks that a file which this command has written is still there.

  Otherwise the next write would make its folder anew, beside the one that has
  the results so far. Only the first process of a run looks.

  Raises:
    UserError: if the file is missing.
  """
  path = pathlib.Path(path)
  if processes.is_first() and not path.exists():
    raise errors.UserError(
      f'{path.parent} was moved or removed while this command was at work in '
      f'it ({path.name} is missing): bring it back, in the place of what was '
      'written there since, and start the same command again, which resumes '
      'the run'
    )


def remove(path: os.PathLike) -> None:
  """Removes a file, or a folder with its content, if it exists.

  Only the first process of a run removes.
  """
  path = pathlib.Path(path)
  if not processes.is_first():
    return
  if path.is_dir():
    # Another run may remove the same folder at this moment.
    with contextlib.suppress(FileNotFoundError):
      shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def check_disk_space(folder: os.PathLike, needed: int, content: str) -> None:
  """Checks that a disk has enough free space.

  Args:
    folder: a folder on the disk.
    needed: space in bytes.
    content: a name for what will be written, for the error message.
  Raises:
    UserError: if fewer than `needed` bytes are free.
  """
  free = shutil.disk_usage(folder).free
  if free < needed:
    raise errors.UserError(
      f'no space left for {content} in {folder}: up to {needed / 1e6:.1f} MB '
      f'are needed, and {free / 1e6:.1f} MB are free; free some space and '
      'start the same command again, which resumes the run'
    )


def check_name(name: str, what: str) -> None:
  """Checks that a name can be that of one file in a folder.

  A name that a file has brought must not lead out of the folder.

  Args:
    name: the name.
    what: the name's place, for the error message.
  Raises:
    UserError: if the name is '', '.' or '..', or has a separator of folders or
      a control character.
  """
  if (
    name in ('', '.', '..')
    or not set(name).isdisjoint('/\\')
    or (not name.isprintable())
  ):
    raise errors.UserError(
      f'{what} {name!r} is no name of a file: expected letters, digits, "-", '
      '"_" and "."'
    )


def as_name(text: str) -> str:
  """Returns a text as the name of one file, which leads out of no folder."""
  kept = ''.join(c if c.isprintable() and c not in '/\\' else '_' for c in text)
  return kept if kept.strip('.') else kept.replace('.', '_') or '_'


def npy_content(array: np.ndarray) -> bytes:
  """Returns an array as the content of a .npy file.

  Raises:
    TypeError: if the file could not hold the type, as for bfloat16.
  """
  if array.dtype.kind == 'V' and array.dtype.names is None:
    raise TypeError(f'.npy files cannot hold {array.dtype}: convert it before')
  content = io.BytesIO()
  np.save(content, array)
  return content.getvalue()


def file_digest(path: pathlib.Path) -> str:
  """Returns the SHA-256 (hex) of a file, or '' if there is no file."""
  if not path.is_file():  # To read a pipe would be to wait without end.
    return ''
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def json_digest(value: Any) -> str:
  """Returns the SHA-256 (hex) of a JSON value; key order does not matter."""
  text = json.dumps(value, sort_keys=True, separators=(',', ':'))
  return hashlib.sha256(text.encode()).hexdigest()


def differences(a: Any, b: Any, path: str) -> Iterator[str]:
  """Yields `field: a, was b` for every leaf in which two configs differ.

  Args:
    a: the new config, nested dicts.
    b: the old config.
    path: the name of the whole config, such as 'config'.
  """
  if isinstance(a, dict) and isinstance(b, dict):
    for key in sorted(a.keys() | b.keys()):
      yield from differences(a.get(key), b.get(key), f'{path}.{key}')
  elif a != b:
    yield f'{path}: {a!r}, was {b!r}'


@contextlib.contextmanager
def locked(
  folder: os.PathLike,
  *,
  wait: bool = False,
  shared: bool = False,
  limit_s: float | None = None,
) -> Iterator[None]:
  """Locks a folder for this run; the lock ends with the process.

  In a run of several processes, all processes enter the context, and the first
  process holds the lock.

  Args:
    folder: a folder, which need not exist yet; the lock is a file beside it.
    wait: whether to wait for another run instead of raising an error.
    shared: whether other runs may hold the lock too, if they also share it.
    limit_s: the longest wait in seconds; None for that of `locks.limit_waits`.
  Raises:
    locks.Busy: if another run holds the lock and `wait` is False, or holds it
      for longer than the limit.
  """
  with contextlib.ExitStack() as held:
    processes.from_first(
      lambda: held.enter_context(
        locked_by_process(folder, wait=wait, shared=shared, limit_s=limit_s)
      )
    )
    yield


@contextlib.contextmanager
def locked_by_process(
  folder: os.PathLike,
  *,
  wait: bool = False,
  shared: bool = False,
  limit_s: float | None = None,
) -> Iterator[None]:
  """Locks a folder for this process alone; for the arguments see `locked`."""
  # The real path, so that even the folder '.' has its lock beside it, and that
  # a folder with two names, one of them a link, has one lock.
  folder = pathlib.Path(os.path.realpath(folder))
  if not folder.name:
    raise errors.UserError(
      f'{folder} cannot be the folder of a run or of data: name a folder in it'
    )
  folder.parent.mkdir(parents=True, exist_ok=True)
  path = folder.with_name(f'.{folder.name}.lock')
  local_paths.check_regular(path, 'a lock')
  # A file opened with 'w' would no longer name the process that has the lock.
  with open(path, 'a+b') as file:
    locks.acquire(
      file.fileno(), folder, wait=wait, shared=shared, limit_s=limit_s
    )
    yield  # Closing the file releases the lock.
