"""Numbers, names and paths of a call: each mistake names its argument."""

import numbers
import operator
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd_jax.runtime import errors, local_paths
from kd_jax.runtime.callbacks import Callback


def whole_number(name: str, value: Any, least: int = 1) -> int:
  """Returns an int, a NumPy integer or an array [] of one as an int.

  Args:
    name: the argument.
    value: its value.
    least: the least number that it may be.
  Raises:
    UserError: if it is another number, or no number.
  """
  try:
    number = None if isinstance(value, bool) else operator.index(value)
  except TypeError:
    number = None
  if number is None or number < least:
    raise errors.UserError(
      f'{name}={value!r}: expected a whole number of at least {least}'
    )
  return number


def real_number(name: str, value: Any) -> float:
  """Returns a number of Python or NumPy, or an array [] of one, as a float.

  Raises:
    UserError: if it is no number.
  """
  if np.ndim(value) == 0 and hasattr(value, 'item'):
    value = value.item()
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    raise errors.UserError(f'{name}={value!r}: expected a number')
  return float(value)


def text(name: str, value: Any) -> str:
  """Returns a text.

  Raises:
    UserError: if it is no text.
  """
  if not isinstance(value, str):
    raise errors.UserError(f'{name}={value!r}: expected a text')
  return value


def path(name: str, value: Any) -> pathlib.Path:
  """Returns the absolute path of a file or a folder.

  Raises:
    UserError: if it is no path.
  """
  if not isinstance(value, str | os.PathLike):
    raise errors.UserError(f'{name}={value!r}: expected a path')
  return local_paths.expand(value, name).absolute()


def names(name: str, value: Any) -> tuple[str, ...]:
  """Returns the members of a sequence as texts.

  Raises:
    UserError: if it has no members.
  """
  try:
    return tuple(map(str, value))
  except TypeError:
    raise errors.UserError(
      f'{name}={value!r}: expected a name for each class'
    ) from None


def fields(value: Any) -> dict[str, Any]:
  """Returns fields of a config by name; None means none.

  Raises:
    UserError: if it is no mapping of names.
  """
  given = {} if value is None else value
  if not isinstance(given, Mapping) or not all(
    isinstance(name, str) for name in given
  ):
    raise errors.UserError(
      f"fields={value!r}: expected {{'SECTION.FIELD': value}}"
    )
  # A config holds numbers of Python alone.
  return {
    name: each.item() if isinstance(each, np.generic) else each
    for name, each in given.items()
  }


def callbacks(value: Any) -> Sequence[Callback]:
  """Returns the objects that follow a training.

  Raises:
    UserError: if one of them is no Callback, or the value no sequence.
  """
  wrong = [value]
  if isinstance(value, list | tuple):
    wrong = [each for each in value if not isinstance(each, Callback)]
  if wrong:
    raise errors.UserError(
      f'callbacks: {type(wrong[0]).__name__} is none; expected a list of '
      'objects of kd_jax.Callback'
    )
  return value
