"""Batch norm and max pool: values and gradients equal Flax's and XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from kd_jax.models import layers

SHAPE = (6, 4, 3, 5)


def _images(seed=0, shape=SHAPE):
  return 2 + 3 * jax.random.normal(jax.random.key(seed), shape)


def _variables():
  norm = layers.BatchNorm()
  init = jax.jit(lambda key, x: norm.init(key, x, train=False))
  variables = init(jax.random.key(0), _images())
  params = {
    'scale': jnp.linspace(0.5, 2, 5),
    'bias': jnp.linspace(-1, 1, 5),
  }
  return variables | {'params': params}


def _apply_ours(variables, x, train):
  return layers.BatchNorm().apply(
    variables, x, train=train, mutable=['batch_stats']
  )


def _apply_flax(variables, x, train):
  return nn.BatchNorm(
    use_running_average=not train, momentum=0.9, epsilon=1e-5
  ).apply(variables, x, mutable=['batch_stats'])


@pytest.mark.parametrize('train', [True, False])
def test_batch_norm_equals_flax_except_the_unbiased_variance(train):
  x = _images()
  (ours, updates), (flax, expected) = (
    jax.jit(apply, static_argnums=2)(_variables(), x, train)
    for apply in (_apply_ours, _apply_flax)
  )
  np.testing.assert_allclose(ours, flax, atol=1e-5)
  ours, flax = updates['batch_stats'], expected['batch_stats']
  np.testing.assert_allclose(ours['mean'], flax['mean'], rtol=1e-5)
  count = x.size // 5
  unbiased = 0.9 + (flax['var'] - 0.9) * count / (count - 1)
  np.testing.assert_allclose(
    ours['var'], unbiased if train else flax['var'], rtol=1e-5
  )


@pytest.mark.parametrize('train', [True, False])
def test_gradients_of_batch_norm_equal_flax(train):
  x, cotangent = _images(), _images(1)

  def gradients(apply):
    variables = _variables()
    loss = lambda params, x: jnp.sum(
      apply(variables | {'params': params}, x, train)[0] * cotangent
    )
    return jax.jit(jax.grad(loss, argnums=(0, 1)))(variables['params'], x)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
    gradients(_apply_ours),
    gradients(_apply_flax),
  )


def test_gradients_of_batch_norm_equal_finite_differences():
  x, cotangent = _images(shape=(2, 2, 2, 5)), _images(1, (2, 2, 2, 5))
  variables = _variables()
  loss = jax.jit(
    lambda x: jnp.sum(_apply_ours(variables, x, True)[0] * cotangent)
  )
  gradient = jax.jit(jax.grad(loss))(x)
  for index in ((0, 0, 0, 0), (1, 1, 0, 3)):
    step = jnp.zeros_like(x).at[index].set(1e-2)
    slope = (loss(x + step) - loss(x - step)) / 2e-2
    np.testing.assert_allclose(gradient[index], slope, rtol=2e-2, atol=1e-2)


def test_the_gradient_of_a_constant_channel_is_finite():
  x = jnp.full(SHAPE, 7.0)
  variables = _variables()
  apply = jax.jit(lambda x: _apply_ours(variables, x, True)[0])
  gradient = jax.jit(jax.grad(lambda x: jnp.sum(apply(x) ** 2)))(x)
  assert np.isfinite(gradient).all()
  np.testing.assert_allclose(
    apply(x)[0, 0, 0], variables['params']['bias'], atol=1e-3
  )


@pytest.mark.parametrize(
  'size', [(8, 8), (7, 7), (5, 6), (4, 1), (3, 2), (2, 2), (1, 1)]
)
@pytest.mark.parametrize('ties', [False, True])
def test_max_pool_and_its_gradient_equal_xlas(size, ties):
  """With ties, the first maximum receives the gradient."""
  x = _images(shape=(2, *size, 3))
  if ties:
    x = jnp.round(x / 3)
  of_xla = lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))

  @jax.jit
  def both(x):
    """Returns (output, gradient) of our pool and of XLA's."""
    outputs = []
    for pool in (layers.max_pool, of_xla):
      y, backward = jax.vjp(pool, x)
      outputs.append((y, backward(_images(1, y.shape))[0]))
    return outputs

  (y, ours), (expected_y, xla) = both(x)
  np.testing.assert_array_equal(y, expected_y)
  np.testing.assert_allclose(ours, xla, atol=1e-5)


@pytest.mark.parametrize('side, size', [(8, 2), (7, 2), (7, 4), (1, 2)])
def test_tiled_max_pool_and_its_gradient_equal_xlas(side, size):
  """Without ties, both send the gradient to the same place."""
  x = _images(shape=(2, side, side + 1, 3))
  outputs = []
  for pool in (layers.tiled_max_pool, layers.plain_tiled_max_pool):
    y, backward = jax.vjp(lambda x, pool=pool: pool(x, size), x)
    outputs.append((y, backward(_images(1, y.shape))[0]))
  (y, ours), (expected_y, xla) = outputs
  assert y.shape == (2, -(-side // size), -(-(side + 1) // size), 3)
  np.testing.assert_array_equal(y, expected_y)
  np.testing.assert_array_equal(ours, xla)
  assert np.count_nonzero(ours) == y.size


def test_tied_maxima_share_the_gradient_of_a_tiled_max_pool():
  gradient = jax.grad(lambda x: layers.tiled_max_pool(x, 2).sum())
  np.testing.assert_array_equal(gradient(jnp.ones((1, 2, 2, 1))), 0.25)
