"""Paths that a user gives: on this machine, and no addresses of a store."""

import errno
import os
import pathlib
import re
import stat
import sys
from typing import BinaryIO

from kd_jax.runtime import errors

_ADDRESS = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*://')


def check_regular(path: pathlib.Path, name: str) -> None:
  """Checks that a path, if it exists, is a file and nothing else.

  A pipe would be waited for without end, and a device can hold anything.

  Args:
    path: the path.
    name: the name of the path in error messages.
  Raises:
    UserError: if the path is a folder, a pipe, a socket or a device.
  """
  kind = irregular_kind(path)
  if kind is not None:
    raise errors.UserError(f'{name}: {path} is {kind}; expected a file')


def open_regular(path: pathlib.Path) -> BinaryIO:
  """Opens a file to read its bytes.

  To open a pipe would be to wait without end.

  Raises:
    OSError: if the path is missing, or is no file; names the path.
  """
  kind = irregular_kind(path)
  if kind is not None:
    raise OSError(errno.EINVAL, f'it is {kind}; expected a file', str(path))
  return open(path, 'rb')


def irregular_kind(path: pathlib.Path) -> str | None:
  """Returns what a path is instead of a file, such as 'a pipe', or None.

  What cannot be looked at is left to whoever opens the path.
  """
  try:
    mode = path.stat().st_mode
  except OSError:
    return None
  return (
    None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), 'no file')
  )


_KINDS = {
  stat.S_IFDIR: 'a folder',
  stat.S_IFIFO: 'a pipe',
  stat.S_IFSOCK: 'a socket',
  stat.S_IFCHR: 'a device',
  stat.S_IFBLK: 'a device',
}


def expand(path: str | os.PathLike, name: str) -> pathlib.Path:
  """Returns a path that a user gave; `~` becomes the home folder.

  Args:
    path: the path.
    name: the flag or the field that holds it, for error messages.
  Raises:
    UserError: if the path is an address such as gs://BUCKET/run, which
      `pathlib` would take for a local folder, or names an unknown user's home,
      or has letters that the libraries which write checkpoints would misread.
  """
  text = os.fspath(path)
  if _ADDRESS.match(text):
    raise errors.UserError(
      f'{name}={text}: expected a local path, no address: mount the store as a '
      'folder (gcsfuse, s3fs, ...), or copy the files'
    )
  try:
    expanded = pathlib.Path(text).expanduser()
  except RuntimeError as error:
    raise errors.UserError(
      f'{name}={text}: {error}: write the whole path'
    ) from None
  encoding = sys.getfilesystemencoding()
  if encoding != 'utf-8' and not str(expanded.absolute()).isascii():
    raise errors.UserError(
      f'{name}={text}: the path is not ASCII, and the encoding of file names '
      f'is {encoding} ({_locale()}); Orbax writes checkpoints to paths in '
      'UTF-8: set PYTHONUTF8=1, or a locale such as C.UTF-8, or choose a path '
      'in ASCII'
    )
  return expanded


def _locale() -> str:
  """Returns the variable that sets the encoding, such as 'LC_ALL=C'."""
  for name in ('LC_ALL', 'LC_CTYPE', 'LANG'):
    if os.environ.get(name):
      return f'{name}={os.environ[name]}'
  return 'no LANG'
