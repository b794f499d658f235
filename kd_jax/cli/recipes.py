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
    UserError: if there is no such file; it suggests the nearest name. If the
      file is no Python.
  """
  for path in (pathlib.Path(name), project_files.root() / name):
    if path.is_file():
      _check_syntax(path)
      return path
  known = [name for name, path in files().items() if _recipes_of(path)]
  raise errors.UserError(
    f'--config={name}: there is no such file; the files of recipes are: '
    f'{", ".join(known)}{suggestions.nearest(name, known)}'
  )


def _check_syntax(path: pathlib.Path) -> None:
  """Raises UserError if a file is no Python, or has a mistake of syntax."""
  problem = ''
  try:
    compile(path.read_bytes(), path, 'exec')
  except SyntaxError as error:
    problem = f'{error.msg}, line {error.lineno}'
  except ValueError as error:  # A null byte.
    problem = str(error)
  if problem or path.suffix != '.py':
    raise errors.UserError(
      f'{path} is no file of recipes ({problem or "its name"}): expected '
      'Python, in a file *.py'
    )


def load(path: pathlib.Path) -> types.ModuleType:
  """Imports a file as a module.

  Raises:
    UserError: if the file is no Python.
  """
  _check_syntax(path)
  project_files.make_configs_importable()
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec is not None and spec.loader is not None  # A file named *.py.
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def names(path: pathlib.Path) -> list[str]:
  """Returns the names of a file's recipes; [] if the file declares none."""
  return list(_recipes_of(path))


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
