"""Random convolutions, and comparisons with XLA's convolution."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kd_jax.models import convolution

LAYOUT = ('NHWC', 'HWIO', 'NHWC')
GEOMETRIES = [
  convolution.Geometry((1, 1), ((1, 1), (1, 1))),
  convolution.Geometry((1, 1), ((0, 0), (0, 0))),
  convolution.Geometry((1, 1), ((2, 0), (1, 2))),
  convolution.Geometry((2, 1), ((1, 1), (0, 2))),
]


def make_problem(batch, size, kernel, channels, features, dtype=jnp.float32):
  """Returns images [batch, *size, channels] and a kernel.

  NumPy draws them: JAX would compile each operation for each shape.
  """
  rng = np.random.default_rng(0)
  images = rng.normal(size=(batch, *size, channels))
  weights = rng.normal(size=(*kernel, channels, features))
  weights /= np.sqrt(np.prod(weights.shape[:3]))
  return images.astype(dtype), weights.astype(dtype)


def value_and_gradients(convolve, images, kernel, **kwargs):
  """Returns the output, and its gradients for a cotangent of many values."""
  out, vjp = jax.vjp(
    lambda images, kernel: convolve(images, kernel, **kwargs), images, kernel
  )
  cotangent = jnp.cos(jnp.arange(out.size, dtype=jnp.float32))
  return out, *vjp(cotangent.reshape(out.shape).astype(out.dtype))


def assert_close(computed, expected, tolerance=2e-5):
  """Asserts that arrays differ by rounding errors alone."""
  assert computed.shape == expected.shape and computed.dtype == expected.dtype
  computed, expected = (np.asarray(a, np.float32) for a in (computed, expected))
  # The rounding error of a long sum is proportional to its largest terms.
  scale = np.abs(expected).max() if expected.size else 1.0
  np.testing.assert_allclose(computed, expected, atol=tolerance * scale, rtol=0)


def assert_equals_xla(images, kernel, tolerance=2e-5, **kwargs):
  """Asserts that our convolution and its gradients equal XLA's."""
  ours, native = (
    jax.jit(lambda x, w, f=f: value_and_gradients(f, x, w, **kwargs))(
      images, kernel
    )
    for f in (convolution.conv_general_dilated, lax.conv_general_dilated)
  )
  for computed, expected in zip(ours, native, strict=True):
    assert_close(computed, expected, tolerance)
