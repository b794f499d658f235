"""Distillation from arrays: the results of a config, and clear mistakes.

Also tests `kd_jax/api/array_data.py`, `kd_jax/api/call_inputs.py`,
`kd_jax/api/stored_outputs.py` and `kd_jax/models/given.py`.
"""

import gc
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import kd_jax
from examples import equinox_network, linen_network, nnx_network
from examples.pure_functions import Student as PureStudent
from kd_jax import methods, config_fields
from kd_jax.runtime import errors
from kd_jax.training import train
from tests import helpers

RNG = np.random.RandomState(0)
LABELS = np.arange(96) % 3
IMAGES = RNG.randint(0, 50, (96, 8, 8, 1)).astype(np.uint8)
IMAGES[np.arange(96), LABELS] += 100  # A bright row in each image.
LOGITS = (4 * np.eye(3)[LABELS] + RNG.normal(size=(96, 3))).astype(np.float32)
MLP = config_fields.mlp((8,))
QUICK = {'epochs': 2, 'batch_size': 16, 'model': MLP}


class Small(nn.Module):
  """A hidden layer, whose activations are a feature."""

  num_classes: int = 3

  @nn.compact
  def __call__(self, images, *, train):
    hidden = nn.relu(nn.Dense(8)(images.reshape(images.shape[0], -1)))
    return nn.Dense(self.num_classes)(hidden), {'hidden': hidden}


class WithFields(nn.Module):
  """A module whose first field is no number of classes."""

  units: int

  @nn.compact
  def __call__(self, images):
    hidden = nn.Dense(self.units)(images.reshape(images.shape[0], -1))
    return nn.Dense(3)(nn.relu(hidden))


class Constant(nn.Module):
  """A module without fields."""

  @nn.compact
  def __call__(self, images):
    return nn.Dense(3)(images.reshape(images.shape[0], -1))


