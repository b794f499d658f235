"""The recipes of configs/theory.py: their rows, names and arguments."""

import json

import pytest

from configs import theory as recipes
from kd_jax import config as config_lib
from kd_jax import config_fields
from kd_jax.config_checks import field_checks
from kd_jax.runtime import errors
from kd_jax.theory import run_theory


def test_every_recipe_is_computed_or_trains_students():
  for recipe in recipes.RECIPES:
    for argument in ('', ',smoke'):
      config = recipes.get_config(recipe + argument)
      json.dumps(config.to_dict())
      if 'theory' in config:
        assert config.theory in run_theory.COMPUTATIONS
        continue
      for row in config.rows:
        field_checks.check_fields(config_lib.close_row(config, row))


def test_hintons_students_differ_in_size_temperature_and_teacher():
  config = recipes.get_config('hinton,seeds=5')
  rows = {name: config_lib.close_row(config, name) for name in config.rows}
  assert config.seeds == 5 and len(rows) == 12
  assert rows['hard_800'].distill.kd_weight == 0
  assert rows['soft_800'].distill.kd_weight == 1
  assert rows['soft_800'].distill.temperature == 20
  assert rows['soft_800'].student.hidden == (800, 800)
  small = rows['units30_t2']
  assert small.student.hidden == (30, 30) and small.distill.temperature == 2
  assert config.paper.soft_800.accuracy == pytest.approx(99.26)


def test_students_without_some_classes_have_a_control_and_a_bias():
  config = recipes.get_config('missing_digit')
  rows = {name: config_lib.close_row(config, name) for name in config.rows}
  assert len(rows) == 9
  for name, row in rows.items():
    assert row.train.holdout_fraction == 1 / 6
    is_control = name.endswith('_hard')
    assert (row.distill.kd_weight == 0) == is_control
    if is_control:
      twin = rows[name.replace('_hard', '_both')]
      assert row.train.to_dict() == twin.train.to_dict()
  assert rows['without_3_soft'].eval.bias_classes == (3,)
  assert rows['only_7_8_both'].train.subset == 'only7_8'
  assert rows['all_both'].eval.bias_classes == ()


def test_students_of_random_data_differ_in_images_teacher_and_weights():
  config = recipes.get_config('random_data,seeds=3')
  rows = {name: config_lib.close_row(config, name) for name in config.rows}
  images = {
    row.train.transfer_set: row.teacher.class_shift for row in rows.values()
  }
  assert set(images) == {'', 'fashion_mnist', 'shuffled_pixels', 'noise'}
  assert rows['wrong_teacher_kd'].teacher.class_shift == 1
  assert rows['noise_kd'].distill.ce_weight == 0
  assert rows['noise_labels'].distill.kd_weight == 0
  assert rows['noise_kd_t1'].distill.temperature == 1
  # All recipes that train students on MNIST share one teacher.
  hinton = recipes.get_config('hinton')
  missing = recipes.get_config('missing_digit')
  for other in (missing, config):
    assert other.teacher.to_dict().keys() == hinton.teacher.to_dict().keys()
    for field in ('model', 'train', 'optim', 'seed', 'scaling'):
      assert other.teacher[field] == hinton.teacher[field]


def test_hintons_soft_targets_can_come_from_another_teacher():
  config = recipes.get_config('hinton,teacher_epochs=20')
  assert config.name == 'theory-hinton-teacher_epochs_20'
  assert config.teacher.pretrained == '' and config.teacher.train.epochs == 20
  assert list(config.rows) == ['soft_800']
  row = config_lib.close_row(config, 'soft_800')
  field_checks.check_fields(row)
  usual = config_lib.close_row(recipes.get_config('hinton'), 'soft_800')
  assert (row.student, row.train) == (usual.student, usual.train)
  with pytest.raises(
    config_fields.ConfigError, match='teacher_epochs=9 is for'
  ):
    recipes.get_config('missing_digit,teacher_epochs=9')


def test_hintons_pair_can_train_for_longer():
  config = recipes.get_config('hinton,epochs=80')
  rows = {name: config_lib.close_row(config, name) for name in config.rows}
  assert {name: row.train.epochs for name, row in rows.items()} == {
    'hard_800': 80,
    'soft_800': 80,
  }
  assert config.name == 'theory-hinton-epochs_80'
  with pytest.raises(errors.UserError, match='epochs=3 is for the recipe'):
    recipes.get_config('lemma1,epochs=3')


def test_an_unknown_recipe_is_named():
  with pytest.raises(errors.UserError, match='lemma3'):
    recipes.get_config('lemma3')
