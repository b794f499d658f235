"""A teacher's network: its outputs, each computed and stored once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.data import augmentation
from kd_jax.evaluation import predictors
from kd_jax.teachers.teacher_network import TeacherNetwork
from kd_jax.training import context
from tests.teachers import toy_network


@pytest.fixture(name='dataset', scope='module')
def _dataset(generated):
  return toy_network.select(generated)


@pytest.fixture(name='network')
def _network(dataset, tmp_path):
  return toy_network.make_network(dataset, tmp_path / 'teacher')


def _again(network, **changes):
  """Returns a new object for a network, as another run makes it."""
  fields = {
    name: getattr(network, name)
    for name in ('config', 'dataset', 'variables', 'folder')
  }
  return TeacherNetwork(**fields | changes)


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
    expected, _ = toy_network.forward(network, split.images, scaling)
    np.testing.assert_allclose(logits[name], expected, rtol=1e-4, atol=1e-5)
  assert network.logits(scaling) is logits


def test_logits_are_stored_for_the_next_run(network, forbid_computing):
  logits = network.logits('unit')
  forbid_computing()
  again = _again(network).logits('unit')
  jax.tree.map(np.testing.assert_array_equal, again, logits)


def test_another_networks_logits_are_not_taken_for_its_own(network, dataset):
  logits = network.logits('unit')
  other = _again(network, variables=toy_network.make_variables(dataset, seed=1))
  assert (other.logits('unit')['train'] != logits['train']).any()


def test_a_transfer_set_has_a_store_beside_that_of_the_training_split(
  network, dataset, forbid_computing
):
  logits = network.logits('unit')
  run_context = context.Context(dataset, None, None)
  shown = context.on_transfer_set(run_context, 'noise').dataset
  noisy = network.on_transfer_set('noise', shown).logits('unit')
  expected, _ = toy_network.forward(network, shown.train.images)
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
  _, expected = toy_network.forward(
    network, network.dataset.train.images[examples]
  )
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
  expected, _ = toy_network.forward(network, images)
  np.testing.assert_allclose(
    store(examples, views), expected, rtol=1e-2, atol=1e-2
  )
