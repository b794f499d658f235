"""Convolutions in the form that suits the backend.

XLA's CPU backend is up to 100 times slower than it need be where the output of
a convolution is 2x2 or smaller, and slow in the gradient of the kernel and in
1x1 convolutions. Here a convolution, the gradient of its images and that of
its kernel are each computed in the form that was measured fastest on a CPU for
such shapes (`cpu_forms`); elsewhere all three are XLA's own.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
Padding = tuple[tuple[int, int], tuple[int, int]]


class Geometry(NamedTuple):
  """Strides and padding of height and width."""

  strides: tuple[int, int]
  padding: Padding

  def output_size(self, images, kernel) -> tuple[int, int]:
    """Height and width of the output."""
    return tuple(
      (images.shape[1 + i] + sum(self.padding[i]) - kernel.shape[i])
      // self.strides[i]
      + 1
      for i in (0, 1)
    )


# --- Forms: the same function of images [B, H, W, C], kernel [h, w, C, D]. ---


def native(images, kernel, geometry: Geometry):
  """XLA's own convolution."""
  return lax.conv_general_dilated(
    images,
    kernel,
    geometry.strides,
    geometry.padding,
    dimension_numbers=_LAYOUT,
  )


def shifts(images, kernel, geometry: Geometry):
  """A sum of matrix products, one for each element of the kernel.

  Of each, only what does not fall on padding: on a 2x2 map, 16 of 36. A 1x1
  kernel is one product.
  """
  size = geometry.output_size(images, kernel)
  total = jnp.zeros((images.shape[0], *size, kernel.shape[-1]), jnp.float32)
  for i, j, rows, cols in _shifts(images, kernel, geometry):
    part = jnp.einsum(
      'bhwc,cd->bhwd',
      images[:, rows.inputs, cols.inputs],
      kernel[i, j],
      preferred_element_type=jnp.float32,
    )
    total += jnp.pad(part, ((0, 0), rows.padding, cols.padding, (0, 0)))
  return total.astype(images.dtype)


class _Overlap(NamedTuple):
  """Where an element of the kernel meets the images and not their padding.

  Attributes:
    inputs: along an axis of the images.
    outputs: along that axis of the output.
    padding: what puts the outputs into their place.
  """

  inputs: slice
  outputs: slice
  padding: tuple[int, int]


def _shifts(images, kernel, geometry):
  """Yields (row, column) of the kernel's elements that meet the images, and
  where they do, along rows and along columns.
  """
  overlaps = [
    [
      _overlap(
        images.shape[1 + axis],
        geometry.output_size(images, kernel)[axis],
        geometry.strides[axis],
        offset - geometry.padding[axis][0],
      )
      for offset in range(kernel.shape[axis])
    ]
    for axis in (0, 1)
  ]
  for i, rows in enumerate(overlaps[0]):
    for j, cols in enumerate(overlaps[1]):
      if rows is not None and cols is not None:
        yield i, j, rows, cols