class Failing(nn.Module):
  """A module with a mistake in its call."""

  @nn.compact
  def __call__(self, images, *, train):
    return nn.Dense(3 // (len(images.shape) - 4))(images)


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
  with mock.patch.object(train, 'run_training', trained):
    again = kd_jax.distill(IMAGES, LABELS, LOGITS, **call | {'model': Small()})
  assert again.metrics == first.metrics


def test_a_temporary_folder_goes_with_its_student():
  student = kd_jax.distill(IMAGES, LABELS, LOGITS, **QUICK | {'epochs': 1})
  folder = student.workdir
  assert folder.is_dir()
  student = None
  gc.collect()
  assert not folder.exists()


@pytest.fixture(name='exported', scope='module')
def _exported(tmp_path_factory):
  """A student of a network, its teacher, and the manifest of its export."""
  module = Small()
  variables = module.init(jax.random.key(1), IMAGES[:1] / 255, train=False)
  teacher = kd_jax.store_outputs((module, variables), IMAGES)
  student = kd_jax.distill(
    IMAGES, LABELS, teacher, eval_data=0.25, class_names='abc', **QUICK
  )
  folder = tmp_path_factory.mktemp('exported')
  with helpers.timed_briefly():
    return teacher, student, folder, student.export(folder)


def test_metrics_are_of_images_that_the_student_did_not_train_on(exported):
  _, student, _, _ = exported
  examples = student.record['data']['examples_by_class']
  assert examples == {'train': [24] * 3, 'test': [8] * 3}
  assert student.evaluated_on == '24 held-out images of the 96'
  origin = student._evaluated_dataset().test.origin
  predicted = student.logits(IMAGES[origin.rows]).argmax(-1)
  accuracy = np.mean(predicted == LABELS[origin.rows])
  assert student.metrics['accuracy'] == pytest.approx(accuracy)


def test_an_export_says_what_its_accuracy_is_of(exported):
  _, student, _, manifest = exported
  assert manifest['evaluated_on'] == (
    '24 test images held out of the training split'
  )
  measured = manifest['measured']['loaded']['test']
  assert measured['accuracy'] == student.metrics['accuracy']
  assert manifest['classes'] == ['a', 'b', 'c']


def test_what_is_returned_shows_in_a_line(exported):
  teacher, student, folder, _ = exported
  loaded = kd_jax.load(folder)
  assert repr(loaded) == 'Artifact(images 8x8x1 -> 3 classes)'
  assert repr(teacher) == (
    "StoredOutputs(logits of 96 images, classes=3, scaling='unit')"
  )
  assert repr(student).startswith('Student(accuracy=0.')
  assert "evaluated_on='24 held-out images of the 96', param" in repr(student)
  objective = kd_jax.make_objective({'kl': {}}, kd_jax.MethodSetup())
  assert repr(objective) == 'Objective(ce, kl)'
  state = kd_jax.init_state(student.variables, optax.identity())
  assert repr(state) == 'TrainState(step=0, parameters=547)'


def test_a_student_can_teach(exported):
  _, student, _, _ = exported
  teacher = kd_jax.store_outputs(student.network, IMAGES)
  np.testing.assert_allclose(
    teacher.logits, student.logits(IMAGES), rtol=1e-5, atol=1e-6
  )


def test_predictions_of_other_images_are_refused_alike(exported):
  _, student, folder, _ = exported
  loaded = kd_jax.load(folder)
  np.testing.assert_allclose(
    loaded.predict(IMAGES[..., 0]), student.predict(IMAGES), atol=1e-5
  )
  for images, message in (
    (IMAGES / 255, 'images are float64; expected uint8'),
    (IMAGES[:, :4], r'images are \[96, 4, 8, 1\]; expected \[N, 8, 8, 1\]'),
    (IMAGES[0, 0], r'images are uint8 \[8, 1\]; expected uint8 \[N, 8, 8'),
  ):
    with pytest.raises(kd_jax.UserError, match=message):
      student.predict(images)
    with pytest.raises(ValueError, match=message):
      loaded.predict(images)


def test_a_module_gets_train_only_if_it_takes_it():
  flatten = lambda images: images.reshape(images.shape[0], -1)
  sequential = nn.Sequential([flatten, nn.Dense(3)])
  variables = Constant().init(jax.random.key(1), IMAGES[:1] / 255)
  teacher = kd_jax.store_outputs((Constant(), variables), IMAGES)
  student = kd_jax.distill(
    IMAGES, LABELS, teacher, **QUICK | {'model': sequential, 'epochs': 1}
  )
  assert student.metrics['teacher_kl'] > 0


def test_warnings_speak_of_the_teacher_and_not_of_a_file(caplog):
  wrong = RNG.normal(size=LOGITS.shape)
  with caplog.at_level('INFO', 'absl'):
    record = kd_jax.distill(IMAGES, LABELS, wrong, **QUICK).record
  assert 'metrics are of 10 held-out images of the 96' in caplog.messages
  assert record['warnings']
  for warning in record['warnings']:
    assert warning.startswith('the teacher has ')
    assert warning in caplog.messages


def test_without_labels_no_accuracy_is_claimed(tmp_path):
  student = kd_jax.distill(IMAGES, None, LOGITS, **QUICK)
  (warning,) = student.record['warnings']
  assert 'there are no labels' in warning
  assert {'train/kl', 'eval/teacher_kl', 'epoch'} <= student.history[0].keys()
  assert not any('accuracy' in name for name in student.history[0])
  with helpers.timed_briefly():
    manifest = student.export(tmp_path / 'student')
  assert 'test' not in manifest['measured']['loaded']
  assert manifest['evaluated_on'] == '10 images without labels'


def test_without_a_teacher_a_student_learns_from_labels_alone(tmp_path):
  call = QUICK | {'eval_data': (IMAGES[:30], LABELS[:30])}
  control = kd_jax.distill(
    IMAGES, LABELS, None, workdir=tmp_path / 'run', **call
  )
  assert 'train/kl' not in control.history[0]
  assert not any('teacher' in name for name in control.metrics)
  assert '| teacher' not in (tmp_path / 'run' / 'report.md').read_text()
  # The loss is the cross-entropy alone: alpha = 0 with any teacher.
  same = kd_jax.distill(IMAGES, LABELS, LOGITS, alpha=0.0, **call)
  assert (
    control.record['students'][0]['weights']
    == same.record['students'][0]['weights']
  )


def test_the_teacher_is_an_instance():
  expected = r'the class Constant; expected an instance, as in \(Constant\(\)'
  with pytest.raises(kd_jax.UserError, match=expected):
    kd_jax.store_outputs((Constant, {}), IMAGES)


def test_a_failing_teacher_is_named():
  with pytest.raises(
    kd_jax.UserError, match='^teacher: for images .* KeyError'
  ):
    kd_jax.store_outputs((lambda v, x: v['weights'], {}), IMAGES)


def test_another_call_in_a_folder_names_the_arguments(tmp_path):
  call = QUICK | {'workdir': tmp_path / 'run'}
  kd_jax.distill(IMAGES, LABELS, LOGITS, **call)
  expected = (
    r'(?s)epochs: 3, was 2.*Choose another folder as workdir, or remove this'
  )
  with pytest.raises(kd_jax.UserError, match=expected):
    kd_jax.distill(IMAGES, LABELS, LOGITS, **call | {'epochs': 3})


def test_a_method_that_averages_over_the_batch_is_refused(monkeypatch):
  def average(student_logits, teacher_logits):
    return jnp.mean((student_logits - teacher_logits) ** 2)

  monkeypatch.setitem(methods.METHODS, 'average', methods.Method(average))
  expected = (
    r"^fields\['distill.average'\]: the method average \(average\) returned "
    r'float32 \[\]; expected the loss of each example, float \[2\]: leave out'
  )
  with pytest.raises(kd_jax.UserError, match=expected):
    kd_jax.distill(IMAGES, LABELS, LOGITS, method='average', **QUICK)


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
    ({'labels': LABELS / 2}, r'labels are float64 \[96\]; .* each image$'),
    ({'labels': LABELS * 1.0}, r'each image: labels\.astype\(int\)'),
    (
      {'labels': LABELS.astype(str)},
      r'of names, np\.unique\(labels, return_inv',
    ),
    (
      {'labels': np.eye(3)[LABELS]},
      r'^labels are float64 \[96, 3\]; expected .* labels\.argmax\(1\)$',
    ),
    ({'labels': LABELS - 1}, r'labels\[0\] is -1; expected a class of at le'),
    (
      {'eval_data': (IMAGES, np.eye(3)[LABELS])},
      r'^eval_data: labels are float64 .* labels\.argmax\(1\)$',
    ),
    ({'labels': None, 'teacher': None}, 'labels=None and teacher=None'),
    ({'eval_data': None}, r'eval_data=None: expected \(images, labels\)'),
    ({'eval_data': 0}, r'eval_data=0: expected \(images, labels\)'),
    ({'eval_data': 0.999}, 'it holds out all 96 images'),
    ({'class_names': ['a']}, 'class_names are 1; expected 3, since the teach'),
    (
      {'labels': LABELS + 1, 'teacher': None, 'class_names': 'abc'},
      r'labels\[2\] is 3; .* since there are 3 class_names',
    ),
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
    ({'method': 'lk'}, '^method=.lk.: expected one of'),
    ({'labels': None, 'alpha': 0.5}, 'without labels, expected 1'),
    ({'alpha': 1.5}, 'alpha=1.5: expected the weight'),
    ({'eval_data': IMAGES}, r'eval_data=ndarray: expected \(images, labels\)'),
    ({'eval_data': (IMAGES[:, :4], LABELS)}, r'images are \(8, 8, 1\), but'),
    ({'eval_data': (IMAGES, LABELS + 1)}, r'eval_data: labels\[2\] is 3'),
    ({'eval_data': (IMAGES, None)}, 'teacher from `store_outputs`'),
    ({'epochs': 0}, '^epochs=0: expected'),
    ({'learning_rate': -1.0}, '^learning_rate=-1.0: expected'),
    ({'fields': {'optim.momentum': -1.0}}, r"^fields\['optim.momentum'\]=-1.0"),
    ({'augmentation': 'jitter'}, "^augmentation='jitter' takes outputs of"),
    ({'augmentation': 'flip', 'teacher': None}, '^augmentation=.flip.: expec'),
    ({'model': 7}, 'model: it is of type int; expected a module'),
    ({'model': lambda num_classes: 7}, 'model: returned int'),
    (
      {'model': WithFields},
      r'WithFields is a class, .* WithFields\(units=...\)$',
    ),
    ({'model': Constant}, r'^model: Constant is a class, .* Constant\(\)$'),
    ({'model': lambda: MLP}, 'too many positional arguments'),
    (
      {'model': nn.Dense(3)},
      r'^model: for images .* float32 \[2, 8, 8, 3\]; e',
    ),
    (
      {'model': Failing()},
      r'^model: for images \[B, 8, 8, 1\] .* ZeroDivision',
    ),
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
