"""Configs: rows, records, renamed fields and identities of results.

Also tests `kd_jax/sections.py`.
"""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import cifar, mnist
from kd_jax import config as config_lib
from kd_jax.data.dataset import Dataset, ImageTask, Split
from kd_jax.models import from_config
from kd_jax.runtime import files


def _dataset():
  """Returns a data set; an identity takes its digest alone."""
  split = Split(np.zeros((20, 28, 28, 1), np.uint8), np.arange(20) % 10)
  return Dataset('mnist', split, split, 10, 'digest-of-the-data')


def _closed(recipe='h50', **fields):
  """Returns the closed config of a recipe of one row."""
  config = mnist.get_config(recipe)
  config.update_from_flattened_dict(fields)
  return config_lib.close_row(config, recipe)


def _identity(config):
  return config_lib.student_identity(
    config, _dataset(), teacher_outputs='outputs', live_teacher=False
  )


# --- Rows. ---


def test_a_closed_row_has_a_value_for_every_field():
  table = mnist.get_config('table1')
  assert table.student.hidden is None and len(table.rows) > 1
  for name, row in table.rows.items():
    closed = config_lib.close_row(table, name)
    assert 'null' not in json.dumps(config_lib.to_json(closed))
    assert closed.student.hidden == row.student.hidden
    assert list(closed.rows) == [name]
    assert closed.is_locked


def test_a_field_from_the_command_line_replaces_those_of_all_rows():
  table = mnist.get_config('table1')
  table.student.hidden = (7,)
  for name in table.rows:
    assert config_lib.close_row(table, name).student.hidden == (7,)


def test_closing_a_row_leaves_the_table_open():
  table = mnist.get_config('table1')
  closed = config_lib.close_row(table, 'h50')
  with closed.unlocked():
    closed.optim.learning_rate = 9.0
  assert table.student.hidden is None
  assert table.optim.learning_rate != 9.0


def test_sections_of_student_and_teacher():
  config = _closed()
  student = config_lib.student_sections(config)
  teacher = config_lib.teacher_sections(config)
  assert (student.field, teacher.field) == ('train', 'teacher.train')
  assert student.model is config.student
  assert teacher.model is config.teacher.model
  assert student.distill is config.distill
  assert teacher.distill is config.teacher.distill


# --- Methods. ---


def test_the_options_of_the_methods_in_use():
  config = _closed(**{'distill.method': 'kl+hint', 'distill.hint.weight': 3.0})
  options = config_lib.method_options(config.distill)
  assert options.keys() == {'kl', 'hint'}
  assert options['hint']['weight'] == 3.0
  assert config_lib.uses_features(config.distill)
  assert not config_lib.uses_rounded_features(config.distill)
  without = _closed(**{'distill.method': 'hint', 'distill.kd_weight': 0.0})
  assert config_lib.method_options(without.distill) == {}
  assert not config_lib.uses_features(without.distill)


def test_quantized_takes_rounded_features():
  config = _closed(**{'distill.method': 'quantized'})
  assert config_lib.uses_features(config.distill)
  assert config_lib.uses_rounded_features(config.distill)


# --- Records. ---


@pytest.mark.parametrize('recipe', ['h50', 'table1'])
def test_a_config_comes_back_from_json(recipe):
  config = mnist.get_config(recipe)
  content = json.loads(json.dumps(config_lib.to_json(config)))
  assert content == config_lib.to_json(config)
  assert config_lib.from_json(content).to_dict() == config.to_dict()


def test_old_names_of_fields_are_read():
  old = {
    'student': {'arithmetic': 'int8', 'hidden': [50, 10]},
    'teacher': {'shipped': 'teachers/a', 'ship_weights': True},
    'distill': {'adversarial_logits': {'rival_rate': 0.1}},
    'experiment': 'lemma1',
    'list': [{'arithmetic': 'float'}, 3],
  }
  new = {
    'student': {'quantization': 'int8', 'hidden': [50, 10]},
    'teacher': {'pretrained': 'teachers/a', 'publish_weights': True},
    'distill': {'adversarial_logits': {'discriminator_rate': 0.1}},
    'theory': 'lemma1',
    'list': [{'quantization': 'float'}, 3],
  }
  assert config_lib.rename_fields(old) == new
  assert config_lib.rename_fields(new) == new
  config = config_lib.from_json(old)
  assert config.student.quantization == 'int8'
  assert config.student.hidden == (50, 10)


