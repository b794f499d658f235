"""Distillation from arrays: the results of a config, and clear mistakes.

Also tests `kd_jax/api/stored_outputs.py` and `kd_jax/api/trained_student.py`.
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
from kd_jax import methods
from kd_jax.training import train
from tests import helpers
from tests.api.toy_call import (
  IMAGES,
  LABELS,
  LOGITS,
  QUICK,
  RNG,
  Constant,
  Small,
)


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
    pytest.param(linen_network.student, marks=pytest.mark.slow),
    pytest.param(nnx_network.student, marks=pytest.mark.slow),
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
  call = dict(QUICK, model=Small(), workdir=tmp_path / 'run, again')
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
  predicted = student.logits(IMAGES[origin.positions]).argmax(-1)
  accuracy = np.mean(predicted == LABELS[origin.positions])
  assert student.metrics['accuracy'] == pytest.approx(accuracy)


def test_an_export_says_what_its_accuracy_is_of(exported):
  _, student, _, manifest = exported
  assert manifest['evaluated_on'] == ('24 held-out training images')
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
    (IMAGES[0, 0, 0, 0], r'images are uint8 \[\]; expected uint8 \[N, 8, 8'),
  ):
    with pytest.raises(kd_jax.UserError, match=message):
      student.predict(images)
    with pytest.raises(kd_jax.ArtifactError, match=message):
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


def test_images_of_the_evaluation_that_are_trained_on_are_counted(caplog):
  call = QUICK | {'epochs': 1, 'eval_data': (IMAGES[:30], LABELS[:30])}
  (warning,) = kd_jax.distill(IMAGES, LABELS, LOGITS, **call).record['warnings']
  assert warning.startswith('30 of the 30 images of the evaluation are also tr')
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


def test_the_package_offers_its_names_and_imports_nothing_before_use():
  program = (
    'import sys, kd_jax; print("jax" in sys.modules, "flax" in sys.modules); '
    'print(all(hasattr(kd_jax, name) for name in kd_jax.__all__))'
  )
  output = helpers.run_python('-c', program).stdout.split()
  assert output == ['False', 'False', 'True']
