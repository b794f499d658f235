"""Ways to compute a convolution and its two gradients from matrix products.

In this module:
  images: [B, H, W, C].
  kernel: [h, w, C, D].
  output: [B, H', W', D]; the cotangent of the output has the same shape.
Functions named `*_images_gradient` and `*_kernel_gradient` take (images,
kernel, cotangent, geometry). They return the gradients of <cotangent,
convolution(images, kernel)> with respect to the images and to the kernel.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

LAYOUT = ('NHWC', 'HWIO', 'NHWC')
Padding = tuple[tuple[int, int], tuple[int, int]]


class Geometry(NamedTuple):
  """The strides and the padding of a two-dimensional convolution.

  Attributes:
    strides: (vertical, horizontal), in pixels.
    padding: ((above, below), (left, right)), in pixels.
  """

  strides: tuple[int, int]
  padding: Padding

  def output_size(self, images, kernel) -> tuple[int, int]:
    """Returns the height and width of the output."""
    return tuple(
      (images.shape[1 + i] + sum(self.padding[i]) - kernel.shape[i])
      // self.strides[i]
      + 1
      for i in (0, 1)
    )


def has_integers(images) -> bool:
  """Returns whether images are integers; their convolution is then int32."""
  return jnp.issubdtype(images.dtype, jnp.integer)


# --- native: XLA's convolution. ---


def native(images, kernel, geometry: Geometry) -> jax.Array:
  """Computes a convolution by XLA's convolution operator."""
  return lax.conv_general_dilated(
    images,
    kernel,
    geometry.strides,
    geometry.padding,
    dimension_numbers=LAYOUT,
    preferred_element_type=jnp.int32 if has_integers(images) else None,
  )


def native_images_gradient(images, kernel, cotangent, geometry: Geometry):
  """Returns the gradient with respect to the images.

  XLA transposes `native`.
  """
  transpose = jax.linear_transpose(
    lambda images: native(images, kernel, geometry), images
  )
  return transpose(cotangent)[0]


def native_kernel_gradient(images, kernel, cotangent, geometry: Geometry):
  """Returns the gradient with respect to the kernel.

  XLA transposes `native`.
  """
  transpose = jax.linear_transpose(
    lambda kernel: native(images, kernel, geometry), kernel
  )
  return transpose(cotangent)[0]


# --- shifts: one matrix product for each element of the kernel. ---


def shifts(images, kernel, geometry: Geometry) -> jax.Array:
  """Computes a convolution as a sum of matrix products of shifted images.

  Each element of the kernel gives one product. A product leaves out the
  positions where the kernel element falls on padding: on a 2x2 map with a 3x3
  kernel, 16 positions of 36 remain. A 1x1 kernel is a single product.
  """
  size = geometry.output_size(images, kernel)
  sum_type = jnp.int32 if has_integers(images) else jnp.float32
  total = jnp.zeros((images.shape[0], *size, kernel.shape[-1]), sum_type)
  for i, j, rows, cols in _overlaps(images, kernel, geometry):
    product = jnp.einsum(
      'bhwc,cd->bhwd',
      images[:, rows.inputs, cols.inputs],
      kernel[i, j],
      preferred_element_type=sum_type,
    )
    total += jnp.pad(product, ((0, 0), rows.padding, cols.padding, (0, 0)))
  return total if has_integers(images) else total.astype(images.dtype)


def shifts_images_gradient(images, kernel, cotangent, geometry: Geometry):
  """Returns the gradient with respect to the images.

  Transposes `shifts`. Its products take operands of the cotangent's type.
  JAX's transpose of `shifts` would convert the operands to float32, the type of
  the sum.
  """
  total = jnp.zeros(images.shape, jnp.float32)
  for i, j, rows, cols in _overlaps(images, kernel, geometry):
    product = jnp.einsum(
      'bhwd,cd->bhwc',
      cotangent[:, rows.outputs, cols.outputs],
      kernel[i, j],
      preferred_element_type=jnp.float32,
    )
    # `lax.pad` takes (before, after, between); `between` undoes the stride of
    # the slice.
    padding = [
      (s.start, images.shape[1 + axis] - s.stop, s.step - 1)
      for axis, s in enumerate((rows.inputs, cols.inputs))
    ]
    total += lax.pad(product, 0.0, [(0, 0, 0), *padding, (0, 0, 0)])
  return total.astype(images.dtype)


