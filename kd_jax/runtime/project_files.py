"""The files that come with the project: configs/ and teachers/."""

import importlib
import pathlib
import sys

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
# The folder of a wheel that holds configs/ and teachers/; see pyproject.toml.
_INSTALLED = _PACKAGE / 'project'


def checkout() -> pathlib.Path | None:
  """Returns the folder of the source code; None in an installed package."""
  return None if _INSTALLED.is_dir() else _PACKAGE.parent


def root() -> pathlib.Path:
  """Returns the folder that holds configs/ and teachers/."""
  return checkout() or _INSTALLED


def make_configs_importable() -> None:
  """Lets recipes import each other as `from configs import tables`.

  The package is imported at once: otherwise a package `configs` in the folder
  of a user's project would be imported in its place.
  """
  if str(root()) not in sys.path:
    sys.path.append(str(root()))
  importlib.import_module('configs')
