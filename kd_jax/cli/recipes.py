"""The files of recipes: where they are, what they offer, and typing errors."""

import importlib.util
import pathlib
import textwrap
import types

from kd_jax.runtime import errors, project_files, suggestions

# The columns of the lines that --list prints.
_WIDTH = 100


def files() -> dict[str, pathlib.Path]:
  """Returns the files of recipes by the names that --config takes.

  Files in the current folder's configs/ hide those of the project.
  """
  found = {}
  for folder in (project_files.root(), pathlib.Path()):
    for path in sorted((folder / 'configs').glob('*.py')):
      found[f'configs/{path.name}'] = path
  return found


def find(name: str) -> pathlib.Path:
  """Returns the path of a file of recipes.

  Args:
    name: a path, from the current folder or from the project's.
  Raises:
    UserError: if there is no such file; it suggests the nearest name.
  """
  for path in (pathlib.Path(name), project_files.root() / name):
    if path.is_file():
      return path
  known = [name for name, path in files().items() if _recipes_of(path)]
  raise errors.UserError(
    f'--config={name}: there is no such file; the files of recipes are: '
    f'{", ".join(known)}{suggestions.nearest(name, known)}'
  )


def load(path: pathlib.Path) -> types.ModuleType:
  """Imports a file as a module."""
  project_files.make_configs_importable()
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec is not None and spec.loader is not None  # A file named *.py.
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _recipes_of(path: pathlib.Path) -> dict[str, str]:
  """Returns what each recipe of a file is about, by name."""
  return getattr(load(path), 'RECIPES', {})


def describe_all() -> str:
  """Returns a group of lines for each file: its title, and its recipes."""
  groups = []
  for name, path in files().items():
    module = load(path)
    recipes = getattr(module, 'RECIPES', {})
    if not recipes:
      continue
    title = (module.__doc__ or name).strip().partition('\n')[0]
    column = max(len(f'{name}:{recipe}') for recipe in recipes) + 2
    lines = [
      textwrap.fill(
        about,
        _WIDTH,
        initial_indent=f'{name}:{recipe}'.ljust(column),
        subsequent_indent=' ' * column,
      )
      for recipe, about in recipes.items()
    ]
    groups.append('\n'.join([f'# {title}', *lines]))
  return '\n\n'.join(groups)
