"""The flags of a command line that takes a recipe: mistakes end in one line."""

import re
import sys
import traceback
from typing import NoReturn

from absl import flags
from ml_collections.config_flags import config_path

from kd_jax.cli import recipes
from kd_jax.runtime import command_basics, errors, project_files, suggestions

_NO_BASE = (
  'the recipe imports configs.base, which is now kd_jax.config_fields: write '
  "'from kd_jax import config_fields as base', base.make_config for base.base, "
  "and 'from kd_jax.sections import NetworkSections'"
)


def parse_flags(
  argv: list[str], values: flags.FlagValues = flags.FLAGS
) -> list[str]:
  """Parses the flags; a mistake ends the program with one line.

  Args:
    argv: the command line, with the program's name.
    values: the flags that are set.
  Returns:
    The arguments that are not flags, with the program's name.
  Raises:
    SystemExit: if a flag, a field or a value is wrong.
  """
  try:
    argv = _with_recipe(_with_config_first(argv))
    if values is flags.FLAGS:
      sys.argv = argv  # ml_collections reads the overrides there.
    argv = _with_config_path(argv)
    return command_basics.parse_flags(argv, values)
  except errors.UserError as error:
    sys.exit(f'error: {error}')
  except ImportError as error:
    # A recipe written for an older version.
    if error.name not in ('configs', 'configs.base') or 'base' not in error.msg:
      _end_with_place(error)
    sys.exit(f'error: {_NO_BASE}')
  except (AttributeError, KeyError) as error:
    problem = _unknown_field(argv)
    if problem is None:
      _end_with_place(error)
    sys.exit(f'error: {problem}')
  except Exception as error:  # The code of a config file can raise any.
    _end_with_place(error)


def _end_with_place(error: Exception) -> NoReturn:
  """Ends the program with one line about an error of a config file's code."""
  if command_basics.is_debugged() or command_basics.is_interrupt(error):
    raise error
  place = traceback.extract_tb(error.__traceback__)[-1]
  sys.exit(
    f'error: {place.filename}, line {place.lineno}: {type(error).__name__}: '
    f'{error} (--debug shows the traceback)'
  )


def _config_places(argv: list[str]) -> list[int]:
  """Returns the positions of --config on a command line."""
  return [
    place
    for place, arg in enumerate(argv)
    if re.match(r'--?config(=|$)', arg) is not None
  ]


def _with_config_first(argv: list[str]) -> list[str]:
  """Returns a command line with --config before the overrides of its fields.

  absl knows the flag of a field only once it has read --config.
  """
  places = _config_places(argv)
  # Otherwise the error would be that every override is defined twice.
  if len(places) > 1:
    sys.exit('error: --config is given more than once; a run has one recipe')
  if not places:
    return argv
  (start,) = places
  stop = start + 1 if '=' in argv[start] else start + 2
  program, rest = argv[0], argv[1:start] + argv[stop:]
  return [program, *argv[start:stop], *rest]


def _with_config_path(argv: list[str]) -> list[str]:
  """Returns a command line whose --config names a file that exists.

  Raises:
    UserError: if neither the current folder nor the project has the file.
  """
  if not _config_places(argv):
    return argv
  program, option, name, recipe, rest = _split(argv)
  project_files.make_configs_importable()
  return [program, f'{option}={recipes.find(name)}{recipe}', *rest]


def _with_recipe(argv: list[str]) -> list[str]:
  """Returns a command line that names a recipe, and says which if it did not.

  Args:
    argv: a command line whose first flag is --config, if it has that flag.
  Raises:
    UserError: if neither the current folder nor the project has the file.
  """
  if not _config_places(argv):
    return argv
  program, option, name, recipe, rest = _split(argv)
  if recipe.strip(':'):
    return argv
  known = recipes.names(recipes.find(name))
  if not known:
    return argv
  if len(known) > 1:
    print(
      f'--config={name} names no recipe: this is {known[0]}, the first of '
      f'{len(known)}; --list lists them',
      file=sys.stderr,
    )
  return [program, f'{option}={name}:{known[0]}', *rest]


def _split(argv: list[str]) -> tuple[str, str, str, str, list[str]]:
  """Returns the program, --config, its file, ':RECIPE' or '', and the rest."""
  program, *rest = argv
  option, equals, value = rest[0].partition('=')
  rest = rest[1:]
  if not equals and rest:
    value, *rest = rest
  name, colon, recipe = value.partition(':')
  return program, option, name, f'{colon}{recipe}', rest


def _unknown_field(argv: list[str]) -> str | None:
  """Describes the first override of an unknown field; None if all are known."""
  command = ' '.join(argv)
  source = re.search(r'--?config[= ]([^:\s]+)(?::(\S+))?', command)
  if source is None:
    return None
  config = recipes.load(recipes.find(source[1])).get_config(source[2])
  for field in re.findall(r'--?(?:no)?config\.([\w.]+)', command):
    section, path = config, 'config'
    for key in field.split('.'):
      if key not in section:
        return (
          f'there is no field {path}.{key}; the fields of {path} are: '
          f'{", ".join(section)}{suggestions.nearest(key, section)}'
        )
      section, path = config_path.get_value(key, section), f'{path}.{key}'
  return None
