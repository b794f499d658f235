"""Distillation from arrays: the results of a config, and clear mistakes."""

import gc
from unittest import mock

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx

import kd_jax
from examples import equinox_network, linen_network, nnx_network
from examples.pure_functions import Student as PureStudent
from kd_jax import section_makers
from kd_jax.runtime import errors
from kd_jax.training import job
from tests import helpers

RNG = np.random.RandomState(0)
LABELS = np.arange(96) % 3
IMAGES = RNG.randint(0, 50, (96, 8, 8, 1)).astype(np.uint8)
IMAGES[np.arange(96), LABELS] += 100  # A bright row in each image.
LOGITS = (4 * np.eye(3)[LABELS] + RNG.normal(size=(96, 3))).astype(np.float32)
MLP = section_makers.mlp((8,))
QUICK = {'epochs': 2, 'batch_size': 16, 'model': MLP}


class Small(nn.Module):
  """A hidden layer, whose activations are a feature."""

  num_classes: int = 3

  @nn.compact
  def __call__(self, images, *, train):
    hidden = nn.relu(nn.Dense(8)(images.reshape(images.shape[0], -1)))
    return nn.Dense(self.num_classes)(hidden), {'hidden': hidden}


def test_a_student_has_the_results_of_an_equal_config_bit_for_bit(tmp_path):
  np.savez(
    tmp_path / 'data.npz',
    train_images=IMAGES,
    train_labels=LABELS,
    test_images=IMAGES[:32],
    test_labels=LABELS[:32],
  )
  np.savez(tmp_path / 'logits.npz', train=LOGITS)
  config = helpers.tiny_mnist('h50')
  config.update(
    data={'name': str(tmp_path / 'data.npz')},
    teacher={'logits': str(tmp_path / 'logits.npz')},
    student={'hidden': (8,), 'temperature': 1.0},
    distill={
      'method': 'kl',
      'temperature': 4.0,
      'ce_weight': 1 - 0.9,
      'kd_weight': 0.9,
    },
    train={'epochs': 2, 'batch_size': 16, 'folds': 0, 'drop_remainder': True},
    optim={'schedule': 'cosine', 'warmup_fraction': 0.1},
    first_seed=3,
  )
  (expected,) = helpers.run(config, tmp_path)['students']
  student = kd_jax.distill(
    IMAGES,
    LABELS,
    LOGITS,
    eval_data=(IMAGES[:32], LABELS[:32]),
    seed=3,
    **QUICK,
  )
  (result,) = student.record['students']
  assert result['weights'] == expected['weights']
  assert student.metrics == expected['test']
  assert student.record['command'] == 'kd_jax.distill'


@pytest.mark.parametrize(
  'model',
  [
    linen_network.student,
    nnx_network.student,
    equinox_network.student,
    PureStudent,
    linen_network.student(3),
    nnx_network.student(3, rngs=nnx.Rngs(0)),
  ],
  ids=['linen', 'nnx', 'equinox', 'pure', 'module', 'nnx_module'],
)
def test_networks_of_every_library_learn_from_logits(model):
  student = kd_jax.distill(IMAGES, None, LOGITS, **QUICK | {'model': model})
  assert set(student.metrics) == {'teacher_agreement', 'teacher_kl'}
  assert len(student.history) == 2
  np.testing.assert_allclose(student.predict(IMAGES).sum(-1), 1, rtol=1e-5)


def test_a_network_teaches_its_features_and_the_student_is_exported(tmp_path):
  module = Small()
  variables = module.init(jax.random.key(1), IMAGES[:1] / 255, train=False)
  teacher = kd_jax.store_outputs((module, variables), IMAGES)
  logits, _ = module.apply(variables, IMAGES / np.float32(255), train=False)
  np.testing.assert_allclose(teacher.logits, logits, rtol=1e-4, atol=1e-5)
  student = kd_jax.distill(
    IMAGES,
    LABELS,
    teacher,
    eval_data=(IMAGES[:10], LABELS[:10]),
    workdir=tmp_path / 'run',
    method='kl+hint',
    **QUICK | {'model': module},
  )
  assert student.history[0]['train/hint'] > 0
  assert student.metrics['teacher_kl'] > 0
  assert (tmp_path / 'run' / 'report.md').exists()
  with helpers.timed_briefly():
    manifest = student.export(tmp_path / 'student')
  test = manifest['measured']['loaded']['test']
  assert test['accuracy'] == student.metrics['accuracy']
  loaded = kd_jax.load(tmp_path / 'student').predict(IMAGES[:3])
  np.testing.assert_allclose(loaded, student.predict(IMAGES[:3]), atol=1e-5)


