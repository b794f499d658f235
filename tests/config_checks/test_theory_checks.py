"""Values that a config of theory cannot have: the message names the field."""

import re

import pytest

from configs import theory as recipes
from kd_jax.config_checks import theory_checks
from kd_jax.runtime import errors
from kd_jax.theory import run_theory


@pytest.mark.parametrize('recipe', run_theory.COMPUTATIONS)
@pytest.mark.parametrize('argument', ['', ',smoke'])
def test_every_theory_recipe_passes_check_theory(recipe, argument):
  config = recipes.get_config(recipe + argument)
  theory_checks.check_theory(config, run_theory.COMPUTATIONS)


@pytest.mark.parametrize(
  'recipe, field, value',
  [
    ('lemma1', 'theory', 'lemma3'),
    ('lemma1', 'seed', -1),
    ('lemma1', 'population_size', 0),
    ('lemma1', 'num_classes', 1),
    ('lemma1', 'clip', 0.0),
    ('lemma1', 'num_samples', 0),
    ('lemma1', 'num_examples', ()),
    ('lemma1', 'num_examples', (30,)),
    ('lemma1', 'num_examples', (30, 10)),
    ('lemma1', 'num_examples', (0, 10)),
    ('lemma2', 'num_teachers', 1),
    ('bayes_teacher', 'dimension', 0),
    ('bayes_teacher', 'separation', -1.0),
    ('bayes_teacher', 'num_students', 1),
    ('bayes_teacher', 'hidden', 0),
    ('bayes_teacher', 'learning_rate', float('nan')),
    ('bayes_teacher', 'steps', 0),
    ('bayes_teacher', 'test_examples', 0),
  ],
)
def test_a_value_that_cannot_be_computed_with_is_named(recipe, field, value):
  config = recipes.get_config(f'{recipe},smoke')
  config[field] = value
  message = re.escape(f'config.{field}={value!r}: expected ')
  with pytest.raises(errors.UserError, match=message):
    theory_checks.check_theory(config, run_theory.COMPUTATIONS)


@pytest.mark.parametrize('recipe', run_theory.COMPUTATIONS)
def test_every_number_of_a_config_is_checked(recipe):
  """A new field of configs/theory.py needs a check."""
  config = recipes.get_config(recipe)
  for field, value in config.items():
    if not isinstance(value, int | float):
      continue
    wrong = recipes.get_config(recipe)
    wrong[field] = type(value)(-1)
    with pytest.raises(errors.UserError, match=f'config.{field}='):
      theory_checks.check_theory(wrong, run_theory.COMPUTATIONS)
