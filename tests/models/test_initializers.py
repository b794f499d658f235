"""Initial kernels: cosines whiten correlated pixels, Dirac's copy channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import models
from kd_jax.models import initializers

KEY = jax.random.key(0)


def _filters(height, width, channels):
  """Returns each of the cosines once, as the columns of a square matrix."""
  size = height * width * channels
  kernel = initializers.dct(KEY, (height, width, channels, 2 * size))
  return np.reshape(kernel, (size, 2 * size))[:, ::2]


@pytest.mark.parametrize('shape', [(3, 3, 3), (3, 3, 1), (1, 1, 4), (2, 3, 2)])
def test_cosines_are_orthonormal(shape):
  filters = _filters(*shape)
  np.testing.assert_allclose(
    filters.T @ filters, np.eye(len(filters)), atol=1e-6
  )


def test_cosines_have_the_values_of_the_definition():
  kernel = np.asarray(initializers.dct(KEY, (1, 3, 1, 6)))[0, :, 0]
  third, half, sixth = 3**-0.5, 2**-0.5, 6**-0.5
  np.testing.assert_allclose(kernel[:, 0], [third] * 3, atol=1e-6)
  np.testing.assert_allclose(kernel[:, 2], [half, 0, -half], atol=1e-6)
  np.testing.assert_allclose(
    kernel[:, 4], [sixth, -2 * sixth, sixth], atol=1e-6
  )
  np.testing.assert_array_equal(kernel[:, 1::2], -kernel[:, ::2])


def test_the_lowest_frequencies_come_first():
  kernel = np.asarray(initializers.dct(KEY, (3, 3, 3, 8)))
  np.testing.assert_allclose(kernel[..., 0], 27**-0.5, rtol=1e-6)
  # The next three change along one axis each.
  axes = [tuple(np.ptp(kernel[..., i], axis=a).max() > 0.1 for a in range(3))
          for i in (2, 4, 6)]  # fmt: skip
  assert sorted(axes) == [
    (False, False, True), (False, True, False), (True, False, False),
  ]  # fmt: skip


def test_filters_beyond_the_cosines_are_random():
  shape = (3, 3, 1, 32)
  kernel = initializers.dct(KEY, shape)
  random = initializers.kaiming(KEY, shape)
  np.testing.assert_array_equal(kernel[..., 18:], random[..., 18:])
  assert kernel.dtype == jnp.float32
  assert initializers.dct(KEY, shape, jnp.bfloat16).dtype == jnp.bfloat16


def test_cosines_whiten_pixels_that_are_like_their_neighbours():
  # The covariance of 3x3 patches whose pixels correlate by 0.95 for each step.
  lags = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
  covariance = np.kron(0.95**lags, 0.95**lags)

  def condition(filters):
    of_features = filters.T @ covariance @ filters
    scale = np.diag(of_features) ** -0.5
    return np.linalg.cond(of_features * np.outer(scale, scale))

  # The covariance of features that batch norm has given one variance.
  assert condition(np.eye(9)) > 1000
  assert condition(_filters(3, 3, 1)) < 1.4


def test_a_resnet_begins_with_the_cosines_of_its_section():
  fields = dict(num_classes=2, blocks=(1,), widths=(8,), strides=(1,))
  image = jnp.zeros((1, 8, 8, 3))
  kernels = {
    name: models.ResNet(**fields, stem_init=name).init(KEY, image, train=False)[
      'params'
    ]['stem']['kernel']
    for name in initializers.KERNELS
  }
  np.testing.assert_array_equal(
    kernels['dct'], initializers.dct(KEY, (3, 3, 3, 8))
  )
  assert abs(np.mean(kernels['kaiming'][..., 0]) - 27**-0.5) > 0.05


@pytest.mark.parametrize('features', [4, 7, 2])
def test_dirac_copies_channels_and_draws_the_rest(features):
  image = jax.random.normal(KEY, (1, 5, 5, 4))
  kernel = initializers.dirac(KEY, (3, 3, 4, features))
  copied = jax.lax.conv_general_dilated(
    image, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  count = min(4, features)
  np.testing.assert_allclose(copied[..., :count], image[..., :count])
  random = initializers.kaiming(KEY, kernel.shape)
  np.testing.assert_array_equal(kernel[..., count:], random[..., count:])


def test_a_one_by_one_kernel_is_random():
  np.testing.assert_array_equal(
    initializers.dirac(KEY, (1, 1, 4, 8)),
    initializers.kaiming(KEY, (1, 1, 4, 8)),
  )


def test_the_convolutions_of_blocks_begin_with_the_kernel_of_their_section():
  model = models.ResNet(
    num_classes=2, block='pooled', blocks=(1, 2), widths=(4, 8),
    strides=(2, 2), conv_init='dirac',
  )  # fmt: skip
  params = model.init(KEY, jnp.zeros((1, 8, 8, 3)), train=False)['params']
  kernels = [
    (path, leaf)
    for path, leaf in jax.tree.leaves_with_path(params)
    if leaf.ndim == 4 and path[0].key != 'stem'
  ]
  assert len(kernels) == 4
  for _, kernel in kernels:
    np.testing.assert_array_equal(kernel[1, 1, :4, :4], np.eye(4))
  # The stem has its own field.
  assert np.abs(params['stem']['kernel'][1, 1, :3, :3] - np.eye(3)).max() > 0.1
