"""Convolutions computed in the form that suits the backend.

On a CPU, XLA's own convolution is up to 100 times slower than necessary if the
output is 2x2 or smaller. XLA is also slow in 1x1 convolutions and in the
gradient with respect to the kernel. For each shape this package computes a
convolution, and its gradients with respect to the images and to the kernel, in
the forms that were measured fastest on a CPU (`cpu_forms`). Other backends use
XLA's convolution.

`dispatch`  chooses the forms; the convolution that Flax calls
`forms`     the forms that compute matrix products
`winograd`  the forms that compute fewer products
"""

from kd_jax.models.convolution.dispatch import (
  FORMS,
  IMAGES_GRADIENTS,
  KERNEL_GRADIENTS,
  Forms,
  applies,
  conv_general_dilated,
  convolve_on_cpu,
  convolve_with_forms,
  cpu_forms,
)
from kd_jax.models.convolution.forms import Geometry, native

__all__ = [
  'FORMS',
  'IMAGES_GRADIENTS',
  'KERNEL_GRADIENTS',
  'Forms',
  'Geometry',
  'applies',
  'conv_general_dilated',
  'convolve_on_cpu',
  'convolve_with_forms',
  'cpu_forms',
  'native',
]
