"""The recipes of configs/cifar.py: rows, readings, teachers, arguments.

Also tests `configs/cifar_methods.py`, `configs/cifar_rows.py`,
`configs/cifar_table2.py` and `configs/cifar_teachers.py`.
"""

import json

import jax
import pytest

from configs import (
  cifar,
  cifar_methods,
  cifar_rows,
  cifar_table2,
  cifar_teachers,
  method_comparison,
)
from kd_jax import config as config_lib
from kd_jax import data, methods
from kd_jax.config_checks import field_checks, traced_checks
from kd_jax.runtime import errors
from kd_jax.training import training_functions
from tests.configs import recipe_rows

ARGUMENTS = (
  '',
  ',seeds=3',
  ',epochs=2',
  ',protocol=as_written',
  ',stride_at=stem',
  ',stride_at=stage1',
  ',reduced=first500',
  ',reduced=as_published,protocol=as_written',
  ',smoke',
)
LARGE = ('methods', 'methods_grid', 'ideal_best_grid')


@pytest.mark.parametrize(
  'recipe, argument',
  recipe_rows.with_arguments(cifar.RECIPES, ARGUMENTS, LARGE),
)
def test_every_cifar_recipe_and_argument_is_valid(recipe, argument):
  config = cifar.get_config(recipe + argument)
  json.dumps(config.to_dict())
  rows = recipe_rows.close(cifar, recipe + argument)
  assert len(rows) == {
    'table2': 9,
    'sizes': 12,
    'ideal_best': 2,
    'ideal_best_grid': len(cifar_rows.BEST_GRID) + 5,
    'strides': 8,
    'dropped': 2,
    'reduced_sets': 6,
    'methods': len(methods.METHODS) + 8,
    'methods_grid': len(methods.METHODS) * len(method_comparison.GRID)
    + len(cifar_methods.LARGER_WEIGHTS),
    'hints': 6,
    'quantized': 6,
    'mimic': 8,
    'ideal_mimic': 8,
    'unlabeled': 6,
    'teacher': 0,
    'resnet18': 0,
    'resnet9': 0,
  }.get(recipe, 1)
  for row in rows.values() or (config,):
    field_checks.check_fields(row)
    assert None not in jax.tree.leaves(
      row.to_dict(), is_leaf=lambda leaf: leaf is None
    )


@pytest.mark.parametrize('row', cifar_table2.TABLE2)
def test_a_row_of_table_2_equals_the_recipe_of_its_name(row):
  alone, in_table = (
    recipe_rows.close(cifar, recipe)[row].to_dict()
    for recipe in (row, 'table2')
  )
  for config in (alone, in_table):
    del config['name'], config['paper']
  assert alone == in_table


def test_the_readings_of_table_2_set_the_right_fields():
  coded = recipe_rows.close(cifar, 'ideal')['ideal']
  assert coded.student.blocks == (1, 1, 1, 1)
  assert coded.student.strides == (1, 2, 2, 2)
  assert coded.student.stem_stride == 1
  assert coded.student.min_blocks == 1
  assert coded.data.scaling == coded.teacher.outputs_scaling == 'symmetric'
  assert coded.teacher.scaling == 'cifar10'
  assert coded.optim.to_dict() == {
    'name': 'sgd',
    'learning_rate': 0.1,
    'schedule': 'constant',
    'warmup_fraction': 0.0,
    'momentum': 0.9,
    'nesterov': True,
    'weight_decay': 5e-4,
    'bias_factor': 1.0,
    'scale_factor': 1.0,
  }
  weights = [
    float(
      training_functions.hyperparameters_of_epoch(
        coded.optim, coded.distill, epoch
      ).kd_weight
    )
    for epoch in range(10)
  ]
  assert weights == pytest.approx([0.1 * epoch for epoch in range(10)])
  assert coded.distill.temperature == 4 and coded.distill.ce_weight == 1
  stem = recipe_rows.close(cifar, 'ideal,stride_at=stem')['ideal'].student
  assert (stem.stem_stride, stem.strides) == (2, (1, 2, 2, 2))
  written = recipe_rows.close(cifar, 'stride_4,protocol=as_written')['stride_4']
  assert written.student.strides == (4, 2, 2, 2)
  assert written.student.min_blocks == 0
  assert written.teacher.outputs_scaling == 'cifar10'
  rows = recipe_rows.close(cifar, 'table2')
  assert rows['blocks_1100'].student.blocks == (1, 1, 0, 0)
  assert rows['ideal_no_kd'].distill.kd_weight == 0
  assert rows['ideal_reduced'].train.subset == 'block5000'
  assert rows['baseline'].train.subset == 'all'