def test_a_record_has_the_options_of_methods_in_use_alone():
  config = mnist.get_config('h50')
  config.distill.method = 'kl+adversarial_logits'
  record = config_lib.recorded(config)
  assert record['distill']['adversarial_logits'] == {
    'weight': 1.0,
    'discriminator_rate': 1e-3,
  }
  assert 'kl' in record['distill'] and 'hint' not in record['distill']
  assert 'kl' not in record['teacher']['distill']
  assert 'hint' in config.distill  # The config itself is unchanged.


def test_commands_may_differ_in_fields_that_change_no_student():
  config = mnist.get_config('h50')
  fixed = config_lib.fixed_fields(config_lib.recorded(config))
  config.update(seeds=7, first_seed=2, loop='host')
  config.benchmark.enabled = False
  record = config_lib.recorded(config)
  assert config_lib.fixed_fields(record) == fixed
  record['rows']['h50']['seeds'] = 3
  assert config_lib.fixed_fields(record) == fixed
  # Runs of versions without this field are continued.
  del record['data']['at_most']
  assert config_lib.fixed_fields(record) == fixed
  resnet = config_lib.recorded(cifar.get_config('ideal'))
  fixed_resnet = config_lib.fixed_fields(resnet)
  for model in (resnet['student'], resnet['teacher']['model']):
    del model['stem_init'], model['conv_init'], model['head_pool']
  for optim in (resnet['optim'], resnet['teacher']['optim']):
    del optim['bias_factor'], optim['scale_factor']
  assert config_lib.fixed_fields(resnet) == fixed_resnet
  config.train.epochs += 1
  assert config_lib.fixed_fields(config_lib.recorded(config)) != fixed


# --- Identities. ---


# The first version of this project wrote results with these identities. A
# change makes stored results invalid: every run trains its students again.
_DATA = {
  'name': 'mnist',
  'holdout_examples': 0,
  'image_size': 0,
  'train_examples': 0,
  'test_examples': 0,
}
_OPTIM = {
  'name': 'adam',
  'learning_rate': 1e-3,
  'schedule': 'constant',
  'warmup_fraction': 0.0,
  'momentum': 0.0,
  'nesterov': False,
  'weight_decay': 0.0,
}
_TRAIN = {
  'epochs': 3,
  'batch_size': 32,
  'folds': 3,
  'carry_optimizer': True,
  'holdout_fraction': 0.0,
  'drop_remainder': False,
  'augmentation': 'none',
  'mixup_alpha': 0.0,
  'subset': 'all',
  'transfer_set': '',
}


def test_a_students_identity_is_that_of_the_first_version():
  config = _closed(
    **{'distill.method': 'adversarial_logits', 'distill.ce_weight': 0.5}
  )
  assert _identity(config) == {
    'data': _DATA,
    'data_digest': 'digest-of-the-data',
    'teacher_outputs': 'outputs',
    'class_shift': 0,
    'scaling': 'unit',
    'student': {
      'kind': 'mlp',
      'hidden': [50],
      'dropout_rate': 0.0,
      'temperature': 3.5,
      'dtype': 'float32',
      'arithmetic': 'float',
    },
    'distill': {
      'method': 'adversarial_logits',
      'temperature': 1.0,
      'ce_weight': 0.5,
      'kd_weight': 1.0,
      'kd_warmup_epochs': 0,
      'label_smoothing': 0.0,
      'adversarial_logits': {'weight': 1.0, 'rival_rate': 1e-3},
    },
    'train': _TRAIN,
    'optim': _OPTIM,
    'live_teacher': False,
  }


def test_a_teachers_identity_is_that_of_the_first_version():
  identity = config_lib.teacher_identity(mnist.get_config('h50'), _dataset())
  assert identity == {
    'data': _DATA,
    'data_digest': 'digest-of-the-data',
    'teacher': {
      'seed': 0,
      'scaling': 'unit',
      'model': {
        'kind': 'conv_net',
        'filters': [32],
        'hidden': [1200, 1200],
        'dropout_rate': 0.5,
        'temperature': 3.5,
        'dtype': 'float32',
        'arithmetic': 'float',
      },
      'distill': {
        'method': 'kl',
        'temperature': 1.0,
        'ce_weight': 1.0,
        'kd_weight': 0.0,
        'kd_warmup_epochs': 0,
        'label_smoothing': 0.0,
      },
      'train': _TRAIN | {'epochs': 1, 'folds': 0, 'holdout_fraction': 0.2},
      'optim': _OPTIM,
    },
  }