def _overlap(
  in_size: int, out_size: int, stride: int, offset: int
) -> _Overlap | None:
  """Returns the overlap of out * stride + offset with [0, in_size)."""
  first = max(0, -(offset // stride))
  stop = min(out_size, (in_size - 1 - offset) // stride + 1)
  if stop <= first:
    return None
  start, last = first * stride + offset, (stop - 1) * stride + offset
  return _Overlap(
    slice(start, last + 1, stride), slice(first, stop), (first, out_size - stop)
  )


FORMS = {'native': native, 'shifts': shifts}


# --- The gradient of the images: d/d(images) of <cotangent, convolution>. ---


def _native_images(images, kernel, cotangent, geometry: Geometry):
  transpose = jax.linear_transpose(
    lambda images: native(images, kernel, geometry), images
  )
  return transpose(cotangent)[0]


def _shifts_images(images, kernel, cotangent, geometry: Geometry):
  """The transpose of `shifts`, with its products in the cotangent's type.

  JAX's own transpose would take them in float32, the type of their sum.
  """
  total = jnp.zeros(images.shape, jnp.float32)
  for i, j, rows, cols in _shifts(images, kernel, geometry):
    part = jnp.einsum(
      'bhwd,cd->bhwc',
      cotangent[:, rows.outputs, cols.outputs],
      kernel[i, j],
      preferred_element_type=jnp.float32,
    )
    places = [
      (s.start, images.shape[1 + axis] - s.stop, s.step - 1)
      for axis, s in enumerate((rows.inputs, cols.inputs))
    ]
    total += lax.pad(part, 0.0, [(0, 0, 0), *places, (0, 0, 0)])
  return total.astype(images.dtype)


IMAGES_GRADIENTS = {'native': _native_images, 'shifts': _shifts_images}


# --- The gradient of the kernel. ---
#
# As products of two matrices over their first axis, which XLA takes as they
# are: of products over several axes it transposes an operand first, and by way
# of that computes it anew, element by element.


def _pair(images, cotangent):
  """Sum over examples and positions: [..., C], [..., D] -> [C, D]."""
  return lax.dot_general(
    images.reshape(-1, images.shape[-1]),
    cotangent.reshape(-1, cotangent.shape[-1]),
    (((0,), (0,)), ((), ())),
    preferred_element_type=jnp.float32,
  ).astype(images.dtype)


def _native_kernel(images, kernel, cotangent, geometry: Geometry):
  transpose = jax.linear_transpose(
    lambda kernel: native(images, kernel, geometry), kernel
  )
  return transpose(cotangent)[0]


def _shifts_kernel(images, kernel, cotangent, geometry: Geometry):
  grads = {
    (i, j): _pair(
      images[:, rows.inputs, cols.inputs],
      cotangent[:, rows.outputs, cols.outputs],
    )
    for i, j, rows, cols in _shifts(images, kernel, geometry)
  }
  zeros = jnp.zeros(kernel.shape[2:], kernel.dtype)
  height, width = kernel.shape[:2]
  return jnp.stack(
    [
      jnp.stack([grads.get((i, j), zeros) for j in range(width)])
      for i in range(height)
    ]
  )


def _bands_kernel(images, kernel, cotangent, geometry: Geometry):
  """One matrix product of (w C) x (h D), for stride 1.

  The images beside themselves shifted by 0 .. w-1 columns, and the cotangent
  beside itself shifted by 0 .. h-1 rows: the product of the two holds every
  element of the kernel's gradient once. Six copies for a 3x3 kernel, where
  patches are nine, and a product with no short side.
  """
  rows, cols, channels, features = kernel.shape
  height, width = images.shape[1], cotangent.shape[2]
  (above, _), (left, right) = geometry.padding
  padded = jnp.pad(images, ((0, 0), (0, 0), (left, right), (0, 0)))
  wide = jnp.concatenate(
    [padded[:, :, j : j + width] for j in range(cols)], axis=-1
  )
  low = rows - 1 - above
  high = height + rows - 1 - low - cotangent.shape[1]
  padded = jnp.pad(cotangent, ((0, 0), (low, high), (0, 0), (0, 0)))
  tall = jnp.concatenate(
    [padded[:, i : i + height] for i in reversed(range(rows))], axis=-1
  )
  product = _pair(wide, tall)
  return product.reshape(cols, channels, rows, features).transpose(2, 0, 1, 3)


KERNEL_GRADIENTS = {
  'native': _native_kernel,
  'shifts': _shifts_kernel,
  'bands': _bands_kernel,
}


# --- The choice. ---


class Forms(NamedTuple):
  """Names of the forms for a convolution and its two gradients."""

  forward: str
  images: str
  kernel: str


def cpu_forms(images, kernel, geometry: Geometry) -> Forms:
  """Returns the forms that are fastest on a CPU.

  Measured by benchmarks/convolutions.py for the networks of the paper's Table
  2 and batches of 100; the results are in results/bench-convolutions.json.
  """
  height, width = geometry.output_size(images, kernel)
  if min(height, width) < 1:  # There is nothing to compute.
    return Forms('native', 'native', 'native')
  if kernel.shape[2] < 16:  # The stem: products with so short a side are slow.
    return Forms('native', 'native', 'native')
  if height * width <= 16 or kernel.shape[:2] == (1, 1):
    return Forms('shifts', 'shifts', 'shifts')
  if geometry.strides != (1, 1):
    return Forms('native', 'shifts', 'shifts')
  return Forms('native', 'native', 'bands')


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(images, kernel, geometry: Geometry, forms: Forms):
  return FORMS[forms.forward](images, kernel, geometry)


def _convolve_fwd(images, kernel, geometry, forms):
  return _convolve(images, kernel, geometry, forms), (images, kernel)


def _convolve_bwd(geometry, forms, residuals, cotangent):
  images, kernel = residuals
  return (
    IMAGES_GRADIENTS[forms.images](images, kernel, cotangent, geometry),
    KERNEL_GRADIENTS[forms.kernel](images, kernel, cotangent, geometry),
  )


_convolve.defvjp(_convolve_fwd, _convolve_bwd)


def conv_general_dilated(
  lhs: jax.Array,
  rhs: jax.Array,
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  lhs_dilation: Sequence[int] | None = None,
  rhs_dilation: Sequence[int] | None = None,
  dimension_numbers: lax.ConvDimensionNumbers | Sequence[str] | None = None,
  feature_group_count: int = 1,
  batch_group_count: int = 1,
  precision=None,
  preferred_element_type=None,
) -> jax.Array:
  """`lax.conv_general_dilated`, in the form that suits the backend.

  For Flax: `nn.Conv(conv_general_dilated=conv.conv_general_dilated)`. What has
  a form of its own are two-dimensional convolutions of NHWC images without
  dilation and groups, compiled for a CPU; all else is XLA's.

  Args:
    lhs: images [B, H, W, C].
    rhs: kernel [h, w, C, D].
    Others: as in `lax.conv_general_dilated`.
  Returns:
    [B, H', W', D], equal to XLA's up to rounding.
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
  plain = (
    lhs.ndim == 4
    and lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    == lax.conv_dimension_numbers(lhs.shape, rhs.shape, _LAYOUT)
    and all(d == 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    and feature_group_count == batch_group_count == 1
    and precision is None
    and preferred_element_type is None
  )
  if not plain:
    return fallback(lhs, rhs)
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(
      lhs.shape[1:3], rhs.shape[:2], window_strides, padding
    )
  if min(map(min, padding)) < 0:
    return fallback(lhs, rhs)
  geometry = Geometry(tuple(window_strides), tuple(map(tuple, padding)))
  forms = cpu_forms(lhs, rhs, geometry)
  return lax.platform_dependent(
    lhs,
    rhs,
    cpu=lambda lhs, rhs: _convolve(lhs, rhs, geometry, forms),
    default=fallback,
  )
