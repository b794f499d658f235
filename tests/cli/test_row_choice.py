"""--rows trains some rows of a table, and what they need.

Also tests `kd_jax/runtime/suggestions.py`.
"""

import pytest

from configs import cifar, mnist
from kd_jax.cli import row_choice
from kd_jax.runtime import errors
from tests import helpers


def test_names_and_patterns_choose_rows_in_the_order_of_the_table():
  config = mnist.get_config('methods_grid')
  row_choice.keep(config, ['hint_*0', 'kl_10'])
  assert list(config.rows) == [
    'kl_10', 'hint_10', 'hint_30', 'hint_100', 'hint_300',
  ]  # fmt: skip


def test_the_row_that_steps_are_compared_with_stays():
  config = mnist.get_config('methods')
  row_choice.keep(config, ['hint'])
  assert list(config.rows) == ['kl', 'hint']
  config = mnist.get_config('methods')
  config.benchmark.enabled = False
  row_choice.keep(config, ['hint'])
  assert list(config.rows) == ['hint'] and not config.benchmark.steps_against


def test_rows_that_teach_stay():
  config = mnist.get_config('methods')
  config.benchmark.enabled = False
  row_choice.keep(config, ['born_again_2'])
  assert list(config.rows) == ['labels', 'born_again', 'born_again_2']


def test_a_name_of_no_row_is_refused():
  config = mnist.get_config('methods')
  with pytest.raises(
    errors.UserError, match=r'--rows=hnt: no row has.*\(did you mean hint\?\)'
  ):
    row_choice.keep(config, ['kl', 'hnt'])
  with pytest.raises(errors.UserError, match='has no rows to choose from'):
    row_choice.keep(cifar.get_config('teacher'), ['kl'])


def test_the_run_of_some_rows_has_a_folder_of_its_own(tmp_path):
  result = helpers.launch_here(
    '--config=configs/mnist.py:table1',
    *('--rows=h50', '--describe', f'--runs_dir={tmp_path}'),
    *('--config.data.name=generated', '--config.data.train_examples=64'),
  )
  assert result.returncode == 0, result.stderr
  assert 'h50' in result.stdout and 'h300' not in result.stdout
  (data,) = tmp_path.glob('*/data')
  assert data.parent.name.startswith('mnist-table1-as_coded+')
