"""Checks the fields of a config that kd_jax/theory/ computes."""

from collections.abc import Collection

from ml_collections import ConfigDict

from kd_jax.config_checks.checking import (
  check,
  check_at_least,
  check_one_of,
  check_positive,
  check_seed,
)

# The least value of each whole number. Spreads need two values.
_LEAST = {
  'population_size': 2,
  'num_classes': 2,
  'num_samples': 2,
  'num_teachers': 2,
  'num_students': 2,
  'dimension': 1,
  'hidden': 1,
  'steps': 1,
  'test_examples': 1,
}
_POSITIVE = ('clip', 'separation', 'learning_rate')


def check_theory(config: ConfigDict, known: Collection[str]) -> None:
  """Checks every field of a config of theory.

  Args:
    config: the config.
    known: the values that the field `theory` may have.
  Raises:
    UserError: names the field, its value and what was expected.
  """
  check_one_of('theory', config.theory, known)
  check_seed('seed', config.seed)
  for field, least in _LEAST.items():
    if field in config:
      check_at_least(field, config[field], least)
  for field in _POSITIVE:
    if field in config:
      check_positive(field, config[field])
  numbers = config.num_examples
  check(
    len(set(numbers)) > 1
    and list(numbers) == sorted(numbers)
    and all(isinstance(n, int) and n >= 1 for n in numbers),
    'num_examples',
    numbers,
    'at least two whole numbers in rising order: a slope needs two points',
  )
