"""Pixel scalings: values by hand."""

import jax.numpy as jnp
import numpy as np

from kd_jax import preprocessing

PIXELS = jnp.array([0, 51, 255], jnp.uint8).reshape(1, 1, 3, 1)


def test_unit():
  scaled = preprocessing.unit(PIXELS)
  assert scaled.dtype == jnp.float32
  np.testing.assert_allclose(scaled.ravel(), [0, 0.2, 1], rtol=1e-6)


def test_symmetric():
  scaled = preprocessing.symmetric(PIXELS)
  np.testing.assert_allclose(scaled.ravel(), [-1, -0.6, 1], rtol=1e-6)