def shifts_kernel_gradient(images, kernel, cotangent, geometry: Geometry):
  """Returns the gradient with respect to the kernel.

  Computes one product for each element of the kernel.
  """
  gradients = {
    (i, j): _sum_outer_products(
      images[:, rows.inputs, cols.inputs],
      cotangent[:, rows.outputs, cols.outputs],
    )
    for i, j, rows, cols in _overlaps(images, kernel, geometry)
  }
  zeros = jnp.zeros(kernel.shape[2:], kernel.dtype)
  height, width = kernel.shape[:2]
  return jnp.stack(
    [
      jnp.stack([gradients.get((i, j), zeros) for j in range(width)])
      for i in range(height)
    ]
  )


class _Overlap(NamedTuple):
  """The positions along one axis where a kernel element meets no padding.

  Attributes:
    inputs: positions in the images.
    outputs: positions in the output.
    padding: zeros before and after these outputs that fill the output axis.
  """

  inputs: slice
  outputs: slice
  padding: tuple[int, int]


def _overlaps(
  images, kernel, geometry: Geometry
) -> Iterator[tuple[int, int, _Overlap, _Overlap]]:
  """Yields (row, column, overlap of rows, overlap of columns).

  Skips the elements of the kernel that meet nothing but padding.
  """
  rows_overlaps, cols_overlaps = (
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
  )
  for i, rows in enumerate(rows_overlaps):
    for j, cols in enumerate(cols_overlaps):
      if rows is not None and cols is not None:
        yield i, j, rows, cols


def _overlap(
  in_size: int, out_size: int, stride: int, offset: int
) -> _Overlap | None:
  """Returns the outputs for which out * stride + offset is in [0, in_size)."""
  first = max(0, -(offset // stride))
  stop = min(out_size, (in_size - 1 - offset) // stride + 1)
  if stop <= first:
    return None
  start, last = first * stride + offset, (stop - 1) * stride + offset
  return _Overlap(
    slice(start, last + 1, stride), slice(first, stop), (first, out_size - stop)
  )


# --- bands and patches: only for the gradient with respect to the kernel. ---


def bands_kernel_gradient(images, kernel, cotangent, geometry: Geometry):
  """Returns the gradient with respect to the kernel.

  Computes one product of (w C) x (h D), for stride 1. One operand is the images
  beside copies of the images shifted by 0 to w - 1 columns. The other operand
  is the cotangent beside copies of the cotangent shifted by 0 to h - 1 rows.
  Their product holds every element of the gradient once. A 3x3 kernel takes six
  copies, where patches take nine, and the product has no short side.
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
  product = _sum_outer_products(wide, tall)
  return product.reshape(cols, channels, rows, features).transpose(2, 0, 1, 3)


def patches_kernel_gradient(images, kernel, cotangent, geometry: Geometry):
  """Returns the gradient with respect to the kernel.

  Computes one product of (h w C) x D. The first operand holds the patches of
  the images. It suits few channels.
  """
  height, width = cotangent.shape[1:3]
  down, right = geometry.strides
  padded = jnp.pad(images, ((0, 0), *geometry.padding, (0, 0)))
  patches = jnp.concatenate(
    [
      padded[
        :,
        i : i + down * (height - 1) + 1 : down,
        j : j + right * (width - 1) + 1 : right,
      ]
      for i in range(kernel.shape[0])
      for j in range(kernel.shape[1])
    ],
    axis=-1,
  )
  return _sum_outer_products(patches, cotangent).reshape(kernel.shape)


def _sum_outer_products(images, cotangent):
  """Sums outer products over examples and positions.

  [..., C], [..., D] -> [C, D]. The product contracts the first axis of two
  matrices, which XLA reads without a copy. For a product over several axes, XLA
  transposes an operand first. It fuses the transpose with the code that
  computes the operand, and so computes the elements of the operand twice.
  """
  return lax.dot_general(
    images.reshape(-1, images.shape[-1]),
    cotangent.reshape(-1, cotangent.shape[-1]),
    (((0,), (0,)), ((), ())),
    preferred_element_type=jnp.float32,
  ).astype(images.dtype)
