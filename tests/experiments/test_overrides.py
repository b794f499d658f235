"""Any recipe with any override can be run, or one line says why not."""

import pathlib
import re
import tempfile

import pytest
from absl import flags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import config_flags

from configs import cifar, mnist, theory
from kd_jax import config as config_lib
from kd_jax import data, methods, models
from kd_jax.cli import parsing
from kd_jax.config_checks import field_checks
from kd_jax.data import augmentation, preprocessing
from kd_jax.runtime import errors
from kd_jax.teachers import provider
from kd_jax.training import optimizers
from tests import helpers

pytestmark = [
  pytest.mark.faults,
  # ml_collections loads a config's file with the deprecated load_module.
  pytest.mark.filterwarnings('ignore:the load_module'),
]


def _leaves(section, prefix='config'):
  """Yields the dotted names of all fields."""
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
# `make faults`, with other examples each time, also tries more of them.
_EXPLORES = settings.get_current_profile_name() == 'explore'
_SETTINGS = settings(
  deadline=None,
  max_examples=300 if _EXPLORES else 100,
  suppress_health_check=[HealthCheck.too_slow],
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
  parsing.parse_flags(argv, values)
  return values.config


def _why_not(argv):
  """Returns the error line of a command line; '' if it can be run."""
  try:
    config = _config(argv)
    if config is None or 'theory' in config:
      return ''
    config = provider.with_user_teacher(config)
    for row in [config_lib.close_row(config, row) for row in config.rows]:
      field_checks.check_fields(row)
    if not config.rows:
      field_checks.check_fields(config)
  except flags.Error as error:  # absl prints these in one line.
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
def test_any_override_is_accepted_or_refused_in_one_line(field, value, recipe):
  """Any value of any field: it is accepted, or refused in one line."""
  why_not = _why_not(
    [
      'launch.py',
      f'--config={helpers.ROOT}/configs/{recipe}',
      f'--{field}={value}',
    ]
  )
  assert not why_not or len(why_not) > len('error: ')
  assert not why_not or why_not.startswith('error: ')


# With these fields a run could take long, or write to any folder.
_UNTRIED = ('config.seeds', 'config.name', 'config.theory')
# Overrides for 64 images, on which small networks train in a second.
_SMALL = (
  *('--config.data.train_examples=64', '--config.data.test_examples=32'),
  *('--config.train.epochs=1', '--config.train.batch_size=16'),
  *('--config.teacher.train.epochs=1', '--config.teacher.train.batch_size=16'),
  '--noconfig.benchmark.enabled',
)
_RESNETS = tuple(
  f'--config.{network}.{field}'
  for network in ('student', 'teacher.model')
  for field in ('blocks=(1,)', 'widths=(8,)', 'strides=(2,)')
)
SMALL = {
  'mnist.py:h50': (
    '--config.data.name=generated',
    '--config.teacher.model.filters=(2,)',
    '--config.teacher.model.hidden=(8,)',
  ),
  'cifar.py:ideal': (
    '--config.data.name=generated_rgb',
    '--config.teacher.retrain',
    *_RESNETS,
  ),
}
NUMBERS = st.sampled_from(
  ['0', '1', '2', '3', '7', '64', '65', '-1', '-7', '0.5', '0.999', '1e-30']
  + ['1e30', 'inf', 'nan', str(2**31), str(2**32), str(2**63), str(10**30)]
)


@pytest.mark.slow
@pytest.mark.parametrize('recipe', SMALL)
@settings(_SETTINGS, max_examples=40)
@given(data=st.data(), value=NUMBERS | WORDS)
def test_any_override_runs_or_a_line_says_why_not(recipe, data, value):
  """Any value of a field: the run succeeds, or one line says why not."""
  fields = sorted(set(_leaves(_config(_small(recipe)))) - set(_UNTRIED))
  field = data.draw(st.sampled_from(fields))
  outcome = _outcome(_small(recipe, f'--{field}={value}'))
  assert re.fullmatch(r'complete|error: .+', outcome, re.DOTALL)


def _small(recipe, *args):
  source = f'--config={helpers.ROOT}/configs/{recipe}'
  return ['launch.py', source, *_SMALL, *SMALL[recipe], *args]


def _outcome(argv):
  """Returns the status of a command line's run, or the line that refuses it."""
  why_not = _why_not(argv)
  if why_not:
    return why_not
  with tempfile.TemporaryDirectory() as folder:
    try:
      record = helpers.run(_config(argv), pathlib.Path(folder), with_plots=True)
    except errors.UserError as error:
      return f'error: {error}'
  return record['status']


# The values of each field; some do not fit together with other fields.
CHOICES = {
  'data.name': ('generated', 'generated_rgb'),
  'data.scaling': preprocessing.SCALINGS,
  'teacher.scaling': preprocessing.SCALINGS,
  'teacher.outputs_scaling': preprocessing.SCALINGS,
  'train.augmentation': augmentation.AUGMENTATIONS,
  'train.transfer_set': (*data.TRANSFER_SETS, 'generated', 'generated_rgb'),
  'optim.schedule': optimizers.SCHEDULES,
  'optim.name': optimizers.OPTIMIZERS,
  'distill.method': methods.METHODS,
  'student.quantization': models.quantization.SCHEMES,
  'teacher.model.quantization': models.quantization.SCHEMES,
}


@pytest.mark.slow
@pytest.mark.parametrize('recipe', SMALL)
@pytest.mark.parametrize('field', CHOICES)
def test_every_choice_of_a_field_runs_or_a_line_says_why_not(recipe, field):
  """Each choice of a field: the run succeeds, or one line says why not."""
  outcomes = [
    _outcome(_small(recipe, f'--config.{field}={value}'))
    for value in CHOICES[field]
  ]
  assert 'complete' in outcomes
  for outcome in outcomes:
    assert re.fullmatch(r'complete|error: .+', outcome, re.DOTALL)


@_SETTINGS
@given(
  file=st.sampled_from(['mnist', 'cifar', 'theory']),
  recipe=st.sampled_from(
    [*mnist.RECIPES, *cifar.RECIPES, *theory.RECIPES, 'none', '']
  )
  | st.text(),
  arguments=st.lists(st.tuples(ARGUMENTS, VALUES), max_size=3),
)
def test_any_recipe_is_accepted_or_refused_in_one_line(file, recipe, arguments):
  """Any recipe and arguments: they are accepted, or refused in one line."""
  given_arguments = ','.join(f'{name}={value}' for name, value in arguments)
  text = f'{recipe},{given_arguments}' if arguments else recipe
  why_not = _why_not(
    ['launch.py', f'--config={helpers.ROOT}/configs/{file}.py:{text}']
  )
  assert not why_not or len(why_not) > len('error: ')
  assert not why_not or why_not.startswith('error: ')
