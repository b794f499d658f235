"""Paths that a user gives: on this machine, and no addresses of a store."""

import os
import pathlib
import re

from kd_jax.runtime import errors

_ADDRESS = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*://')


def expand(path: str | os.PathLike, name: str) -> pathlib.Path:
  """Returns a path that a user gave; `~` becomes the home folder.

  Args:
    path: the path.
    name: the flag or the field that holds it, for error messages.
  Raises:
    UserError: if the path is an address such as gs://BUCKET/run, which
      `pathlib` would take for a local folder, or names an unknown user's home.
  """
  text = os.fspath(path)
  if _ADDRESS.match(text):
    raise errors.UserError(
      f'{name}={text}: expected a local path, no address: mount the store as a '
      'folder (gcsfuse, s3fs, ...), or copy the files'
    )
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError as error:
    raise errors.UserError(f'{name}={text}: {error}') from None
