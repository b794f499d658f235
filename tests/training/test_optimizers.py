"""Optimizers against their definitions, written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.training import optimizers

GRADS = np.array([[1.0, -2.0], [0.5, 0.0], [0.25, 4.0]], np.float32)


def _run(optimizer, params, learning_rate=0.1):
  params = jnp.asarray(params, jnp.float32)
  state = optimizer.init(params)
  for grad in GRADS:
    direction, state = optimizer.update(jnp.asarray(grad), state, params)
    params = params - learning_rate * direction
  return np.asarray(params)


def _make(name, momentum=0.0, nesterov=False, weight_decay=0.0):
  return optimizers.make_optimizer(
    name, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
  )


def test_adam_is_keras_adam():
  params, m, v = np.array([1.0, 1.0]), 0.0, 0.0
  for step, grad in enumerate(GRADS.astype(np.float64), start=1):
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad**2
    rate = 0.1 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    params = params - rate * m / (np.sqrt(v) + 1e-7)
  np.testing.assert_allclose(_run(_make('adam'), [1, 1]), params, rtol=1e-5)


def test_sgd_is_pytorch_nesterov_with_coupled_weight_decay():
  params, buffer = np.array([1.0, 1.0]), 0.0
  for grad in GRADS.astype(np.float64):
    grad = grad + 5e-4 * params
    buffer = 0.9 * buffer + grad
    params = params - 0.1 * (grad + 0.9 * buffer)
  ours = _run(_make('sgd', 0.9, True, 5e-4), [1, 1])
  np.testing.assert_allclose(ours, params, rtol=1e-6)


@pytest.mark.parametrize('scale_factor', [1.0, 0.5, 0.0])
def test_biases_and_scales_of_norms_have_factors_and_the_same_decay(
  scale_factor,
):
  params = {
    'norm': {'scale': jnp.ones(2), 'bias': jnp.ones(2)},
    'dense': {'kernel': jnp.ones(2), 'bias': jnp.ones(2)},
    'multiplier': {'scale': jnp.ones(2)},
  }
  optimizer = optimizers.make_optimizer(
    'sgd',
    momentum=0.9,
    nesterov=False,
    weight_decay=0.5,
    bias_factor=4.0,
    scale_factor=scale_factor,
  )
  state = optimizer.init(params)
  expected = {
    factor: [np.array([1.0, 1.0]), 0.0] for factor in (1, 4, scale_factor)
  }
  for grad in GRADS:
    grads = jax.tree.map(lambda _, g=grad: jnp.asarray(g), params)
    direction, state = optimizer.update(grads, state, params)
    params = jax.tree.map(lambda p, d: p - 0.1 * d, params, direction)
    for factor, pair in expected.items():
      decay = 0.5 / factor if factor else 0
      pair[1] = 0.9 * pair[1] + grad + decay * pair[0]
      pair[0] = pair[0] - 0.1 * factor * pair[1]
  norm = params.pop('norm')
  np.testing.assert_allclose(norm['bias'], expected[4][0], rtol=1e-5)
  np.testing.assert_allclose(
    norm['scale'], expected[scale_factor][0], rtol=1e-5
  )
  for other in jax.tree.leaves(params):
    np.testing.assert_allclose(other, expected[1][0], rtol=1e-5)


def test_sgd_without_momentum_adds_the_scaled_gradients():
  expected = 1 - 0.1 * GRADS.sum(axis=0)
  np.testing.assert_allclose(_run(_make('sgd'), [1, 1]), expected, rtol=1e-6)


def test_schedules_have_their_values_at_given_steps():
  constant = optimizers.make_schedule(
    'constant', total_steps=100, warmup_fraction=0.0
  )
  assert constant(jnp.int32(7)) == 1
  cosine = optimizers.make_schedule(
    'cosine', total_steps=100, warmup_fraction=0.3
  )
  np.testing.assert_allclose(
    [cosine(jnp.int32(s)) for s in (0, 15, 30, 65, 100)],
    [0, 0.5, 1, 0.5, 0],
    atol=1e-6,
  )


def test_unknown_names_are_named():
  with pytest.raises(ValueError, match="'lion'.*'adam'"):
    _make('lion')
  with pytest.raises(ValueError, match="'step'.*'cosine'"):
    optimizers.make_schedule('step', total_steps=1, warmup_fraction=0)
