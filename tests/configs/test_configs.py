"""Every config and argument: builds, round-trips, and fits its programs."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import cifar, common, mnist
from kd_jax import methods, validation
from kd_jax.report import study_tables
from kd_jax.runtime import errors
from kd_jax.training import build, train

RESULTS = pathlib.Path(__file__).parents[2] / 'results'

ARGUMENTS = (
  '',
  ',seeds=5',
  ',protocol=as_written',
  ',teacher_dropout=false',
  ',smoke=true',
  ',smoke',
  ',protocol=as_written,smoke=true,seeds=2',
)


def _rows(arg):
  config = mnist.get_config(arg)
  config.lock()
  return {name: build.close_row(config, name) for name in config.rows}


@pytest.mark.parametrize('argument', ARGUMENTS)
@pytest.mark.parametrize('recipe', mnist.RECIPES)
def test_every_recipe_and_argument_closes_and_is_valid(recipe, argument):
  config = mnist.get_config(recipe + argument)
  json.dumps(config.to_dict())
  for row in _rows(recipe + argument).values():
    validation.validate(row)
    assert None not in jax.tree.leaves(
      row.to_dict(), is_leaf=lambda leaf: leaf is None
    )


@pytest.mark.parametrize('protocol', mnist.PROTOCOLS)
@pytest.mark.parametrize(
  'row',
  [r for r in mnist.RECIPES if r not in ('table1', 'methods', 'methods_grid')],
)
def test_a_row_of_the_table_is_the_recipe_of_its_name(row, protocol):
  alone = _rows(f'{row},protocol={protocol}')[row].to_dict()
  of_table = _rows(f'table1,protocol={protocol}')[row].to_dict()
  for config in (alone, of_table):
    del config['name'], config['paper']
  assert alone == of_table


@pytest.mark.parametrize('protocol', mnist.PROTOCOLS)
@pytest.mark.parametrize('row', ('h50', 'h300_b16', 'h600_hard'))
def test_one_step_of_a_row_has_the_shapes_it_should(row, protocol):
  config = _rows(f'table1,protocol={protocol}')[row]
  phases = train.make_phases(
    np.ones(60_000, bool), epochs=config.train.epochs, folds=config.train.folds
  )
  key = build.row_key(
    config,
    num_classes=10,
    image_shape=(28, 28, 1),
    total_steps=train.num_steps(
      phases, config.train.batch_size, drop_remainder=False
    ),
    num_seeds=None,
  )
  programs = build.make_programs(key)
  arrays = {
    'images': jnp.zeros((100, 28, 28, 1), jnp.uint8),
    'labels': jnp.zeros(100, jnp.int32),
    'teacher_logits': jnp.zeros((100, 10)),
  }

  def first_step():
    key = jax.random.key(0)
    state = programs.init(key)
    order = programs.epochs.order(jnp.ones(100, bool), key)
    return programs.epochs.run(
      state, programs.epochs.zero_sums(), order, arrays, {}, 100, 0, 1, key,
      build.settings(config.optim, config.distill, 0),
    )  # fmt: skip

  state, sums = jax.eval_shape(first_step)
  assert state.step.shape == ()
  assert set(sums) >= {'loss', 'ce', 'correct', 'count'}
  distilled = config.distill.kd_weight > 0
  assert (config.distill.method in sums) == distilled


def test_the_protocols_say_in_settings_what_they_mean():
  coded, written = (
    _rows(f'table1,protocol={protocol}')['h300_t10']
    for protocol in mnist.PROTOCOLS
  )
  # As coded: the temperature inside the networks, none in the loss, no T^2.
  assert coded.teacher.model.temperature == 3.5
  assert coded.student.temperature == 10
  assert coded.distill.method == 'soft_cross_entropy'
  assert coded.distill.temperature == 1
  assert coded.train.folds == 3 and coded.train.carry_optimizer
  assert coded.teacher.train.holdout_fraction == 0.2
  # As written: an ordinary teacher, softened by the loss.
  assert written.teacher.model.temperature == written.student.temperature == 1
  assert written.distill.method == 'kl'
  assert written.distill.temperature == 10
  assert written.train.folds == 0
  assert written.teacher.train.holdout_fraction == 0
  for config in (coded, written):
    assert config.distill.ce_weight == 0 and config.distill.kd_weight == 1
    assert config.teacher.model.dropout_rate == 0.5
    assert config.optim.name == 'adam' and config.optim.learning_rate == 1e-3
  off = _rows('h300,teacher_dropout=false')['h300']
  assert off.teacher.model.dropout_rate == 0


def test_table_1_is_the_papers():
  config = mnist.get_config('table1')
  assert [*config.rows][:9] == [*mnist.TABLE1]
  rows = _rows('table1')
  assert rows['h50'].student.hidden == (50,)
  assert rows['h600'].student.hidden == (600,)
  assert rows['h300_b16'].train.batch_size == 16
  assert rows['h300_e5'].train.epochs == 5
  assert config.paper.h300_e5.train_s == 247.926
  assert 'h300_hard' not in config.paper


def test_a_field_given_for_a_table_holds_for_all_its_rows():
  config = mnist.get_config('table1')
  assert config.train.batch_size is None
  config.train.batch_size = 128
  closed = [build.close_row(config, row) for row in config.rows]
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
    ('h300,method=kl+hints', "unknown method 'hints'; known: response, kl"),
  ],
)
def test_mistakes_in_the_argument_are_named(arg, message):
  with pytest.raises(errors.UserError, match=message):
    mnist.get_config(arg)


@pytest.mark.parametrize(
  'arg, message',
  [
    ('ideel', "unknown recipe 'ideel'; the recipes are: ideal, table2"),
    ('ideal,stride_at=stage2', "'stage2'; known: block_default, stage1, stem"),
    ('ideal,reduced=half', "'half'; known: first500, block5000, as_published"),
    ('ideal,protocol=as_said', "'as_said'; known: as_coded, as_written"),
    ('ideal_best,teacher=good', "'good'; known: pool, no_pool"),
    ('ideal,teacher=no_pool', 'ideal has no teacher=no_pool: ideal_best and'),
  ],
)
def test_mistakes_in_cifars_argument_are_named(arg, message):
  with pytest.raises(errors.UserError, match=message):
    cifar.get_config(arg)


@pytest.mark.parametrize(
  'field, value',
  [
    ('seeds', 0),
    ('data.scaling', 'none'),
    ('seeds', 2**32 + 1),
    ('first_seed', 2**32),
    ('data.train_examples', -1),
    ('data.memory_gib', -1.0),
    ('data.image_size', -1),
    ('student.kind', 'transformer'),
    ('student.hidden', (0,)),
    ('student.temperature', 0.0),
    ('student.dropout_rate', 1.0),
    ('student.dtype', 'float8'),
    ('teacher.model.kind', 'cnn'),
    ('teacher.seed', -1),
    ('teacher.seed', 2**63),
    ('teacher.distill.kd_weight', 1.0),
    ('teacher.optim.learning_rate', float('nan')),
    ('teacher.optim.learning_rate', float('inf')),
    ('train.epochs', 0),
    ('train.batch_size', 0),
    ('train.folds', 1),
    ('train.holdout_fraction', 1.0),
    ('optim.name', 'lion'),
    ('optim.schedule', 'step'),
    ('optim.learning_rate', -1.0),
    ('distill.method', 'mse'),
    ('distill.method', 'kl+'),
    ('distill.soft_cross_entropy.weight', -1.0),
    ('distill.temperature', -2.0),
    ('distill.kd_weight', -1.0),
    ('distill.label_smoothing', 1.5),
    ('eval.batch_size', 0),
    ('benchmark.batch_sizes', (0,)),
    ('benchmark.budget_s', 0.0),
    ('benchmark.budget_s', float('inf')),
    ('benchmark.cold_calls', -1),
    ('benchmark.cold_call_examples', 0),
  ],
)
def test_a_value_out_of_range_is_named_with_its_field(field, value):
  config = _rows('h300')['h300']
  validation.validate(config)
  config.update_from_flattened_dict({field: value})
  last = field.rpartition('.')[2]
  with pytest.raises(errors.UserError, match=rf'config\..*{last}.*expected'):
    validation.validate(config)


@pytest.mark.parametrize(
  'field, value',
  [
    ('student.block', 'wide'),
    ('student.blocks', (1, -1, 0, 0)),
    ('student.strides', (1, 2)),
    ('student.widths', (64,)),
    ('student.stem_stride', 0),
    ('student.min_blocks', -1),
    ('train.augmentation', 'mixup'),
    ('train.subset', 'half'),
    ('teacher.scaling', 'imagenet'),
    ('teacher.outputs_scaling', 'imagenet'),
    ('data.holdout_examples', -1),
    ('loop', 'both'),
  ],
)
def test_a_value_out_of_range_of_cifar_is_named(field, value):
  config = _cifar_rows('ideal')['ideal']
  validation.validate(config)
  config.update_from_flattened_dict({field: value})
  last = field.rpartition('.')[2]
  with pytest.raises(errors.UserError, match=rf'config\..*{last}.*expected'):
    validation.validate(config)


def test_a_method_given_is_the_rows_method():
  row = _rows('h300,method=dkd+rkd')['h300']
  validation.validate(row)
  options = build.method_options(row.distill)
  assert options['dkd'] == {'weight': 1.0, 'alpha': 1.0, 'beta': 8.0}
  assert set(options) == {'dkd', 'rkd'}
  assert row.name == 'mnist-h300-as_coded-dkd+rkd'
  no_kd = _cifar_rows('table2,method=dkd')['ideal_no_kd']
  assert build.method_options(no_kd.distill) == {}


def test_of_features_the_teacher_is_one_whose_weights_are_there():
  for arg, shipped in (
    ('ideal,method=quantized', 'teachers/cifar10-resnet18'),
    ('ideal,method=kl+hint', 'teachers/cifar10-resnet18'),
    ('ideal,method=dkd', cifar.TEACHER),
    (
      'ideal_best,method=hint,teacher=no_pool',
      'teachers/cifar10-resnet18-no_pool',
    ),
  ):
    row = next(iter(_cifar_rows(arg).values()))
    assert row.teacher.pretrained == shipped
    validation.validate(row)
    validation.check_methods(row, 10, (32, 32, 3))


def test_a_classifier_that_nothing_trains_is_refused():
  row = _rows('h300,method=rkd')['h300']
  with pytest.raises(errors.UserError, match='ce_weight.*the last layer'):
    validation.validate(row)


def test_learning_from_nothing_is_refused():
  config = _rows('h300')['h300']
  config.distill.kd_weight = 0.0
  with pytest.raises(errors.UserError, match='nothing would be learned'):
    validation.validate(config)


CIFAR_ARGUMENTS = (
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


def _cifar_rows(arg):
  config = cifar.get_config(arg)
  config.lock()
  return {name: build.close_row(config, name) for name in config.rows}


@pytest.mark.parametrize('argument', CIFAR_ARGUMENTS)
@pytest.mark.parametrize('recipe', cifar.RECIPES)
def test_every_recipe_of_cifar_closes_and_is_valid(recipe, argument):
  config = cifar.get_config(recipe + argument)
  json.dumps(config.to_dict())
  rows = _cifar_rows(recipe + argument)
  assert len(rows) == {
    'table2': 9,
    'sizes': 12,
    'ideal_best': 2,
    'ideal_best_grid': len(cifar.BEST_GRID) + 5,
    'strides': 8,
    'dropped': 2,
    'reduced_sets': 6,
    'methods': len(methods.METHODS) + 8,
    'methods_grid': len(methods.METHODS) * len(common.GRID)
    + len(cifar.LARGER_WEIGHTS),
    'quantized': 6,
    'mimic': 8,
    'teacher': 0,
    'resnet18': 0,
  }.get(recipe, 1)
  for row in rows.values() or (config,):
    validation.validate(row)
    assert None not in jax.tree.leaves(
      row.to_dict(), is_leaf=lambda leaf: leaf is None
    )


@pytest.mark.parametrize('row', cifar.TABLE2)
def test_a_row_of_table_2_is_the_recipe_of_its_name(row):
  alone, of_table = (
    _cifar_rows(recipe)[row].to_dict() for recipe in (row, 'table2')
  )
  for config in (alone, of_table):
    del config['name'], config['paper']
  assert alone == of_table


def test_the_readings_of_table_2_say_in_settings_what_they_mean():
  coded = _cifar_rows('ideal')['ideal']
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
  }
  weights = [
    float(build.settings(coded.optim, coded.distill, epoch).weights.kd_weight)
    for epoch in range(10)
  ]
  assert weights == pytest.approx([0.1 * epoch for epoch in range(10)])
  assert coded.distill.temperature == 4 and coded.distill.ce_weight == 1
  stem = _cifar_rows('ideal,stride_at=stem')['ideal'].student
  assert (stem.stem_stride, stem.strides) == (2, (1, 2, 2, 2))
  written = _cifar_rows('stride_4,protocol=as_written')['stride_4']
  assert written.student.strides == (4, 2, 2, 2)
  assert written.student.min_blocks == 0
  assert written.teacher.outputs_scaling == 'cifar10'
  rows = _cifar_rows('table2')
  assert rows['blocks_1100'].student.blocks == (1, 1, 0, 0)
  assert rows['ideal_no_kd'].distill.kd_weight == 0
  assert rows['ideal_reduced'].train.subset == 'block5000'
  assert rows['baseline'].train.subset == 'all'


def test_readings_differ_from_what_was_coded_in_one_thing_each():
  coded = _cifar_rows('table2')
  rows = {
    **_cifar_rows('strides'),
    **_cifar_rows('dropped'),
    **_cifar_rows('reduced_sets'),
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
  assert rows['blocks_1100_dropped'].student.min_blocks == 0
  assert rows['blocks_1100_dropped'].student.blocks == (1, 1, 0, 0)
  assert rows['as_published_no_kd'].train.subset == 'as_published'
  # The reduced set of the protocol is in both.
  ours, own = rows['block5000'].to_dict(), coded['ideal_reduced'].to_dict()
  for config in (ours, own):
    del config['name'], config['paper'], config['rows']
  assert ours == own


def test_sizes_are_the_ideal_student_on_so_many_images_a_class():
  rows = _cifar_rows('sizes')
  assert {row: config.train.subset for row, config in rows.items()} == {
    f'n{size}{suffix}': 'all' if size == 5000 else f'first{size}'
    for size in (50, 100, 250, 500, 1000, 5000)
    for suffix in ('', '_no_kd')
  }
  ideal, no_kd = (
    _cifar_rows(row)[row].to_dict() for row in ('ideal', 'ideal_no_kd')
  )
  for whole, row in ((ideal, 'n5000'), (no_kd, 'n5000_no_kd')):
    own = rows[row].to_dict()
    for config in (whole, own):
      del config['name'], config['paper'], config['rows']
    assert own == whole
  # Small sets have the seeds that were asked for, and all if told.
  several = _cifar_rows('sizes,seeds=3')
  assert {row: c.seeds for row, c in several.items() if 'no_kd' not in row} == {
    'n50': 3, 'n100': 3, 'n250': 3, 'n500': 3, 'n1000': 1, 'n5000': 1
  }  # fmt: skip
  config = cifar.get_config('sizes')
  config.seeds = 2
  assert {build.close_row(config, row).seeds for row in config.rows} == {2}
  # In a smoke run there are fewer.
  subsets = {c.train.subset for c in _cifar_rows('sizes,smoke').values()}
  assert subsets == {'first50', 'all'}


def test_the_teacher_of_ideal_best_is_the_one_that_resnet18_ships():
  for teacher, (folder, fields) in cifar.BEST_TEACHERS.items():
    config = cifar.get_config(f'ideal_best,teacher={teacher}')
    trained = cifar.get_config(f'resnet18,teacher={teacher}')
    assert config.teacher.pretrained == trained.teacher.pretrained == folder
    assert config.teacher.model == trained.teacher.model
    assert fields.items() <= config.teacher.model.to_dict().items()
    assert config.name.endswith(f'-teacher_{teacher}')


def test_the_teachers_recipe_is_that_of_the_public_checkpoint():
  spec = cifar.get_config('teacher').teacher
  assert spec.model.blocks == (3, 4, 6, 3) and spec.model.block == 'bottleneck'
  assert (spec.train.epochs, spec.train.batch_size) == (100, 256)
  assert spec.train.augmentation == 'crop_and_flip'
  assert (spec.optim.learning_rate, spec.optim.weight_decay) == (1e-2, 1e-2)
  assert (spec.optim.schedule, spec.optim.warmup_fraction) == ('cosine', 0.3)
  assert spec.retrain
  assert cifar.get_config('teacher,epochs=6').teacher.train.epochs == 6


def test_tables_keep_the_order_of_their_rows():
  base = common.mlp((3,))
  config = ConfigDict({'student': base, 'rows': {}})
  table = common.table(
    config,
    {'z': {'student.hidden': (1,)}, 'a': {}, 'm': {'student.temperature': 2.0}},
  )
  assert [*table.rows] == ['z', 'a', 'm']
  closed = {row: build.close_row(table, row).student for row in table.rows}
  assert closed['z'].hidden == (1,) and closed['a'].hidden == (3,)
  assert closed['m'].temperature == 2 and closed['z'].temperature == 1


@pytest.mark.parametrize('configs', [mnist, cifar])
def test_the_weights_of_methods_are_those_that_the_grid_chose(configs):
  name = configs.__name__.removeprefix('configs.')
  (path,) = (*RESULTS.glob(f'{name}-methods_grid-*.json'), None)[:1]
  if path is None:
    assert configs.METHOD_WEIGHTS == {}
    return
  chosen = study_tables.best_weights(json.loads(path.read_text()))
  assert chosen == configs.METHOD_WEIGHTS
  config = configs.get_config('methods')
  assert set(config.rows) >= chosen.keys()
  for method, percent in chosen.items():
    assert config.distill[method].weight == pytest.approx(
      percent / 100 * methods.METHODS[method].weight
    )


def test_a_grid_has_each_method_at_each_weight_on_held_out_images():
  for configs in (mnist, cifar):
    config = configs.get_config('methods_grid')
    assert config.data.holdout_examples >= 5000
    row = build.close_row(config, 'dkd_30')
    assert row.distill.method == 'dkd'
    default = methods.METHODS['dkd'].weight
    assert row.distill.dkd.weight == pytest.approx(0.3 * default)
    # Other methods keep theirs, and rows without a method are left out.
    assert row.distill.kl.weight == methods.METHODS['kl'].weight
    assert not any(name.startswith('labels') for name in config.rows)
