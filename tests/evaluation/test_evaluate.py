"""Evaluation of the whole split, whatever its length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.data import preprocessing
from kd_jax.evaluation import evaluate


def _apply(variables, images, *, train, key):
  assert not train and key is None
  logits = images.reshape(images.shape[0], -1) @ variables['params']
  return logits, {}, {}


def _images(count):
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.integers(0, 256, (count, 2, 2, 1), 'uint8'))


@pytest.mark.parametrize('count', [1, 5, 8, 9, 23, 24])
def test_nothing_is_dropped(count):
  predict = evaluate.make_predict(_apply, preprocessing.unit, batch_size=8)
  params, images = jnp.arange(12.0).reshape(4, 3), _images(count)
  expected = preprocessing.unit(images).reshape(count, 4) @ params
  logits = predict({'params': params}, images)
  assert logits.shape == (count, 3)
  np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_seeds_side_by_side():
  predict = evaluate.make_predict(
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

  predict = evaluate.make_predict(counted, preprocessing.unit, batch_size=8)
  for seed in range(3):
    params = jax.random.normal(jax.random.key(seed), (4, 3))
    predict({'params': params}, _images(23))
  assert len(traces) == 1


def test_errors_are_counted_by_class():
  logits = jnp.eye(3)[jnp.array([0, 1, 1, 2, 0])]
  labels = jnp.array([0, 1, 2, 2, 2])
  assert evaluate.by_class(logits, labels) == {
    'errors': [0, 0, 2],
    'examples': [1, 1, 3],
  }


@pytest.mark.parametrize('seed', range(20))
def test_no_bias_makes_fewer_errors_than_the_chosen_one(seed):
  rng = np.random.default_rng(seed)
  # The logits are rounded, so that several examples change at the same bias.
  logits = np.round(2 * rng.normal(size=(60, 5)), 1)
  labels = rng.integers(5, size=60)
  logits[np.arange(60), labels] += 1
  classes = [[3], [1, 4], [0, 1, 2, 3]][seed % 3]

  def errors_with(biases):
    add_bias = lambda bias: evaluate.add_bias(logits, classes, bias)
    biased = jax.vmap(add_bias)(jnp.asarray(biases))
    return np.sum(np.argmax(biased, axis=-1) != labels, axis=-1)

  (chosen,) = errors_with([evaluate.choose_bias(logits, labels, classes)])
  # The number of errors changes at tenths; the grid lies halfway between them.
  grid = np.arange(-100, 100) / 10 + 0.05
  assert chosen == min(errors_with(grid))


def test_a_bias_is_the_middle_of_its_interval_and_finite():
  # A bias from 1 to 3 is right. Below, the first example is wrong; above, the
  # second is.
  logits = np.array([[1.0, 0.0], [3.0, 0.0]])
  assert evaluate.choose_bias(logits, np.array([1, 0]), [1]) == 2
  assert evaluate.choose_bias(logits, np.array([1, 1]), [1]) == 4
  assert evaluate.choose_bias(logits, np.array([0, 0]), [1]) == 0


def test_evaluate_returns_numbers_and_leaves_a_missing_teacher_out():
  logits = jnp.array([[2.0, 0.0], [0.0, 1.0]])
  labels = jnp.array([0, 0])
  values = evaluate.evaluate(logits, labels)
  assert values['accuracy'] == 0.5 and values['errors'] == 1
  assert 'teacher_agreement' not in values
  with_teacher = evaluate.evaluate(logits, labels, logits)
  assert with_teacher['teacher_agreement'] == 1
  assert with_teacher['teacher_kl'] == pytest.approx(0, abs=1e-6)
  assert all(type(v) in (int, float) for v in with_teacher.values())


def test_an_attack_ends_at_the_worst_image_of_a_linear_network():
  rng, params = np.random.default_rng(0), jnp.array([[1.0, -1.0]] * 4)
  images = rng.integers(0, 256, (5, 2, 2, 1), 'uint8')
  # Black and white pixels can move in one direction only.
  images[0], images[1] = 0, 255
  labels = jnp.array([0, 1, 1, 0, 1])
  attack = evaluate.make_attack(_apply, preprocessing.symmetric, batch_size=2)
  logits = attack({'params': params}, jnp.asarray(images), labels)
  # Class 0 is brighter. Each pixel moves 8 of 255 levels away from its class.
  change = np.where(np.asarray(labels) == 0, -8, 8)[:, None, None, None]
  worst = np.clip(images + change.astype(int), 0, 255) / 127.5 - 1
  np.testing.assert_allclose(
    logits, worst.reshape(5, 4) @ params, rtol=1e-4, atol=1e-5
  )
