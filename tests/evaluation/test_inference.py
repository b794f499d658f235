"""Networks over whole splits, whatever their length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.data import preprocessing
from kd_jax.evaluation import inference


def _apply(variables, images, *, train, key):
  assert not train and key is None
  logits = images.reshape(images.shape[0], -1) @ variables['params']
  return logits, {}, {}


def _images(count):
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.integers(0, 256, (count, 2, 2, 1), 'uint8'))


@pytest.mark.parametrize('count', [1, 5, 8, 9, 23, 24])
def test_predict_returns_the_logits_of_every_example(count):
  predict = inference.make_batched_predict(
    _apply, preprocessing.unit, batch_size=8
  )
  params, images = jnp.arange(12.0).reshape(4, 3), _images(count)
  expected = preprocessing.unit(images).reshape(count, 4) @ params
  logits = predict({'params': params}, images)
  assert logits.shape == (count, 3)
  np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_seeds_side_by_side():
  predict = inference.make_batched_predict(
    _apply, preprocessing.unit, batch_size=8, num_seeds=2
  )
  params = jax.random.normal(jax.random.key(0), (2, 4, 3))
  images = _images(11)
  logits = predict({'params': params}, images)
  assert logits.shape == (2, 11, 3)
  for seed_logits, seed_params in zip(logits, params, strict=True):
    expected = preprocessing.unit(images).reshape(11, 4) @ seed_params
    np.testing.assert_allclose(seed_logits, expected, rtol=1e-5)


def test_one_compilation_for_all_batches_and_calls():
  traces = []

  def counted(*args, **kwargs):
    traces.append(1)
    return _apply(*args, **kwargs)

  predict = inference.make_batched_predict(
    counted, preprocessing.unit, batch_size=8
  )
  for seed in range(3):
    params = jax.random.normal(jax.random.key(seed), (4, 3))
    predict({'params': params}, _images(23))
  assert len(traces) == 1


def test_an_attack_ends_at_the_worst_image_of_a_linear_network():
  rng, params = np.random.default_rng(0), jnp.array([[1.0, -1.0]] * 4)
  images = rng.integers(0, 256, (5, 2, 2, 1), 'uint8')
  # Black and white pixels can move in one direction only.
  images[0], images[1] = 0, 255
  labels = jnp.array([0, 1, 1, 0, 1])
  attack = inference.make_batched_attack(
    _apply, preprocessing.symmetric, batch_size=2
  )
  logits = attack({'params': params}, jnp.asarray(images), labels)
  # Class 0 is brighter. Each pixel moves 8 of 255 levels away from its class.
  change = np.where(np.asarray(labels) == 0, -8, 8)[:, None, None, None]
  worst = np.clip(images + change.astype(int), 0, 255) / 127.5 - 1
  np.testing.assert_allclose(
    logits, worst.reshape(5, 4) @ params, rtol=1e-4, atol=1e-5
  )


def test_features_of_some_examples_are_in_their_order():
  images, examples = _images(9), np.array([7, 0, 3, 8, 1])
  predict_features = inference.make_predict_features(
    lambda batch: {'sum': jnp.sum(batch, axis=(1, 2, 3))}, images, batch_size=2
  )
  features = predict_features(examples)
  expected = np.sum(np.asarray(images)[examples], axis=(1, 2, 3))
  np.testing.assert_array_equal(features['sum'], expected)


def test_views_of_some_examples_are_in_their_order():
  images, examples = _images(9), np.array([7, 0, 3, 8, 1])
  views = np.array([2, 0, 1, 1, 3])
  predict_views = inference.make_predict_views(
    lambda batch: jnp.sum(batch, axis=(1, 2, 3))[:, None],
    lambda batch, views: batch * views[:, None, None, None],
    images,
    batch_size=2,
  )
  expected = np.sum(np.asarray(images)[examples], axis=(1, 2, 3)) * views
  np.testing.assert_array_equal(
    predict_views(examples, views), expected[:, None]
  )
