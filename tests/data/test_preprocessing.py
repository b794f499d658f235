"""Scalings of pixels, against values computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.data import preprocessing

PIXELS = jnp.array([0, 51, 255], jnp.uint8).reshape(1, 1, 3, 1)


def test_unit_scales_pixels_to_0_and_1():
  scaled = preprocessing.unit(PIXELS)
  assert scaled.dtype == jnp.float32
  np.testing.assert_allclose(scaled.ravel(), [0, 0.2, 1], rtol=1e-6)


def test_symmetric_scales_pixels_to_minus_1_and_1():
  scaled = preprocessing.symmetric(PIXELS)
  np.testing.assert_allclose(scaled.ravel(), [-1, -0.6, 1], rtol=1e-6)


@pytest.mark.parametrize(
  'name, channels',
  [('unit', 1), ('unit', 3), ('symmetric', 1), ('cifar10', 3)],
)
def test_the_affine_form_of_a_scaling_gives_the_same_values(name, channels):
  images = np.random.default_rng(0).integers(
    0, 256, (5, 4, 3, channels), np.uint8
  )
  np.testing.assert_allclose(
    preprocessing.affine(name, images.shape[1:])(images),
    preprocessing.SCALINGS[name](images),
    atol=1e-6,
  )


def test_a_scaling_that_is_not_affine_is_refused(monkeypatch):
  monkeypatch.setitem(
    preprocessing.SCALINGS, 'squared', lambda x: preprocessing.unit(x) ** 2
  )
  with pytest.raises(ValueError, match="'squared' is not affine"):
    preprocessing.affine('squared', (4, 4, 1))


@pytest.mark.parametrize('scaling', preprocessing.SCALINGS)
def test_a_scaling_that_is_not_fused_gives_the_same_values(scaling):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (5, 4, 4, 3), np.uint8)
  unfused = jax.jit(preprocessing.unfused(scaling))
  np.testing.assert_array_equal(
    unfused(images), jax.jit(preprocessing.SCALINGS[scaling])(images)
  )
  assert 'gather' in unfused.lower(images).compile().as_text()


@pytest.mark.parametrize(
  'scaling, lowest, highest', [('unit', 0, 1), ('symmetric', -1, 1)]
)
def test_the_range_of_scaled_images(scaling, lowest, highest):
  low, high = preprocessing.image_range(scaling, 1)
  assert low.shape == high.shape == (1, 1, 1, 1)
  np.testing.assert_allclose([low.item(), high.item()], [lowest, highest])
