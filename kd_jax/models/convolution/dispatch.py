"""The choice of a form for each convolution, and the convolution Flax calls."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kd_jax.models.convolution import forms as form_functions
from kd_jax.models.convolution import winograd
from kd_jax.models.convolution.forms import LAYOUT, Geometry, has_integers

# (images, kernel, geometry) -> output.
FORMS = {
  'native': form_functions.native,
  'shifts': form_functions.shifts,
  'winograd': winograd.winograd,
  'karatsuba': winograd.karatsuba,
}
# (images, kernel, cotangent, geometry) -> gradient with respect to the images.
IMAGES_GRADIENTS = {
  'native': form_functions.native_images_gradient,
  'shifts': form_functions.shifts_images_gradient,
  'winograd': winograd.winograd_images_gradient,
  'karatsuba': winograd.karatsuba_images_gradient,
}
# (images, kernel, cotangent, geometry) -> gradient with respect to the kernel.
KERNEL_GRADIENTS = {
  'native': form_functions.native_kernel_gradient,
  'shifts': form_functions.shifts_kernel_gradient,
  'bands': form_functions.bands_kernel_gradient,
  'patches': form_functions.patches_kernel_gradient,
  'winograd': winograd.winograd_kernel_gradient,
  'karatsuba': winograd.karatsuba_kernel_gradient,
}


class Forms(NamedTuple):
  """The forms of a convolution and of its two gradients, by name.

  Attributes:
    forward: a name in FORMS.
    images: a name in IMAGES_GRADIENTS.
    kernel: a name in KERNEL_GRADIENTS.
  """

  forward: str
  images: str
  kernel: str


def applies(form: str, images, kernel, geometry: Geometry) -> bool:
  """Returns whether a form can compute a convolution of these shapes."""
  if form in ('native', 'shifts', 'patches'):
    return True
  if geometry.strides != (1, 1):
    return False
  if form == 'bands':
    return all(
      max(ends) < size
      for ends, size in zip(geometry.padding, kernel.shape[:2], strict=True)
    )
  if form == 'winograd':
    return kernel.shape[:2] == (3, 3)
  return (images.shape[1:3], kernel.shape[:2], geometry.padding) == (
    (2, 2), (3, 3), ((1, 1), (1, 1)),
  )  # fmt: skip


# With fewer rows in the products of 'winograd' and 'karatsuba', the transform
# of the kernel costs more than the form saves.
_LEAST_ROWS = 64


def cpu_forms(images, kernel, geometry: Geometry) -> Forms:
  """Returns the forms that are fastest on a CPU.

  benchmarks/convolutions.py measured the forms for the networks of the paper's
  Table 2 at batches of 100; see the record bench-avx2-convolutions in results/.

  Args:
    images: array or ShapeDtypeStruct [B, H, W, C].
    kernel: array or ShapeDtypeStruct [h, w, C, D].
    geometry: strides and padding.
  """
  height, width = geometry.output_size(images, kernel)
  if min(height, width) < 1:  # The output is empty.
    return Forms('native', 'native', 'native')
  if kernel.shape[2] < 16:
    return _forms_for_few_channels(kernel)
  is_pointwise = kernel.shape[:2] == (1, 1)
  if has_integers(images):
    # Only trained networks compute with integers: there are no gradients.
    is_small = height * width <= 4 or is_pointwise
    return Forms('shifts' if is_small else 'native', 'native', 'native')
  # The sums of 'winograd' and 'karatsuba' are too inexact in bfloat16.
  if images.dtype == jnp.float32:
    is_large = images.shape[0] >= _least_batch((height, width))
    form = 'winograd' if min(height, width) > 2 else 'karatsuba'
    if is_large and applies(form, images, kernel, geometry):
      return Forms(form, form, form)
  if height * width <= 16 or is_pointwise:
    return Forms('shifts', 'shifts', 'shifts')
  if geometry.strides != (1, 1):
    return Forms('native', 'shifts', 'shifts')
  if applies('bands', images, kernel, geometry):
    return Forms('native', 'native', 'bands')
  return Forms('native', 'native', 'native')


def _forms_for_few_channels(kernel) -> Forms:
  """Returns the forms of a stem: products with a short side are slow."""
  # In this case, patches take at most the memory of the cotangent.
  is_narrow = np.prod(kernel.shape[:3]) <= kernel.shape[3]
  return Forms('native', 'native', 'patches' if is_narrow else 'native')


def _least_batch(output_size: tuple[int, int]) -> int:
  """Returns the least batch whose tiles are worth a transform of the kernel."""
  height, width = map(winograd.num_tiles, output_size)
  return -(-_LEAST_ROWS // max(height * width, 1))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_with_forms(
  images: jax.Array, kernel: jax.Array, geometry: Geometry, forms: Forms
) -> jax.Array:
  """Computes a convolution, and its gradients, in the given forms.

  Args:
    images: [B, H, W, C].
    kernel: [h, w, C, D].
    geometry: strides and padding; static.
    forms: names of forms that apply to these shapes; static.
  Returns:
    [B, H', W', D].
  """
  return FORMS[forms.forward](images, kernel, geometry)


def _convolve_fwd(images, kernel, geometry, forms):
  output = convolve_with_forms(images, kernel, geometry, forms)
  return output, (images, kernel)


def _convolve_bwd(geometry, forms, residuals, cotangent):
  images, kernel = residuals
  return (
    IMAGES_GRADIENTS[forms.images](images, kernel, cotangent, geometry),
    KERNEL_GRADIENTS[forms.kernel](images, kernel, cotangent, geometry),
  )


convolve_with_forms.defvjp(_convolve_fwd, _convolve_bwd)


def convolve_on_cpu(
  images: jax.Array, kernel: jax.Array, geometry: Geometry
) -> jax.Array:
  """Computes a convolution in the forms that are fastest on a CPU.

  If a program is exported for any batch size, the batch size is a symbol. The
  program then holds the forms for small batches and the forms for large ones.
  """

  def forms_for_batch(batch):
    shape = (batch, *images.shape[1:])
    batch_images = jax.ShapeDtypeStruct(shape, images.dtype)
    return cpu_forms(batch_images, kernel, geometry)

  def convolve(forms):
    return lambda images, kernel: convolve_with_forms(
      images, kernel, geometry, forms
    )

  batch = images.shape[0]
  if isinstance(batch, int):
    return convolve(forms_for_batch(batch))(images, kernel)
  least = _least_batch(geometry.output_size(images, kernel))
  small, large = forms_for_batch(1), forms_for_batch(least)
  if small == large:
    return convolve(large)(images, kernel)
  return lax.cond(
    jnp.asarray(batch) >= least,
    convolve(large),
    convolve(small),
    images,
    kernel,
  )


# The parameters are those of lax.conv_general_dilated, which Flax passes.
def conv_general_dilated(  # noqa: PLR0913
  lhs: jax.Array,
  rhs: jax.Array,
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  lhs_dilation: Sequence[int] | None = None,
  rhs_dilation: Sequence[int] | None = None,
  dimension_numbers: (
    lax.ConvDimensionNumbers | tuple[str, str, str] | None
  ) = None,
  feature_group_count: int = 1,
  batch_group_count: int = 1,
  precision=None,
  preferred_element_type=None,
) -> jax.Array:
  """Computes `lax.conv_general_dilated` in the form that suits the backend.

  For Flax: `nn.Conv(conv_general_dilated=convolution.conv_general_dilated)`.
  Two-dimensional convolutions of NHWC images without dilation and groups are
  computed in the forms of `cpu_forms` if they are compiled for a CPU. XLA
  computes all others. The arguments are those of `lax.conv_general_dilated`;
  lhs are images [B, H, W, C] and rhs is a kernel [h, w, C, D].

  Returns:
    [B, H', W', D], equal to XLA's output up to rounding. For integers, whose
    sums have to be requested as int32, equal to XLA's output exactly.
  """
  fallback = functools.partial(
    lax.conv_general_dilated,
    window_strides=window_strides,
    padding=padding,
    lhs_dilation=lhs_dilation,
    rhs_dilation=rhs_dilation,
    dimension_numbers=dimension_numbers,
    feature_group_count=feature_group_count,
    batch_group_count=batch_group_count,
    precision=precision,
    preferred_element_type=preferred_element_type,
  )
  is_supported = (
    lhs.ndim == 4
    and lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    == lax.conv_dimension_numbers(lhs.shape, rhs.shape, LAYOUT)
    and all(d == 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    and feature_group_count == batch_group_count == 1
    and precision is None
    and preferred_element_type == (jnp.int32 if has_integers(lhs) else None)
  )
  if not is_supported:
    return fallback(lhs, rhs)
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(
      lhs.shape[1:3], rhs.shape[:2], window_strides, padding
    )
  if min(map(min, padding)) < 0:
    return fallback(lhs, rhs)
  (above, below), (left, right) = padding
  geometry = Geometry(
    (window_strides[0], window_strides[1]), ((above, below), (left, right))
  )
  return lax.platform_dependent(
    lhs,
    rhs,
    cpu=functools.partial(convolve_on_cpu, geometry=geometry),
    default=fallback,
  )