def test_the_same_call_goes_on_in_its_folder(tmp_path):
  call = dict(QUICK, model=Small(), workdir=tmp_path / 'run')
  first = kd_jax.distill(IMAGES, LABELS, LOGITS, **call)
  trained = mock.Mock(side_effect=AssertionError('it is trained again'))
  with mock.patch.object(job, 'run_job', trained):
    again = kd_jax.distill(IMAGES, LABELS, LOGITS, **call | {'model': Small()})
  assert again.metrics == first.metrics


def test_a_temporary_folder_goes_with_its_student():
  student = kd_jax.distill(IMAGES, LABELS, LOGITS, **QUICK | {'epochs': 1})
  folder = student.workdir
  assert folder.is_dir()
  student = None
  gc.collect()
  assert not folder.exists()


def _bad_labels():
  labels = LABELS.copy()
  labels[5] = 3
  return labels


NAN = LOGITS.copy()
NAN[3, 1] = np.nan


@pytest.mark.parametrize(
  'change, message',
  [
    ({'images': IMAGES / 255}, 'images are float64; expected uint8'),
    ({'images': IMAGES[:, 0, 0]}, r'images are uint8 \[96, 1\]; expected'),
    ({'images': IMAGES[:0]}, 'images: there is none'),
    ({'labels': LABELS[:5]}, r'labels are int64 \[5\]; expected integers'),
    ({'labels': LABELS / 2}, 'labels are float64'),
    (
      {'labels': _bad_labels()},
      r'labels\[5\] is 3; expected a class from 0 to 2',
    ),
    (
      {'teacher': LOGITS[:5]},
      r'logits have shape \[5, 3\]; expected \[96, K\]',
    ),
    ({'teacher': LOGITS.argmax(-1)}, r"teacher's logits have shape \[96\]"),
    ({'teacher': NAN}, "teacher's logits are not all finite"),
    (
      {'teacher': np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)},
      "teacher's logits are probabilities",
    ),
    ({'teacher': LOGITS.astype(int)}, 'expected floating-point logits'),
    ({'teacher': 'logits.npz'}, "teacher's logits have shape"),
    ({'method': 'kl+hint'}, "method='kl\\+hint' takes features"),
    ({'method': 'lk'}, 'config.distill.method'),
    ({'labels': None, 'alpha': 0.5}, 'without labels, expected 1'),
    ({'alpha': 1.5}, 'alpha=1.5: expected the weight'),
    ({'eval_data': IMAGES}, r'eval_data: expected \(images, labels\)'),
    ({'eval_data': (IMAGES[:, :4], LABELS)}, r'images are \(8, 8, 1\), but'),
    ({'eval_data': (IMAGES, LABELS + 1)}, r'eval_data: labels\[2\] is 3'),
    ({'eval_data': (IMAGES, None)}, 'teacher from `store_outputs`'),
    ({'epochs': 0}, 'config.train.epochs=0'),
    ({'augmentation': 'flip'}, 'config.train.augmentation'),
    ({'model': 7}, 'model: it is of type int; expected a module'),
    ({'model': lambda num_classes: 7}, 'model: returned int'),
    ({'fields': {'optim.learning_rat': 1.0}}, 'did you mean learning_rate?'),
    ({'fields': {'train.epochs': 'two'}}, "train.epochs='two'"),
  ],
)
def test_a_mistake_names_its_argument(change, message):
  call = {'images': IMAGES, 'labels': LABELS, 'teacher': LOGITS, **QUICK}
  with pytest.raises(errors.UserError, match=message):
    kd_jax.distill(**call | change)


def test_outputs_of_other_images_are_refused():
  module = Small()
  variables = module.init(jax.random.key(1), IMAGES[:1] / 255, train=False)
  teacher = kd_jax.store_outputs((module, variables), IMAGES[::-1])
  with pytest.raises(errors.UserError, match='those of other images'):
    kd_jax.distill(IMAGES, LABELS, teacher, **QUICK)


def test_the_package_offers_its_names_and_imports_nothing_before_use():
  program = (
    'import sys, kd_jax; print("jax" in sys.modules, "flax" in sys.modules); '
    'print(all(hasattr(kd_jax, name) for name in kd_jax.__all__))'
  )
  output = helpers.run_python('-c', program).stdout.split()
  assert output == ['False', 'False', 'True']
