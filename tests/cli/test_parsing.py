"""A command line that takes a recipe: mistakes, and what it leaves out.

Also tests `kd_jax/cli/recipes.py`.
"""

import sys

import pytest
from absl import flags

from kd_jax.cli import parsing
from kd_jax.runtime import command_basics
from tests import helpers


@pytest.fixture(name='values')
def _values():
  values = flags.FlagValues()
  flags.DEFINE_float('rate', 1.0, 'A rate.', flag_values=values)
  flags.DEFINE_integer('workers', 1, 'A number.', 1, flag_values=values)
  flags.DEFINE_bool('list', False, 'A switch.', flag_values=values)
  return values


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('--rate=hot', '--rate=hot: expected a number'),
    ('--workers=two', '--workers=two: expected a whole number'),
    ('--workers=0', '--workers=0: 0 is not a positive integer'),
    ('--list=maybe', '--list=maybe: expected true or false'),
    (
      '--wrkers=2',
      'unknown flag --wrkers (did you mean --workers?); --help lists the flags',
    ),
  ],
)
def test_a_mistake_is_one_line_of_ours(values, argument, message):
  with pytest.raises(SystemExit) as raised:
    command_basics.parse_flags(['launch.py', argument], values)
  assert raised.value.code == f'error: {message}'


def test_a_command_without_a_recipe_says_which_it_takes(capsys, monkeypatch):
  parsed = []
  monkeypatch.setattr(sys, 'argv', ['launch.py'])
  monkeypatch.setattr(
    command_basics, 'parse_flags', lambda argv, _: parsed.append(argv) or argv
  )
  parsing.parse_flags(['launch.py', '--config=configs/mnist.py'])
  assert capsys.readouterr().err.startswith(
    '--config=configs/mnist.py names no recipe: this is table1, the first of '
  )
  assert parsed == [['launch.py', '--config=configs/mnist.py:table1']]
  # Workers and records get the recipe's name, and do not say it again.
  assert sys.argv == ['launch.py', '--config=configs/mnist.py:table1']
  parsing.parse_flags(['launch.py', '--config=configs/mnist.py:h300'])
  assert not capsys.readouterr().err


@pytest.mark.parametrize(
  'line',
  (
    'from configs import base',
    'import configs.base',
    'from configs.base import mlp',
  ),
)
def test_a_recipe_of_an_older_version_learns_the_new_name(tmp_path, line):
  recipe = tmp_path / 'mine.py'
  recipe.write_text(f'{line}\n')
  result = helpers.launch_here(f'--config={recipe}')
  assert result.returncode == 1
  assert 'which is now kd_jax.config_fields' in result.stderr
  assert 'Traceback' not in result.stderr


@pytest.mark.parametrize(
  ('code', 'message'),
  [
    ('import missing_package', 'line 1: ModuleNotFoundError: No module named'),
    ('\ndef get_config(arg=None): 1 / 0', 'line 2: ZeroDivisionError: div'),
    ('def get_config(arg=None): return 3', 'get_config returned int; expected'),
  ],
)
def test_a_mistake_in_the_code_of_a_config_file_is_one_line(
  code, message, tmp_path
):
  path = tmp_path / 'own.py'
  path.write_text(code)
  result = helpers.launch_here(f'--config={path}')
  assert result.returncode == 1
  assert message in result.stderr and 'Traceback' not in result.stderr


def test_debug_shows_a_mistake_of_a_config_file_as_python_shows_it(tmp_path):
  recipe = tmp_path / 'mine.py'
  recipe.write_text('from configs import tabels\n')
  with pytest.raises(ImportError, match='tabels'):
    helpers.launch_here(f'--config={recipe}', '--debug')
