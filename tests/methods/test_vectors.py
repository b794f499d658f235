"""Adaptive average pooling of feature maps."""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.methods import vectors


def test_pooling_windows_are_as_equal_as_the_size_allows():
  line = jnp.arange(7.0)[None, :, None, None]
  # Each window holds the places that 0 to 1.75, 1.75 to 3.5, 3.5 to 5.25 and
  # 5.25 to 7 touch.
  np.testing.assert_allclose(
    vectors.pool(line, 1, 4).ravel(), [0.5, 2, 4, 5.5], rtol=1e-6
  )
  np.testing.assert_allclose(
    vectors.pool(line[:, :6], 1, 3).ravel(), [0.5, 2.5, 4.5], rtol=1e-6
  )
  images = jax.random.normal(jax.random.key(0), (2, 7, 5, 3))
  np.testing.assert_allclose(
    vectors.pool(vectors.pool(images, 1, 1), 2, 1),
    images.mean((1, 2), keepdims=True),
    rtol=1e-5,
  )
