"""Linear layers: the scale of a new kernel, and the axis that is mapped."""

import jax
import numpy as np

from kd_jax.methods import linear_layers


def test_a_new_kernel_has_the_scale_and_the_bias_is_zero():
  key = jax.random.key(0)
  layer = linear_layers.init_linear(key, 300, 200, scale=0.25)
  np.testing.assert_allclose(np.std(layer['kernel']), 0.25, rtol=0.02)
  np.testing.assert_array_equal(layer['bias'], np.zeros(200))


def test_maps_and_vectors_are_mapped_along_their_last_axis():
  layer = linear_layers.init_linear(jax.random.key(0), 3, 2, scale=1.0)
  layer = jax.tree.map(np.array, layer)  # NumPy adds a bias of fewer axes.
  layer['bias'] += [5.0, -1.0]
  maps = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype('float32')
  expected = np.einsum('bhwd,de->bhwe', maps, layer['kernel']) + layer['bias']
  mapped = linear_layers.linear(maps, layer)
  np.testing.assert_allclose(mapped, expected, rtol=1e-5, atol=1e-6)
  vectors = linear_layers.linear(maps[:, 1, 2], layer)
  np.testing.assert_allclose(vectors, expected[:, 1, 2], rtol=1e-5, atol=1e-6)