@pytest.mark.parametrize(
  'fields, digest',
  [
    ({}, '3c4e65b5394ae461ebf7668152d0ac2f326960561036af4414e0605405afb802'),
    (
      {'distill.method': 'similarity', 'eval.bias_classes': (3,)},
      '09b524268ba9ef1e12339c655491a5cb9228c258ed130d76e0a4f8e1c44e866e',
    ),
  ],
)
def test_digests_of_identities_are_those_of_the_first_version(fields, digest):
  assert files.json_digest(_identity(_closed(**fields))) == digest


def test_runs_of_hint_without_its_relu_are_not_taken_for_todays():
  fields = {'distill.method': 'hint', 'eval.bias_classes': (3,)}
  of_the_first_version = (
    '05f6e010249cdca635487e10aaa0641038291723d6d0d07dc0d2e64550e9ce79'
  )
  assert files.json_digest(_identity(_closed(**fields))) != of_the_first_version


def test_the_identity_of_outputs_keeps_the_old_names_of_fields():
  identity = config_lib.outputs_identity(
    mnist.get_config('h50'), _dataset(), 'digest-of-the-weights'
  )
  assert identity.keys() == {'data', 'data_digest', 'weights', 'model'}
  assert identity['weights'] == 'digest-of-the-weights'
  assert identity['model']['arithmetic'] == 'float'


@pytest.mark.parametrize(
  'field, value',
  [
    ('seeds', 9),
    ('loop', 'host'),
    ('data.memory_gib', 1.0),
    ('data.at_most', True),
    ('distill.hint.weight', 9.0),
    ('teacher.feature_bits', 4),
  ],
)
def test_fields_that_change_no_student_are_not_in_its_identity(field, value):
  assert _identity(_closed(**{field: value})) == _identity(_closed())


@pytest.mark.parametrize(
  'field, value',
  [
    ('student.hidden', (51,)),
    ('student.quantization', 'int8'),
    ('data.scaling', 'symmetric'),
    ('distill.temperature', 2.0),
    ('train.epochs', 4),
    ('teacher.class_shift', 1),
    ('eval.bias_classes', (1,)),
  ],
)
def test_fields_that_change_a_student_are_in_its_identity(field, value):
  assert _identity(_closed(**{field: value})) != _identity(_closed())


def test_bits_of_features_matter_to_methods_that_take_features():
  fields = {'distill.method': 'hint'}
  other = fields | {'teacher.feature_bits': 4}
  assert _identity(_closed(**other)) != _identity(_closed(**fields))


def test_model_sections_of_one_network_are_equal():
  section = ConfigDict(
    {'kind': 'resnet', 'blocks': (0, 2), 'min_blocks': 1, 'widths': (8, 8)}
  )
  canonical = config_lib.canonical_model(section)
  assert canonical.blocks == (1, 2) and canonical.min_blocks == 0
  assert section.blocks == (0, 2)
  assert config_lib.canonical_model(canonical) == canonical


@pytest.mark.parametrize(
  'fields, layers_by_bits',
  [
    ({'distill.method': 'kl'}, {}),
    ({'distill.method': 'hint', 'distill.kd_weight': 0.0}, {}),
    ({'distill.method': 'kl+hint'}, {0: ['hidden1']}),
    # Methods that take rounded features have another store.
    ({'distill.method': 'quantized+hint'}, {4: ['hidden1'], 0: ['hidden1']}),
    (
      {
        'distill.method': 'hint+attention',
        'distill.hint.layers': 'hidden0:hidden0',
        'distill.attention.layers': 'hidden0:conv0',
      },
      {0: ['hidden0', 'conv0']},
    ),
  ],
)
def test_the_layers_that_methods_take_by_bits(fields, layers_by_bits):
  config = _closed(**fields, **{'teacher.feature_bits': 4})
  task = ImageTask(10, (28, 28, 1))
  layers = config_lib.teacher_layers(config, task)
  assert {bits: [*shapes] for bits, shapes in layers.items()} == layers_by_bits
  teacher_shapes = from_config.feature_shapes(config.teacher.model, task)
  for shapes in layers.values():
    for layer, shape in shapes.items():
      assert shape == teacher_shapes[layer]
