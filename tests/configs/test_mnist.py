"""The recipes of configs/mnist.py: rows, protocols, arguments, first step.

Also tests `configs/arguments.py`.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import mnist
from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.config_checks import field_checks
from kd_jax.runtime import errors
from kd_jax.training import plan, training_functions
from kd_jax.training.batch import Examples
from kd_jax.training.epoch_inputs import EpochInputs, EpochViews, SharedInputs
from tests.configs import recipe_rows

ARGUMENTS = (
  '',
  ',seeds=5',
  ',protocol=as_written',
  ',teacher_dropout=false',
  ',smoke=true',
  ',smoke',
  ',protocol=as_written,smoke=true,seeds=2',
)
LARGE = ('methods', 'methods_grid')


@pytest.mark.parametrize(
  'recipe, argument',
  recipe_rows.with_arguments(mnist.RECIPES, ARGUMENTS, LARGE),
)
def test_every_mnist_recipe_and_argument_is_valid(recipe, argument):
  config = mnist.get_config(recipe + argument)
  json.dumps(config.to_dict())
  for row in recipe_rows.close(mnist, recipe + argument).values():
    field_checks.check_fields(row)
    assert None not in jax.tree.leaves(
      row.to_dict(), is_leaf=lambda leaf: leaf is None
    )


@pytest.mark.parametrize('protocol', mnist.PROTOCOLS)
@pytest.mark.parametrize(
  'row',
  [
    recipe
    for recipe in mnist.RECIPES
    if recipe not in ('table1', 'teacher', 'methods', 'methods_grid')
  ],
)
def test_a_row_of_table_1_equals_the_recipe_of_its_name(row, protocol):
  alone = recipe_rows.close(mnist, f'{row},protocol={protocol}')[row].to_dict()
  in_table = recipe_rows.close(mnist, f'table1,protocol={protocol}')[
    row
  ].to_dict()
  for config in (alone, in_table):
    del config['name'], config['paper']
  assert alone == in_table


@pytest.mark.parametrize('protocol', mnist.PROTOCOLS)
@pytest.mark.parametrize('row', ('h50', 'h300_b16', 'h600_hard'))
def test_the_first_step_of_a_row_has_the_right_shapes(row, protocol):
  config = recipe_rows.close(mnist, f'table1,protocol={protocol}')[row]
  phases = plan.make_phases(
    np.ones(60_000, bool), epochs=config.train.epochs, folds=config.train.folds
  )
  timetable = plan.timetable(phases, config.train.batch_size, False)
  functions = training_functions.make_training_functions(
    training_functions.make_spec(
      config,
      config_lib.student_sections(config),
      data.ImageTask(10, (28, 28, 1)),
      total_steps=sum(epoch.num_steps for epoch in timetable),
    )
  )
  examples = Examples(
    jnp.zeros((100, 28, 28, 1), jnp.uint8),
    jnp.zeros(100, jnp.int32),
    jnp.zeros((100, 10)),
  )

  def first_step():
    key = jax.random.key(0)
    state = functions.init(key)
    inputs = EpochInputs(
      examples=examples,
      views=EpochViews(),
      order=functions.epoch_functions.shuffle(jnp.ones(100, bool), key),
      shared=SharedInputs(
        100,
        key,
        training_functions.hyperparameters_of_epoch(
          config.optim, config.distill, 0
        ),
      ),
    )
    return functions.epoch_functions.take_steps(
      state, functions.epoch_functions.zero_totals(), inputs, 0, 1
    )

  state, totals = jax.eval_shape(first_step)
  assert state.step.shape == ()
  assert set(totals.sums) >= {'loss', 'ce', 'correct', 'count'}
  distilled = config.distill.kd_weight > 0
  assert (config.distill.method in totals.sums) == distilled


def test_the_protocols_of_table_1_set_the_right_fields():
  coded, written = (
    recipe_rows.close(mnist, f'table1,protocol={protocol}')['h300_t10']
    for protocol in mnist.PROTOCOLS
  )
  # As coded, the networks contain the temperature. The loss has no
  # temperature, and so no factor T^2.
  assert coded.teacher.model.temperature == 3.5
  assert coded.student.temperature == 10
  assert coded.distill.method == 'soft_cross_entropy'
  assert coded.distill.temperature == 1
  assert coded.train.folds == 3 and coded.train.carry_optimizer
  assert coded.teacher.train.holdout_fraction == 0.2
  # As written, the loss softens the outputs of an ordinary teacher.
  assert written.teacher.model.temperature == written.student.temperature == 1
  assert written.distill.method == 'kl'
  assert written.distill.temperature == 10
  assert written.train.folds == 0
  assert written.teacher.train.holdout_fraction == 0
  for config in (coded, written):
    assert config.distill.ce_weight == 0 and config.distill.kd_weight == 1
    assert config.teacher.model.dropout_rate == 0.5
    assert config.optim.name == 'adam' and config.optim.learning_rate == 1e-3
  off = recipe_rows.close(mnist, 'h300,teacher_dropout=false')['h300']
  assert off.teacher.model.dropout_rate == 0


def test_table_1_has_the_values_of_the_paper():
  config = mnist.get_config('table1')
  assert [*config.rows][:9] == [*mnist.TABLE1]
  rows = recipe_rows.close(mnist, 'table1')
  assert rows['h50'].student.hidden == (50,)
  assert rows['h600'].student.hidden == (600,)
  assert rows['h300_b16'].train.batch_size == 16
  assert rows['h300_e5'].train.epochs == 5
  assert config.paper.h300_e5.train_s == 247.926
  assert 'h300_hard' not in config.paper


def test_an_override_of_a_table_holds_for_all_rows():
  config = mnist.get_config('table1')
  assert config.train.batch_size is None
  config.train.batch_size = 128
  closed = [config_lib.close_row(config, row) for row in config.rows]
  assert {row.train.batch_size for row in closed} == {128}
  assert {row.train.epochs for row in closed} == {2, 3, 5}


@pytest.mark.parametrize(
  'arg, message',
  [
    ('h301', "unknown recipe 'h301'; the recipes are: table1, h50"),
    ('h300,sees=1', "unknown argument 'sees'.*seeds, protocol"),
    ('h300,seeds=one', 'seeds=one: expected a value of type int'),
    ('h300,seeds=1.5', 'expected a value of type int'),
    ('h300,smoke=2', 'expected a value of type bool'),
    ('h300,protocol=as_said', "'as_said'.*as_coded, as_written"),
    (
      'h300,method=kl+hints',
      r"there is no method 'hints' \(did you mean hint\?\); expected "
      'one of adversarial_features',
    ),
  ],
)
def test_mistakes_in_mnist_arguments_are_named(arg, message):
  with pytest.raises(errors.UserError, match=message):
    mnist.get_config(arg)
