"""The networks in examples/ train, teach and are exported."""

import importlib
import sys
import types

import jax
import numpy as np
import pytest
from flax import nnx

from kd_jax import data
from kd_jax.data import preprocessing
from kd_jax.export import artifact, exporter, forward, onnx
from kd_jax.models import apply, user
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


@pytest.mark.parametrize(
  'library',
  [
    # Other tests have features of Linen modules.
    pytest.param(name, marks=() if name == 'equinox' else pytest.mark.slow)
    for name in LIBRARIES
  ],
)
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


# tests/models/test_user.py exports a student in Linen.
@pytest.mark.slow
@pytest.mark.parametrize('library', ('nnx', 'equinox'))
def test_a_student_of_the_user_is_exported_for_jax_and_onnx(
  tmp_path, capfd, library
):
  fields = {'student.kind': f'examples.{library}_network:student'}
  record = _run(tmp_path, **fields)
  with helpers.timed_briefly():
    folder, manifest = exporter.export(
      tmp_path / 'run', allow_code=True, with_onnx=True
    )
  (student,) = record['students']
  for runtime in ('loaded', 'onnx'):
    measured = manifest['measured'][runtime]
    assert measured['test']['accuracy'] == student['test']['accuracy']
    assert measured['largest_difference'] < 1e-6
  images = data.load('generated').test.images[:3]
  probabilities = artifact.load(folder).predict(images)
  np.testing.assert_allclose(np.sum(probabilities, axis=-1), 1, rtol=1e-5)
  np.testing.assert_allclose(
    onnx.load(folder)(images), probabilities, rtol=1e-5, atol=1e-7
  )
  assert 'merging shape' not in capfd.readouterr().err  # ONNX Runtime's doubts.


class _Noisy(nnx.Module):
  """Takes `train` and `rngs`, and has a stream that was split for two layers.

  A network whose streams are used in training alone.
  """

  def __init__(self, num_classes: int, *, rngs: nnx.Rngs):
    """Makes the layers."""

    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def make_dropouts(rngs):
      return nnx.Dropout(0.5, rngs=rngs)

    self.linear = nnx.Linear(28 * 28, num_classes, rngs=rngs)
    self.dropouts = make_dropouts(rngs)

  def __call__(self, images, *, train: bool, rngs: nnx.Rngs):
    """Returns logits [B, K]."""
    logits = self.linear(images.reshape(images.shape[0], -1))
    noise = jax.random.normal(rngs.noise(), logits.shape) if train else 0
    return logits + noise


@pytest.mark.slow
def test_a_network_with_random_streams_is_written_as_onnx():
  module = user.call_maker(lambda k, *, rngs: _Noisy(k, rngs=rngs), 10)
  shape = (28, 28, 1)
  forward_fn = forward.make_forward(
    module,
    apply.init_variables(module, shape, jax.random.key(0)),
    preprocessing.affine('unit', shape),
  )
  images = np.asarray(data.load('generated').test.images[:3])
  np.testing.assert_allclose(
    onnx.make_onnx_predict(onnx.convert(forward_fn, shape))(images),
    forward_fn(images),
    atol=1e-6,
  )


@pytest.mark.parametrize('missing', ['torch', 'torchvision'])
def test_a_missing_library_of_a_torch_teacher_is_named(
  monkeypatch, capsys, missing
):
  # torch need not be installed.
  monkeypatch.setitem(sys.modules, 'torch', types.ModuleType('torch'))
  monkeypatch.setitem(sys.modules, missing, None)
  monkeypatch.delitem(sys.modules, 'examples.torch_teacher', raising=False)
  teacher = importlib.import_module('examples.torch_teacher')
  monkeypatch.delitem(sys.modules, 'examples.torch_teacher')
  with pytest.raises(SystemExit) as raised:
    teacher.main(['--help'])
  assert raised.value.code == 0 and '--weights' in capsys.readouterr().out
  args = ['--data=generated', '--output=t.npz', '--model=torchvision:resnet18']
  with pytest.raises(SystemExit) as raised:
    teacher.main(args)
  assert raised.value.code.startswith(
    f'error: {missing} is not installed: pip install {missing}; benchmarks/'
  )