def test_each_reading_differs_from_as_coded_in_one_field():
  coded = recipe_rows.close(cifar, 'table2')
  rows = {
    **recipe_rows.close(cifar, 'strides'),
    **recipe_rows.close(cifar, 'dropped'),
    **recipe_rows.close(cifar, 'reduced_sets'),
  }
  assert rows['stem_stride_4'].student.stem_stride == 4
  assert rows['stem_stride_4'].student.strides == (1, 2, 2, 2)
  assert rows['stage1_stride_2'].student.strides == (2, 2, 2, 2)
  assert rows['stage1_stride_2'].student.stem_stride == 1
  assert rows['stage1_stride_2_no_kd'].distill.kd_weight == 0
  assert rows['stage1_stride_2_no_kd'].paper.stage1_stride_2_no_kd == (
    coded['ideal_no_kd'].paper.ideal_no_kd
  )
  assert 'stem_stride_4_no_kd' not in rows['stem_stride_4'].paper
  baseline = recipe_rows.close(cifar, 'baseline_no_kd')['baseline_no_kd']
  assert baseline.student == coded['baseline'].student
  assert baseline.distill.kd_weight == 0
  assert baseline.distill.ce_weight == coded['baseline'].distill.ce_weight
  assert baseline.paper.baseline_no_kd == coded['baseline'].paper.baseline
  assert rows['blocks_1100_dropped'].student.min_blocks == 0
  assert rows['blocks_1100_dropped'].student.blocks == (1, 1, 0, 0)
  assert rows['as_published_no_kd'].train.subset == 'as_published'
  # Both tables contain the reduced set of the protocol.
  in_reduced_sets, in_table = (
    rows['block5000'].to_dict(),
    coded['ideal_reduced'].to_dict(),
  )
  for config in (in_reduced_sets, in_table):
    del config['name'], config['paper'], config['rows']
  assert in_reduced_sets == in_table


def test_sizes_are_the_ideal_student_on_parts_of_each_class():
  rows = recipe_rows.close(cifar, 'sizes')
  assert {row: config.train.subset for row, config in rows.items()} == {
    f'n{size}{suffix}': 'all' if size == 5000 else f'first{size}'
    for size in (50, 100, 250, 500, 1000, 5000)
    for suffix in ('', '_no_kd')
  }
  ideal, no_kd = (
    recipe_rows.close(cifar, row)[row].to_dict()
    for row in ('ideal', 'ideal_no_kd')
  )
  for whole, row in ((ideal, 'n5000'), (no_kd, 'n5000_no_kd')):
    largest = rows[row].to_dict()
    for config in (whole, largest):
      del config['name'], config['paper'], config['rows']
    assert largest == whole
  # The argument applies to small sets, an override to all sets.
  several = recipe_rows.close(cifar, 'sizes,seeds=3')
  assert {row: c.seeds for row, c in several.items() if 'no_kd' not in row} == {
    'n50': 3, 'n100': 3, 'n250': 3, 'n500': 3, 'n1000': 1, 'n5000': 1
  }  # fmt: skip
  config = cifar.get_config('sizes')
  config.seeds = 2
  assert {config_lib.close_row(config, row).seeds for row in config.rows} == {2}
  # A smoke run has too few images for larger subsets.
  subsets = {
    c.train.subset for c in recipe_rows.close(cifar, 'sizes,smoke').values()
  }
  assert subsets == {'upto50', 'all'}


def test_methods_of_features_learn_from_a_teacher_with_weights():
  for arg, pretrained in (
    ('ideal,method=quantized', 'teachers/cifar10-resnet18'),
    ('ideal,method=kl+hint', 'teachers/cifar10-resnet18'),
    ('ideal,method=dkd', cifar_teachers.TEACHER),
    (
      'ideal_best,method=hint,teacher=no_pool',
      'teachers/cifar10-resnet18-no_pool',
    ),
  ):
    row = next(iter(recipe_rows.close(cifar, arg).values()))
    assert row.teacher.pretrained == pretrained
    field_checks.check_fields(row)
    traced_checks.trace_methods(row, data.ImageTask(10, (32, 32, 3)))


