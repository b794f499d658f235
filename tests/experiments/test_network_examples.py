"""The networks in examples/ train, teach and are exported."""

import importlib

import jax
import numpy as np
import pytest

from kd_jax import data
from kd_jax.export import artifact, exporter
from tests import helpers

FIELDS = {
  'data.train_examples': 128,
  'data.test_examples': 32,
  'train.batch_size': 32,
  'train.folds': 0,
}
LIBRARIES = ('nnx', 'equinox', 'linen')


def _run(folder, recipe='h50', **fields):
  return helpers.run(helpers.tiny_mnist(recipe, fields=FIELDS | fields), folder)


def test_every_example_is_tested():
  names = {path.stem for path in (helpers.ROOT / 'examples').glob('*.py')}
  networks = {f'{library}_network' for library in LIBRARIES}
  loops = {f'{library}_loop' for library in LIBRARIES}
  # tests/experiments/test_torch_teacher.py tests `torch_teacher`.
  others = {'pure_functions', 'wandb_callback', 'torch_teacher'}
  assert names == networks | loops | others


@pytest.mark.parametrize('library', LIBRARIES)
def test_a_loop_of_the_user_learns(library):
  labels = np.arange(64) % 10
  images = np.zeros((64, 12, 12, 1), np.float32)
  images[np.arange(64), labels] = 1  # A bright row tells the class.
  teacher_logits = 5 * np.eye(10, dtype=np.float32)[labels]
  arrays = map(jax.numpy.asarray, (images, labels, teacher_logits))
  loop = importlib.import_module(f'examples.{library}_loop')
  _, losses = loop.distill(*arrays, steps=20)
  assert np.mean(losses[-5:]) < 0.7 * losses[0]


@pytest.mark.parametrize('library', LIBRARIES)
def test_features_of_a_teacher_teach_a_student(tmp_path, library):
  fields = {
    'teacher.module': f'examples.{library}_network:teacher',
    'student.kind': f'examples.{library}_network:student',
  }
  record = _run(tmp_path, 'h50,method=kl+hint', **fields)
  (student,) = record['students']
  assert student['test']['teacher_kl'] > 0
  assert record['teacher']['source'] == fields['teacher.module']


def test_pure_functions_learn_from_a_module(tmp_path):
  fields = {
    'teacher.module': 'examples.linen_network:teacher',
    'student.kind': 'examples.pure_functions:Student',
  }
  record = _run(tmp_path, **fields)
  assert record['students'][0]['test']['teacher_kl'] > 0


def test_an_nnx_student_is_exported(tmp_path):
  fields = {'student.kind': 'examples.nnx_network:student'}
  record = _run(tmp_path, **fields)
  with helpers.timed_briefly():
    folder, manifest = exporter.export(tmp_path / 'run', allow_code=True)
  (student,) = record['students']
  measured = manifest['measured']['loaded']['test']
  assert measured['accuracy'] == student['test']['accuracy']
  images = data.load('generated').test.images[:3]
  probabilities = artifact.load(folder).predict(images)
  np.testing.assert_allclose(np.sum(probabilities, axis=-1), 1, rtol=1e-5)
