"""Checks values; an error has the field, the value and what was expected."""

import math
from collections.abc import Collection
from typing import Any

from kd_jax import methods
from kd_jax.runtime import errors
from kd_jax.runtime.suggestions import nearest


def check(ok: bool, field: str, value: Any, expected: str) -> None:
  """Raises a UserError that names the field, unless `ok`."""
  if not ok:
    raise errors.UserError(f'config.{field}={value!r}: expected {expected}')


def check_one_of(field: str, value: str, known: Collection[str]) -> None:
  """Checks that a value is one of the known names."""
  if value not in known:
    expected = f'one of {", ".join(sorted(known))}{nearest(value, known)}'
    check(False, field, value, expected)


def check_method_names(name: str, value: str) -> None:
  """Checks that a value is the name of a method, or several joined by +.

  Args:
    name: the field or the argument, as error messages call it.
    value: its value.
  """
  known = methods.METHODS
  for method in value.split('+'):
    if method not in known:
      raise errors.UserError(
        f'{name}={value!r}: there is no method {method!r}'
        f'{nearest(method, known)}; expected one of '
        f'{", ".join(sorted(known))}, or several joined by +'
      )


def check_positive(field: str, value: float) -> None:
  """Checks that a number is finite and above 0."""
  check(0 < value < math.inf, field, value, 'a number above 0')


def check_at_least(field: str, value: float, least: float) -> None:
  """Checks that a number is finite and at least `least`."""
  check(
    least <= value < math.inf,
    field,
    value,
    f'a finite number of at least {least}',
  )


def check_limit(field: str, value: float) -> None:
  """Checks that a number is at least 0; infinity is no limit."""
  check(value >= 0, field, value, 'a number of at least 0')


def check_fraction(field: str, value: float) -> None:
  """Checks that a number is in [0, 1)."""
  check(0 <= value < 1, field, value, 'a number in [0, 1)')


def check_seed(field: str, value: int) -> None:
  """Checks that a seed is in [0, 2**32).

  JAX makes a key of a seed's last 32 bits: larger seeds would repeat others.
  """
  check(0 <= value < 2**32, field, value, 'a number from 0 to 2**32 - 1')
