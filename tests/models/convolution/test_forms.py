"""All forms of a convolution equal XLA's convolution and its gradients."""

import itertools

import jax
import pytest

from kd_jax.models import convolution
from tests.models.convolution.convolution_problems import (
  GEOMETRIES,
  assert_close,
  make_problem,
  value_and_gradients,
)


@pytest.mark.parametrize(
  'size, geometry',
  [
    *itertools.product([(6, 5), (8, 4), (3, 9)], GEOMETRIES),
    ((2, 2), GEOMETRIES[0]),
  ],
)
def test_all_forms_that_apply_are_equal(size, geometry):
  images, weights = make_problem(2, size, (3, 3), 4, 3)
  native = jax.jit(
    lambda x, w: value_and_gradients(
      convolution.native, x, w, geometry=geometry
    )
  )(images, weights)
  compared = 0
  for form in convolution.KERNEL_GRADIENTS:
    if not convolution.applies(form, images, weights, geometry):
      continue
    # 'bands' and 'patches' are forms of the kernel's gradient alone.
    others = [
      form if form in forms else 'native'
      for forms in (convolution.FORMS, convolution.IMAGES_GRADIENTS)
    ]
    forms = convolution.Forms(*others, form)
    ours = jax.jit(
      lambda x, w, forms=forms: value_and_gradients(
        lambda x, w: convolution.convolve_with_forms(x, w, geometry, forms),
        x,
        w,
      )
    )(images, weights)
    for computed, expected in zip(ours, native, strict=True):
      assert_close(computed, expected)
    compared += 1
  expected = 5 if geometry.strides == (1, 1) else 3
  assert compared == expected + (size == (2, 2))
