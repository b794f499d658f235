"""A teacher: outputs of its network, each computed and stored once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.data import augmentation, preprocessing, selection
from kd_jax.evaluation import predictors
from kd_jax.models import apply, from_config
from kd_jax.teachers import sharded_logits
from kd_jax.teachers import teacher as teacher_lib
from kd_jax.teachers.teacher import Teacher
from kd_jax.teachers.teacher_network import TeacherNetwork
from kd_jax.training import context
from tests import helpers


@pytest.fixture(name='config', scope='module')
def _config():
  return helpers.tiny_mnist(
    fields={
      'data.train_examples': 40,
      'data.test_examples': 15,
      'teacher.model.hidden': (6,),
      'eval.batch_size': 16,
    }
  )


@pytest.fixture(name='dataset', scope='module')
def _dataset(config, generated):
  return selection.select(generated, config.data)


def _variables(config, dataset, seed=0):
  module = from_config.make_module(config.teacher.model, dataset.num_classes)
  return apply.init_variables(
    module, dataset.task.image_shape, jax.random.key(seed)
  )


@pytest.fixture(name='network')
def _network(config, dataset, tmp_path):
  return TeacherNetwork(
    config, dataset, _variables(config, dataset), tmp_path / 'teacher'
  )


def _again(network, **changes):
  """Returns a new object for a network, as another run makes it."""
  fields = {
    name: getattr(network, name)
    for name in ('config', 'dataset', 'variables', 'folder')
  }
  return TeacherNetwork(**fields | changes)


def _forward(network, images, scaling='unit'):
  """Returns the logits and features of images."""
  module = from_config.make_module(
    network.config.teacher.model, network.dataset.num_classes
  )
  scaled = preprocessing.SCALINGS[scaling](jnp.asarray(images))
  return module.apply(network.variables, scaled, train=False)


@pytest.fixture(name='forbid_computing')
def _forbid_computing(monkeypatch):
  """Returns a function after which no network computes outputs."""

  def forbid():
    for function in ('make_predict', 'make_features'):
      monkeypatch.setattr(predictors, function, None)

  return forbid


# --- Logits. ---


@pytest.mark.parametrize('scaling', ['unit', 'symmetric'])
def test_logits_are_those_of_the_scaled_images_of_both_splits(network, scaling):
  logits = network.logits(scaling)
  for name, split in (
    ('train', network.dataset.train),
    ('test', network.dataset.test),
  ):
    expected, _ = _forward(network, split.images, scaling)
    np.testing.assert_allclose(logits[name], expected, rtol=1e-4, atol=1e-5)
  assert network.logits(scaling) is logits


def test_logits_are_stored_for_the_next_run(network, forbid_computing):
  logits = network.logits('unit')
  forbid_computing()
  again = _again(network).logits('unit')
  jax.tree.map(np.testing.assert_array_equal, again, logits)


def test_another_networks_logits_are_not_taken_for_its_own(
  network, config, dataset
):
  logits = network.logits('unit')
  other = _again(network, variables=_variables(config, dataset, seed=1))
  assert (other.logits('unit')['train'] != logits['train']).any()


def test_a_transfer_set_has_a_store_beside_that_of_the_training_split(
  network, dataset, forbid_computing
):
  logits = network.logits('unit')
  run_context = context.Context(dataset, None, None)
  shown = context.on_transfer_set(run_context, 'noise').dataset
  noisy = network.on_transfer_set('noise', shown).logits('unit')
  expected, _ = _forward(network, shown.train.images)
  np.testing.assert_allclose(noisy['train'], expected, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(noisy['test'], logits['test'])
  forbid_computing()
  jax.tree.map(
    np.testing.assert_array_equal, _again(network).logits('unit'), logits
  )


# --- Features and views. ---


def test_features_are_stored_for_the_given_examples(network, forbid_computing):
  examples = np.array([3, 30, 7])
  layers = ('conv0', 'hidden0')
  features = network.features(layers, 0, 'three', examples)
  _, expected = _forward(network, network.dataset.train.images[examples])
  assert features.keys() == set(layers)
  for layer in layers:
    assert features[layer].dtype == np.float16
    np.testing.assert_allclose(
      features[layer], expected[layer], rtol=1e-2, atol=1e-3
    )
  forbid_computing()
  again = _again(network).features(layers, 0, 'three', examples)
  jax.tree.map(np.testing.assert_array_equal, again, features)


def test_rounded_features_are_levels_of_the_largest(network):
  examples = np.arange(20)
  floats = network.features(('hidden0',), 0, 'all', examples)['hidden0']
  levels = network.features(('hidden0',), 3, 'all', examples)['hidden0']
  assert levels.dtype == np.uint8 and levels.max() == 7
  np.testing.assert_allclose(
    levels / 7, floats.astype('f') / floats.max(), atol=0.5 / 7 + 1e-2
  )


def test_views_have_the_logits_of_the_shifted_images(network):
  store = network.view_store('jitter')
  assert network.view_store('jitter') is store
  jitter = augmentation.AUGMENTATIONS['jitter']
  examples, views = np.array([0, 5, 5]), np.array([0, 1, 24])
  images = jitter.apply(
    network.dataset.train.images[examples], jnp.asarray(views)
  )
  expected, _ = _forward(network, images)
  np.testing.assert_allclose(
    store(examples, views), expected, rtol=1e-2, atol=1e-2
  )


# --- The teacher. ---


def test_the_teacher_of_a_network_has_its_logits_on_the_device(network):
  record = {'row': 'teacher'}
  teacher = teacher_lib.network_teacher(network, record)
  assert teacher.record is record and teacher.variables is network.variables
  for name, logits in network.logits('unit').items():
    assert isinstance(teacher.logits[name], jax.Array)
    np.testing.assert_array_equal(teacher.logits[name], logits)


def test_a_teacher_with_other_logits_is_else_the_same(network):
  teacher = teacher_lib.network_teacher(network, {'row': 'teacher'})
  other = teacher.with_logits({'train': jnp.ones((2, 3))})
  assert other.logits['train'].shape == (2, 3)
  assert (other.record, other.network) == (teacher.record, network)
  assert teacher.logits['train'].shape == (40, 10)


def test_logits_alone_have_no_variables():
  assert Teacher({}, {}).variables is None


def test_a_teacher_is_shown_a_transfer_set(network, dataset):
  teacher = teacher_lib.network_teacher(network, {'row': 'teacher'})
  run_context = context.Context(dataset, None, None)
  shown = context.on_transfer_set(run_context, 'shuffled_pixels').dataset
  other = teacher.on_transfer_set('shuffled_pixels', shown)
  expected, _ = _forward(network, shown.train.images)
  np.testing.assert_allclose(
    other.logits['train'], expected, rtol=1e-4, atol=1e-5
  )
  # The run's record describes the teacher on its own data.
  assert other.record is teacher.record


# --- The record. ---


def _perfect(split):
  return 8 * np.eye(10, dtype=np.float32)[np.asarray(split.labels)]


def test_the_record_has_the_metrics_of_the_outputs_students_get(dataset):
  training = {'row': 'teacher', 'test': {'accuracy': 0.1}, 'steps': 3}
  logits = {'train': _perfect(dataset.train), 'test': -_perfect(dataset.test)}
  record = teacher_lib.make_record(training, logits, dataset)
  assert record['steps'] == 3
  assert record['train']['accuracy'] == 1 and record['test']['accuracy'] == 0
  assert training['test'] == {'accuracy': 0.1}
  # The digest of the outputs is what students are known by.
  same = teacher_lib.make_record({}, logits, dataset)
  negated = {split: -array for split, array in logits.items()}
  other = teacher_lib.make_record({}, negated, dataset)
  assert record['outputs'] == same['outputs'] != other['outputs']


def test_the_record_of_logits_without_a_test_split_has_no_test(dataset):
  logits = {'train': _perfect(dataset.train)}
  record = teacher_lib.make_record({'test': {}}, logits, dataset)
  assert 'test' not in record and 'reliability' not in record


def test_logits_on_disk_stay_there_and_are_known_by_their_identity(
  dataset, tmp_path
):
  logits = _perfect(dataset.train)
  on_disk = sharded_logits.ShardedLogits(
    tmp_path,
    {'weights': 'a'},
    lambda start, stop: logits[start:stop],
    shape=logits.shape,
  )
  splits = {'train': on_disk, 'test': _perfect(dataset.test)}
  assert teacher_lib.on_device(splits)['train'] is on_disk
  record = teacher_lib.make_record({}, splits, dataset)
  assert record['outputs'] == on_disk.digest
  assert record['train']['accuracy'] == 1 and record['train_examples'] == 40
