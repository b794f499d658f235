"""Trainings that share compiled functions, and the numbers that are traced."""

import jax
import numpy as np
import pytest

from configs import mnist
from kd_jax import config as config_lib
from kd_jax import config_fields
from kd_jax.data import ImageTask
from kd_jax.models import from_config
from kd_jax.training import training_functions

PROBLEM = ImageTask(10, (28, 28, 1))


def _closed(**fields):
  config = mnist.get_config('h50')
  config.update_from_flattened_dict(fields)
  return config_lib.close_row(config, 'h50')


def _key(total_steps=100, **fields):
  config = _closed(**fields)
  return training_functions.make_spec(
    config,
    config_lib.student_sections(config),
    PROBLEM,
    total_steps=total_steps,
  )


@pytest.mark.parametrize(
  'field, value',
  [
    ('optim.learning_rate', 0.5),
    ('distill.temperature', 9.0),
    ('distill.kd_weight', 0.5),
    ('distill.kl.weight', 0.5),
    ('train.epochs', 9),
    ('teacher.class_shift', 1),
  ],
)
def test_trainings_that_differ_in_traced_numbers_share_functions(field, value):
  assert _key(**{field: value}) == _key()
  assert hash(_key(**{field: value})) == hash(_key())


@pytest.mark.parametrize(
  'field, value',
  [
    ('student.hidden', (51,)),
    ('train.batch_size', 33),
    ('train.mixup_alpha', 0.1),
    ('distill.method', 'dkd'),
    ('distill.label_smoothing', 0.1),
    ('optim.weight_decay', 0.1),
    ('loop', 'host'),
  ],
)
def test_trainings_that_differ_in_a_static_field_compile_separately(
  field, value
):
  assert _key(**{field: value}) != _key()


def test_the_number_of_steps_matters_to_a_schedule_alone():
  assert _key(total_steps=7) == _key()
  cosine = {'optim.schedule': 'cosine'}
  assert _key(total_steps=7, **cosine) != _key(**cosine)


def test_the_teacher_matters_where_a_step_needs_it():
  wider = {'teacher.model.hidden': (7,)}
  hint = {'distill.method': 'hint'}
  assert _key(**wider) == _key()
  assert _key(**wider, **hint) != _key(**hint)


def test_hyperparameters_of_an_epoch():
  config = _closed(
    **{
      'distill.method': 'kl+hint',
      'distill.kd_weight': 0.8,
      'distill.kd_warmup_epochs': 4,
      'distill.hint.weight': 3.0,
    }
  )
  rates = training_functions.hyperparameters_of_epoch(
    config.optim, config.distill, 1
  )
  assert rates.learning_rate == pytest.approx(1e-3)
  assert rates.kd_weight == pytest.approx(0.8 / 4)
  assert rates.methods['hint']['weight'] == 3.0
  assert rates.weight_of('hint') == pytest.approx(0.2 * 3.0)
  assert rates.weight_of('ce') == config.distill.ce_weight
  later = training_functions.hyperparameters_of_epoch(
    config.optim, config.distill, 9
  )
  assert later.kd_weight == pytest.approx(0.8)


def test_a_peer_is_a_network_of_the_students_kind_in_training():
  task = ImageTask(3, (8, 8, 1))
  section = config_fields.mlp((16,), dropout_rate=0.5)
  init, peer = training_functions.make_peer(section, task)
  shapes = from_config.variables_like(section, task)
  params = init(jax.random.key(1))
  assert jax.tree.structure(params) == jax.tree.structure(shapes['params'])
  images = jax.random.uniform(jax.random.key(2), (5, 8, 8, 1))
  first, again, other = (
    peer(params, images, jax.random.key(seed)) for seed in (0, 0, 1)
  )
  assert first.shape == (5, 3)
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()  # Dropout is on.


def test_arrays_of_seeds_have_a_leading_axis():
  functions = training_functions.make_training_functions(_key())
  array, arrays = np.arange(3), {'a': np.arange(6).reshape(2, 3)}
  assert functions.of_seed(array, 0) is array
  np.testing.assert_array_equal(functions.with_seed_axis(array), [[0, 1, 2]])
  several = functions._replace(num_seeds=2)
  assert several.with_seed_axis(arrays) is arrays
  np.testing.assert_array_equal(several.of_seed(arrays, 1)['a'], [3, 4, 5])
