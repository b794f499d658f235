"""Any recipe and any override: it can be run, or one line says why not."""

import pathlib

import pytest
from absl import flags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import config_flags

import launch
from configs import cifar, mnist, theory
from kd_jax import build, checks, errors

pytestmark = [
  pytest.mark.faults,
  # Of ml_collections, which loads a config's file so.
  pytest.mark.filterwarnings('ignore:the load_module'),
]
ROOT = pathlib.Path(__file__).parents[1]


def _leaves(section, prefix='config'):
  for key, value in section.items():
    if hasattr(value, 'items'):
      yield from _leaves(value, f'{prefix}.{key}')
    else:
      yield f'{prefix}.{key}'


FIELDS = sorted(set(_leaves(mnist.get_config('h300'))) | {'config.none'})
WORDS = st.sampled_from(
  ['', '0', '1', '-1', '1e400', 'nan', 'true', 'None', '()', '(1,)', '(0, 2)']
  + ['kl+dkd', 'sgd', 'resnet', 'int8', 'first500', 'x' * 50, '../..', 'ü']
)
_SETTINGS = settings(
  deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow]
)
RECIPES = st.sampled_from(
  ['mnist.py:h300', 'cifar.py:ideal', 'mnist.py:table1']
)
VALUES = WORDS | st.integers().map(str) | st.floats().map(str) | st.text()
ARGUMENTS = st.sampled_from(
  ['seeds', 'epochs', 'protocol', 'smoke', 'method', 'stride_at', 'none', '']
)


def _config(argv):
  """Returns the config of a command line."""
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    'config', None, '', flag_values=values, sys_argv=argv
  )
  launch.parse_flags(argv, values)
  return values.config


def _why_not(argv):
  """Returns the line that a command line ends with; '' if it can be run."""
  try:
    config = _config(argv)
    if config is None or 'experiment' in config:
      return ''
    config = build.with_own_teacher(config)
    for row in [build.close_row(config, row) for row in config.rows]:
      checks.validate(row)
    if not config.rows:
      checks.validate(config)
  except flags.Error as error:  # Which absl ends a program with, in a line.
    return f'error: {error}'
  except errors.UserError as error:
    return f'error: {error}'
  except SystemExit as error:
    return str(error.code)
  return ''


@_SETTINGS
@given(
  field=st.sampled_from(FIELDS),
  value=VALUES,
  recipe=st.sampled_from(
    ['mnist.py:h300', 'cifar.py:ideal', 'mnist.py:table1']
  ),
)
def test_any_override(field, value, recipe):
  """Any value of any field."""
  why_not = _why_not(
    ['launch.py', f'--config={ROOT}/configs/{recipe}', f'--{field}={value}']
  )
  assert not why_not or len(why_not) > len('error: ')
  assert not why_not or why_not.startswith('error: ')


@_SETTINGS
@given(
  file=st.sampled_from(['mnist', 'cifar', 'theory']),
  recipe=st.sampled_from(
    [*mnist.RECIPES, *cifar.RECIPES, *theory.RECIPES, 'none', '']
  )
  | st.text(),
  arguments=st.lists(st.tuples(ARGUMENTS, VALUES), max_size=3),
)
def test_any_recipe(file, recipe, arguments):
  """Any recipe with any arguments."""
  given_arguments = ','.join(f'{name}={value}' for name, value in arguments)
  text = f'{recipe},{given_arguments}' if arguments else recipe
  why_not = _why_not(['launch.py', f'--config={ROOT}/configs/{file}.py:{text}'])
  assert not why_not or len(why_not) > len('error: ')
  assert not why_not or why_not.startswith('error: ')
