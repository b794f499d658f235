"""Arguments of a recipe: `--config=FILE.py:RECIPE,ARGUMENT=VALUE,...`."""

import ast
from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import config_dict

from kd_jax import config_fields
from kd_jax.runtime.suggestions import nearest


def parse_arg(
  arg: str | None, recipes: Mapping[str, Any], **defaults
) -> tuple[str, config_dict.ConfigDict]:
  """Parses `RECIPE,ARGUMENT=VALUE,...`.

  Args:
    arg: the text after the colon of `--config`; None or '' selects the first
      recipe.
    recipes: the known recipes, by name.
    **defaults: the known arguments and their defaults. A given value is
      converted to the type of the default.
  Returns:
    The recipe's name and the arguments.
  Raises:
    ConfigError: if the recipe or an argument is unknown, or a value has the
      wrong type; the message lists the known names.
  """
  recipe, *pairs = (arg or next(iter(recipes))).split(',')
  if recipe not in recipes:
    raise config_fields.ConfigError(
      f'unknown recipe {recipe!r}; the recipes are: {", ".join(recipes)}'
      f'{nearest(recipe, recipes)}'
    )
  arguments = dict(defaults)
  for pair in pairs:
    key, equals, text = pair.partition('=')
    if key not in defaults:
      raise config_fields.ConfigError(
        f'unknown argument {key!r} of recipe {recipe!r}; '
        f'the arguments are: {", ".join(defaults)}{nearest(key, defaults)}'
      )
    # An argument without a value means true: `:h300,smoke`.
    arguments[key] = _convert(key, text if equals else 'true', defaults[key])
  return recipe, config_dict.create(**arguments)


def _convert(key: str, text: str, default: Any) -> Any:
  """Returns the value of a text, in the type of the default."""
  if isinstance(default, str):
    return text
  if isinstance(default, bool) and text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  try:
    value = ast.literal_eval(text)
  except (SyntaxError, ValueError):
    value = None
  if type(value) is type(default):
    return value
  raise config_fields.ConfigError(
    f'argument {key}={text}: expected a value of type '
    f'{type(default).__name__}, such as {default}'
  )


def check_choice(
  args: config_dict.ConfigDict, argument: str, known: Collection[str]
) -> None:
  """Checks the value of an argument against the known values.

  Args:
    args: the arguments, from `parse_arg`.
    argument: the argument's name.
    known: the values that the argument may have.
  Raises:
    ConfigError: if the value is unknown.
  """
  if args[argument] not in known:
    raise config_fields.ConfigError(
      f'unknown {argument} {args[argument]!r}; known: {", ".join(known)}'
      f'{nearest(args[argument], known)}'
    )