def test_ideal_best_learns_from_a_teacher_that_a_recipe_trains():
  recipes = {
    'pool': 'resnet18,teacher=pool',
    'no_pool': 'resnet18,teacher=no_pool',
    'resnet9': 'resnet9',
  }
  assert recipes.keys() == cifar_teachers.BEST_TEACHERS.keys()
  for name, teacher in cifar_teachers.BEST_TEACHERS.items():
    config = cifar.get_config(f'ideal_best,teacher={name}')
    trained = cifar.get_config(recipes[name])
    assert config.teacher.pretrained == teacher.folder
    assert trained.teacher.pretrained == teacher.folder
    assert config.teacher.model == trained.teacher.model
    assert config.teacher.train == trained.teacher.train
    assert config.teacher.optim == trained.teacher.optim
    assert config.teacher.distill == trained.teacher.distill
    assert config.name.endswith(f'-teacher_{name}')


def test_quantization_mimic_of_the_ideal_student_rounds_both_networks():
  rows = recipe_rows.close(cifar, 'ideal_mimic,protocol=as_written')

  terms = {
    row: config.distill.kd_weight and config.distill.method
    for row, config in rows.items()
  }
  assert terms == {
    f'{row}{suffix}': method
    for suffix in ('', '_reduced')
    for row, method in (
      ('labels', 0.0),
      ('kl', 'kl'),
      ('mimic', 'quantized'),
      ('mimic_kl', 'kl+quantized'),
    )
  }
  for row, config in rows.items():
    assert config.teacher.feature_bits == 4
    assert config.distill.quantized.student_bits == 4
    reduced = row.endswith('_reduced')
    assert config.train.subset == ('first500' if reduced else 'all')


def test_the_resnet50_has_the_recipe_of_the_public_checkpoint():
  spec = cifar.get_config('teacher').teacher
  assert spec.model.blocks == (3, 4, 6, 3) and spec.model.block == 'bottleneck'
  assert (spec.train.epochs, spec.train.batch_size) == (100, 256)
  assert spec.train.augmentation == 'crop_and_flip'
  assert (spec.optim.learning_rate, spec.optim.weight_decay) == (1e-2, 1e-2)
  assert (spec.optim.schedule, spec.optim.warmup_fraction) == ('cosine', 0.3)
  assert spec.retrain
  assert cifar.get_config('teacher,epochs=6').teacher.train.epochs == 6


@pytest.mark.parametrize(
  'arg, message',
  [
    ('ideel', "unknown recipe 'ideel'; the recipes are: ideal, table2"),
    ('ideal,stride_at=stage2', "'stage2'; known: block_default, stage1, stem"),
    ('ideal,reduced=half', "'half'; known: first500, block5000, as_published"),
    ('ideal,protocol=as_said', "'as_said'; known: as_coded, as_written"),
    ('ideal_best,teacher=good', "'good'; known: pool, no_pool"),
    ('ideal,teacher=no_pool', 'ideal has no teacher=no_pool: ideal_best has'),
    ('resnet18,teacher=resnet9', 'resnet18 has no teacher=resnet9: .*no_pool$'),
    ('ideal,training=cutout', 'training=cutout: teacher, resnet18, resnet9'),
  ],
)
def test_mistakes_in_cifar_arguments_are_named(arg, message):
  with pytest.raises(errors.UserError, match=message):
    cifar.get_config(arg)


def test_unlabeled_rows_differ_in_targets_and_labels():
  rows = recipe_rows.close(cifar, 'unlabeled,epochs=2')
  seen = {
    name: (
      row.train.subset,
      row.train.unlabeled,
      row.distill.kd_weight,
      row.train.epochs,
    )
    for name, row in rows.items()
  }
  assert seen == {
    'labels_1000': ('first100', '', 0.0, 20),
    'labels_50000': ('all', '', 0.0, 2),
    'kd_1000': ('first100', '', 1.0, 20),
    'kd_50000': ('all', '', 1.0, 2),
    'kd_1000_and_unlabeled': ('first100', 'rest', 1.0, 2),
    'kd_unlabeled_alone': ('none', 'rest', 1.0, 2),
  }
