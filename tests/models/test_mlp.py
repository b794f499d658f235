"""MLP and ConvNet: shapes, parameter counts, dropout and temperature.

Also tests `kd_jax/models/costs.py`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import models
from kd_jax.models import costs


def _init(module, shape=(2, 28, 28, 1)):
  init = jax.jit(lambda key, x: module.init(key, x, train=False))
  return init(jax.random.key(0), jnp.zeros(shape))


def _apply(module, variables, images, **kwargs):
  """Compiles and calls `module.apply`; eagerly, each operation is compiled."""
  apply = jax.jit(lambda v, images: module.apply(v, images, **kwargs))
  return apply(variables, images)


@pytest.mark.parametrize('hidden', [(), (7,), (50,), (300,), (600,), (30, 20)])
def test_mlp_parameters_and_features(hidden):
  module = models.MLP(hidden=hidden, num_classes=10)
  variables = _init(module)
  widths = [784, *hidden, 10]
  expected = sum((a + 1) * b for a, b in zip(widths, widths[1:], strict=False))
  assert costs.count_parameters(variables) == expected
  if len(hidden) == 1:
    assert expected == 795 * hidden[0] + 10
  logits, features = _apply(
    module, variables, jnp.ones((2, 28, 28, 1)), train=False
  )
  assert logits.shape == (2, 10)
  assert [f.shape for f in features.values()] == [(2, w) for w in hidden]


def test_conv_net_is_the_papers_teacher():
  module = models.ConvNet(num_classes=10)
  variables = jax.eval_shape(lambda: _init(module))
  assert costs.count_parameters(variables) == 27_413_130
  logits, features = jax.eval_shape(
    lambda v: module.apply(v, jnp.ones((2, 28, 28, 1)), train=False), variables
  )
  assert logits.shape == (2, 10)
  assert {name: f.shape for name, f in features.items()} == {
    'conv0': (2, 26, 26, 32),
    'hidden0': (2, 1200),
    'hidden1': (2, 1200),
  }


def test_kernels_are_glorot_uniform_and_biases_are_zero():
  params = _init(models.MLP(hidden=(300,), num_classes=10))['params']
  kernel = params['hidden0']['kernel']
  limit = np.sqrt(6 / (784 + 300))
  assert np.abs(kernel).max() <= limit
  assert np.abs(kernel).max() > 0.99 * limit
  np.testing.assert_allclose(np.std(kernel), limit / np.sqrt(3), rtol=0.02)
  assert (params['hidden0']['bias'] == 0).all()


def test_temperature_divides_the_logits():
  variables = _init(models.MLP(hidden=(5,), num_classes=3))
  images = jax.random.normal(jax.random.key(1), (2, 28, 28, 1))
  plain, cooled = (
    _apply(
      models.MLP(hidden=(5,), num_classes=3, temperature=t),
      variables,
      images,
      train=False,
    )[0]
    for t in (1.0, 3.5)
  )
  np.testing.assert_allclose(cooled * 3.5, plain, rtol=1e-6)


def test_dropout_is_on_in_training_only_and_depends_on_the_key():
  module = models.MLP(hidden=(200,), num_classes=3, dropout_rate=0.5)
  variables = _init(module)
  images = jnp.ones((2, 28, 28, 1))

  @functools.partial(jax.jit, static_argnums=0)
  def logits(train, seed):
    rngs = {'dropout': jax.random.key(seed)}
    return module.apply(variables, images, train=train, rngs=rngs)[0]

  np.testing.assert_array_equal(logits(False, 0), logits(False, 1))
  np.testing.assert_array_equal(logits(True, 0), logits(True, 0))
  assert not np.allclose(logits(True, 0), logits(True, 1))


def test_a_bfloat16_network_has_float32_parameters_and_logits():
  module = models.MLP(hidden=(5,), num_classes=3, dtype='bfloat16')
  variables = _init(module)
  assert variables['params']['hidden0']['kernel'].dtype == jnp.float32
  logits, features = _apply(
    module, variables, jnp.ones((2, 28, 28, 1)), train=False
  )
  assert logits.dtype == jnp.float32
  assert features['hidden0'].dtype == jnp.bfloat16
