"""Teachers and students that a user defines, by the name of a function.

Also tests `kd_jax/models/equinox_modules.py` and
`kd_jax/models/nnx_modules.py`.
"""

import functools
import importlib
import shutil
import sys

import equinox
import jax
import numpy as np
import pytest
from flax import nnx

from kd_jax import data
from kd_jax.data import preprocessing
from kd_jax.export import artifact, exporter, onnx
from kd_jax.models import apply, user
from kd_jax.runtime import errors, files, json_records
from kd_jax.training import training_folder
from tests import helpers, user_networks

FIELDS = {
  'data.train_examples': 320,
  'data.test_examples': 64,
  'teacher.module': 'tests.user_networks:linear_teacher',
  'train.folds': 0,
}


def _run(folder, **fields):
  config = helpers.tiny_mnist(fields=FIELDS | fields)
  return helpers.run(config, folder, teachers=folder)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """Trains a user's student of a user's teacher; the folder and the record."""
  folder = tmp_path_factory.mktemp('user')
  fields = {
    'student.kind': 'tests.user_networks:student',
    'train.drop_remainder': True,
    'benchmark.enabled': True,
  }
  return folder, _run(folder, **fields)


def test_a_student_learns_from_a_users_teacher(run):
  folder, record = run
  (stored,) = folder.glob('generated-tests.user_networks.linear_teacher-*')
  logits = np.load(stored / 'outputs-unit' / 'train.npy')
  images = data.load('generated').train.images[:320]
  apply_fn, weights = user_networks.linear_teacher()
  expected = apply_fn(weights, preprocessing.unit(images))
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
  assert record['teacher']['source'] == 'tests.user_networks:linear_teacher'
  assert record['students'][0]['test']['teacher_kl'] > 0


def test_results_of_an_edited_file_are_not_reused(
  tmp_path, monkeypatch, forget_compiled
):
  monkeypatch.syspath_prepend(tmp_path)
  # Two states of the file, written within a second and of one length, would
  # share their bytecode.
  monkeypatch.setattr(sys, 'dont_write_bytecode', True)
  path = tmp_path / 'mine_to_edit.py'
  text = """
import flax.linen as nn
import jax.numpy as jnp

class Student(nn.Module):
  @nn.compact
  def __call__(self, images, *, train):
    return {}(nn.Dense(10)(images.reshape(images.shape[0], -1)))

def student(num_classes):
  return Student()

def teacher():
  return lambda w, images: {}(images.reshape(images.shape[0], -1) @ w), W

W = jnp.ones((784, 10))
"""
  weights, teacher_outputs = [], []
  for activation in ('jnp.sin', 'jnp.cos'):
    path.write_text(text.format(activation, activation))
    for cached in (user.find_function, user.load_trained):
      cached.cache_clear()
    forget_compiled()
    sys.modules.pop('mine_to_edit', None)
    importlib.invalidate_caches()
    record = _run(
      tmp_path,
      **{
        'student.kind': 'mine_to_edit:student',
        'teacher.module': 'mine_to_edit:teacher',
      },
    )
    weights.append(record['students'][0]['weights'])
    teacher_outputs.append(record['teacher']['outputs'])
  assert len(set(weights)) == 2
  assert len({str(outputs) for outputs in teacher_outputs}) == 2


def test_a_users_student_is_timed_restored_and_exported(run):
  folder, record = run
  timed = record['benchmark']['networks']
  assert timed.keys() == {'teacher', 'h50'}
  module = user.make_module('tests.user_networks:student', 10)
  weights = training_folder.restore(
    folder / 'run/students/h50/seed-0',
    apply.variables_like(module, (28, 28, 1)),
  )
  assert weights['batch_stats']
  assert timed['h50']['parameters'] == sum(
    leaf.size for leaf in jax.tree.leaves(weights['params'])
  )
  with helpers.timed_briefly():
    _, manifest = exporter.export(
      folder / 'run', with_onnx=True, allow_code=True
    )
  for exported in manifest['measured'].values():
    accuracy = exported['test']['accuracy']
    assert accuracy == record['students'][0]['test']['accuracy']
  artifact.load(folder / 'run/export/h50-seed-0')


def test_a_users_teacher_can_be_called_in_every_step(tmp_path):
  live = _run(tmp_path / 'live', **{'teacher.live': True})
  stored = _run(tmp_path / 'stored')
  live, stored = (run['students'][0]['test'] for run in (live, stored))
  assert live['nll'] == pytest.approx(stored['nll'], rel=1e-4)


def test_a_network_for_one_batch_size_is_not_exported(run, tmp_path):
  shutil.copytree(run[0] / 'run', tmp_path / 'run')
  record = files.read_json(tmp_path / 'run' / 'run.json')
  kind = 'tests.user_networks:fixed_batch_student'
  record['config']['student']['kind'] = kind
  json_records.write(tmp_path / 'run' / 'run.json', record)
  with pytest.raises(errors.UserError, match=r'x.shape\[0\], not len'):
    exporter.export(tmp_path / 'run', allow_code=True)


def test_a_network_that_onnx_cannot_express_is_refused(run, monkeypatch):
  def convert(forward, image_shape):
    raise NotImplementedError('no such primitive')

  monkeypatch.setattr(onnx, 'convert', convert)
  expected = (
    r'student cannot be written as ONNX by jax2onnx \(no such primitive'
  )
  with pytest.raises(errors.UserError, match=expected):
    exporter.export(run[0] / 'run', with_onnx=True, allow_code=True)


@pytest.mark.parametrize(
  'field, name, message',
  [
    ('teacher.module', 'linear_teacher', 'expected package.module:function'),
    ('teacher.module', '../..', "'../..' is no package"),
    ('teacher.module', 'tests.none:x', "No module named 'tests.none'"),
    ('teacher.module', 'tests.user_networks:x', "no attribute 'x'"),
    ('teacher.module', 'tests.user_networks:NUMBER', 'NUMBER is no function'),
    ('teacher.module', 'tests.user_networks:not_a_pair', r'\(apply, variables'),
    (
      'teacher.module',
      'tests.user_networks:seven_class_teacher',
      r'logits \[2, 10\]',
    ),
    ('student.kind', 'tests.user_networks:breaks', 'no such checkpoint'),
    ('student.kind', 'tests.user_networks:not_a_pair', 'too many positional'),
    (
      'student.kind',
      'tests.user_networks:dropout_without_rngs',
      r'rngs.*\(called in training as module\(images \[B, H, W, C\]\)\)',
    ),
    (
      'student.kind',
      'tests.user_networks:equinox_without_ravel',
      r"called as module\(image \[C, H, W\], key\), mapped over .* 'batch'",
    ),
    (
      'student.kind',
      'tests.user_networks:nine_class_student',
      r'expected logits \[2, 10\]',
    ),
    (
      'student.kind',
      'tests.user_networks:wrong_feature_names',
      r'lists hidden; expected .* \(none\)',
    ),
    ('student.kind', 'tests.user_networks:Forgets', 'batch_stats become {}'),
    ('student.kind', 'mpl', "kind='mpl': expected one of conv_net, mlp"),
    ('student.kind', 'tests.user_networks:student', 'needs whole batches'),
  ],
)
def test_errors_name_the_mistake(tmp_path, field, name, message):
  with pytest.raises(errors.UserError, match=message):
    _run(tmp_path, **{field: name, 'train.batch_size': 30})


def test_a_users_network_cannot_be_quantized(tmp_path):
  fields = {
    'student.kind': 'tests.user_networks:student',
    'student.quantization': 'int8',
  }
  with pytest.raises(errors.UserError, match='quantization.*float with'):
    _run(tmp_path, **fields)


class _NnxClass(nnx.Module):
  """A class that takes the number of classes, as Flax' documents write it."""

  def __init__(self, num_classes, *, rngs, units=4):
    self.hidden = nnx.Linear(784, units, rngs=rngs)
    self.linear = nnx.Linear(units, num_classes, rngs=rngs)

  def __call__(self, images):
    return self.linear(self.hidden(images.reshape(images.shape[0], -1)))


class _EquinoxClass(equinox.Module):
  """A class that takes the number of classes, as Equinox' documents do."""

  linear: equinox.nn.Linear

  def __init__(self, num_classes, *, key):
    self.linear = equinox.nn.Linear(784, num_classes, key=key)

  def __call__(self, image):
    return self.linear(image.ravel())


class _NnxUnits(nnx.Module):
  def __init__(self, units, *, rngs):
    self.linear = nnx.Linear(784, units, rngs=rngs)


@pytest.mark.parametrize(
  'model',
  [_NnxClass, functools.partial(_NnxClass, units=5), _EquinoxClass],
  ids=['nnx', 'partial', 'equinox'],
)
def test_a_class_that_takes_the_number_of_classes_makes_networks(model):
  made = user.call_maker(model, 7)
  variables = apply.variables_like(made, (28, 28, 1))
  assert 7 in {leaf.shape[0] for leaf in jax.tree.leaves(variables)} | {
    leaf.shape[-1] for leaf in jax.tree.leaves(variables)
  }


def test_a_class_of_other_parameters_is_named_with_them():
  expected = r'no parameter num_classes; .* _NnxUnits\(units=..., rngs=...\)$'
  with pytest.raises(user.FunctionError, match=expected):
    user.call_maker(_NnxUnits, 7)
