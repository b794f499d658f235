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
import numpy as np
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
    preferred_element_type=jnp.int32 if _is_whole(images) else None,
  )


def shifts(images, kernel, geometry: Geometry):
  """A sum of matrix products, one for each element of the kernel.

  Of each, only what does not fall on padding: on a 2x2 map, 16 of 36. A 1x1
  kernel is one product.
  """
  size = geometry.output_size(images, kernel)
  sums = jnp.int32 if _is_whole(images) else jnp.float32
  total = jnp.zeros((images.shape[0], *size, kernel.shape[-1]), sums)
  for i, j, rows, cols in _shifts(images, kernel, geometry):
    part = jnp.einsum(
      'bhwc,cd->bhwd',
      images[:, rows.inputs, cols.inputs],
      kernel[i, j],
      preferred_element_type=sums,
    )
    total += jnp.pad(part, ((0, 0), rows.padding, cols.padding, (0, 0)))
  return total if _is_whole(images) else total.astype(images.dtype)


def _is_whole(images) -> bool:
  """Whether numbers are whole; their sums are int32 then."""
  return jnp.issubdtype(images.dtype, jnp.integer)


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


def winograd(images, kernel, geometry: Geometry):
  """Winograd's F(4x4, 3x3), for a 3x3 kernel at stride 1.

  Of each 4x4 tile of the output, 36 products for each pair of channels where
  the other forms take 144. Rounding errors are about ten times theirs: some
  1e-6 of the largest output.

  Reference: Lavin and Gray 2015, arXiv:1509.09308.
  """
  height, width = geometry.output_size(images, kernel)
  counts = _num_tiles(height), _num_tiles(width)
  products = jnp.einsum(
    'ktc,kcd->ktd',
    _images_tiles(images, counts, geometry),
    _times(_KERNEL, kernel),
  )
  tiles = _times(_OUTPUT, products)
  output = _join_tiles(
    tiles.reshape(_TILE, _TILE, images.shape[0], *counts, -1)
  )
  return output[:, :height, :width]


# With a 6x6 tile d of the images and a kernel g, the 4x4 tile of the output is
# O [(K g K^T) * (I d I^T)] O^T: convolution as a product of polynomials, by
# their values at 0, 1, -1, 2, -2 and infinity. The matrices below are those of
# both axes at once, and take a tile as one vector.


def _of_both_axes(*rows):
  return np.kron(rows, rows)


_TILE = 4
_IMAGES = _of_both_axes(
  (4, 0, -5, 0, 1, 0),
  (0, -4, -4, 1, 1, 0),
  (0, 4, -4, -1, 1, 0),
  (0, -2, -1, 2, 1, 0),
  (0, 2, -1, -2, 1, 0),
  (0, 4, 0, -5, 0, 1),
)
_KERNEL = _of_both_axes(
  (1 / 4, 0, 0),
  (-1 / 6, -1 / 6, -1 / 6),
  (-1 / 6, 1 / 6, -1 / 6),
  (1 / 24, 1 / 12, 1 / 6),
  (1 / 24, -1 / 12, 1 / 6),
  (0, 0, 1),
)
_OUTPUT = _of_both_axes(
  (1, 1, 1, 1, 1, 0),
  (0, 1, -1, 2, -2, 0),
  (0, 1, 1, 4, 4, 0),
  (0, 1, -1, 8, -8, 1),
)


def _times(matrix, tiles):
  """A matrix [P, Q] times tiles: [P, ...], of Q elements along first axes."""
  rest = tiles.shape[-2:]
  vectors = tiles.reshape(matrix.shape[1], -1)
  return (jnp.asarray(matrix, tiles.dtype) @ vectors).reshape(-1, *rest)


def _num_tiles(size: int) -> int:
  return -(-size // _TILE)


def _split_tiles(images, before, counts):
  """Pads, and returns 4x4 tiles: [4, 4, B, tiles, tiles, C].

  Args:
    images: [B, H, W, C].
    before: padding above and to the left.
    counts: of tiles, along height and width.
  """
  ends = [
    (first, _TILE * count - size - first)
    for first, count, size in zip(
      before, counts, images.shape[1:3], strict=True
    )
  ]
  padded = jnp.pad(images, ((0, 0), *ends, (0, 0)))
  batch, channels = images.shape[0], images.shape[3]
  return padded.reshape(
    batch, counts[0], _TILE, counts[1], _TILE, channels
  ).transpose(2, 4, 0, 1, 3, 5)


def _join_tiles(tiles):
  """The inverse of `_split_tiles` without padding."""
  _, _, batch, down, across, channels = tiles.shape
  return tiles.transpose(2, 3, 0, 4, 1, 5).reshape(
    batch, _TILE * down, _TILE * across, channels
  )


def _images_tiles(images, counts, geometry):
  """Returns I d I^T of 6x6 tiles: [36, B * tiles * tiles, C]."""
  (above, _), (left, _) = geometry.padding
  down, across = counts
  # A tile, and the first two rows and columns of the next.
  tiles = _split_tiles(images, (above, left), (down + 1, across + 1))
  tiles = jnp.concatenate([tiles[:, :, :, :-1], tiles[:2, :, :, 1:]], axis=0)
  tiles = jnp.concatenate(
    [tiles[:, :, :, :, :-1], tiles[:, :2, :, :, 1:]], axis=1
  )
  return _times(_IMAGES, tiles.reshape(36, -1, images.shape[-1]))


def karatsuba(images, kernel, geometry: Geometry):
  """For a 3x3 kernel on a 2x2 map padded by 1: 9 products, `shifts` has 16.

  Along an axis it is a Toeplitz matrix, ((g1, g2), (g0, g1)), times a vector,
  which takes 3 products, as Karatsuba's product of two numbers of two digits.
  """
  del geometry
  products = jnp.einsum(
    'kbc,kcd->kbd',
    _times(_SUMS, _flatten_map(images)),
    _times(_DIFFERENCES, kernel),
  )
  return _unflatten_map(_times(_TOTALS, products))


_SUMS = _of_both_axes((1, 1), (0, 1), (1, 0))
_DIFFERENCES = _of_both_axes((0, 1, 0), (0, -1, 1), (1, -1, 0))
_TOTALS = _of_both_axes((1, 1, 0), (1, 0, 1))


def _flatten_map(images):
  """[B, 2, 2, C] -> [4, B, C]."""
  batch, channels = images.shape[0], images.shape[3]
  return images.transpose(1, 2, 0, 3).reshape(4, batch, channels)


def _unflatten_map(vectors):
  return vectors.reshape(2, 2, *vectors.shape[1:]).transpose(2, 0, 1, 3)


FORMS = {
  'native': native,
  'shifts': shifts,
  'winograd': winograd,
  'karatsuba': karatsuba,
}


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


def _winograd_images(images, kernel, cotangent, geometry: Geometry):
  """The transpose of `winograd`, with the kernel as transformed there."""
  height, width = images.shape[1:3]
  (above, _), (left, _) = geometry.padding
  counts = [_num_tiles(size) for size in cotangent.shape[1:3]]
  products = jnp.einsum(
    'ktd,kcd->ktc', _cotangent_tiles(cotangent), _times(_KERNEL, kernel)
  )
  tiles = _times(_IMAGES.T, products).reshape(
    6, 6, images.shape[0], *counts, -1
  )
  tiles = _overlap_tiles(_overlap_tiles(tiles, 0), 1)
  return _join_tiles(tiles)[:, above : above + height, left : left + width]


def _cotangent_tiles(cotangent):
  """Returns O^T c O: [36, B * tiles * tiles, D]."""
  counts = [_num_tiles(size) for size in cotangent.shape[1:3]]
  tiles = _split_tiles(cotangent, (0, 0), counts)
  return _times(_OUTPUT.T, tiles.reshape(16, -1, cotangent.shape[-1]))


def _overlap_tiles(tiles, axis):
  """Adds up tiles of 6 that are 4 apart: to tiles of 4, of them one more."""

  def place(part, missing, before):
    borders = [(0, 0)] * part.ndim
    borders[axis] = (0, missing)
    borders[axis + 3] = (before, 1 - before)
    return jnp.pad(part, borders)

  first = lax.slice_in_dim(tiles, 0, _TILE, axis=axis)
  rest = lax.slice_in_dim(tiles, _TILE, None, axis=axis)
  return place(first, 0, 0) + place(rest, 2, 1)


def _karatsuba_images(images, kernel, cotangent, geometry: Geometry):
  del images, geometry
  products = jnp.einsum(
    'kbd,kcd->kbc',
    _times(_TOTALS.T, _flatten_map(cotangent)),
    _times(_DIFFERENCES, kernel),
  )
  return _unflatten_map(_times(_SUMS.T, products))


IMAGES_GRADIENTS = {
  'native': _native_images,
  'shifts': _shifts_images,
  'winograd': _winograd_images,
  'karatsuba': _karatsuba_images,
}


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


def _patches_kernel(images, kernel, cotangent, geometry: Geometry):
  """One matrix product of (h w C) x D, of patches: for few channels."""
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
  return _pair(patches, cotangent).reshape(kernel.shape)


def _winograd_kernel(images, kernel, cotangent, geometry: Geometry):
  """The transpose of `winograd`, with the images as transformed there."""
  counts = [_num_tiles(size) for size in cotangent.shape[1:3]]
  products = jnp.einsum(
    'ktc,ktd->kcd',
    _images_tiles(images, counts, geometry),
    _cotangent_tiles(cotangent),
  )
  return _times(_KERNEL.T, products).reshape(kernel.shape)


def _karatsuba_kernel(images, kernel, cotangent, geometry: Geometry):
  del geometry
  products = jnp.einsum(
    'kbc,kbd->kcd',
    _times(_SUMS, _flatten_map(images)),
    _times(_TOTALS.T, _flatten_map(cotangent)),
  )
  return _times(_DIFFERENCES.T, products).reshape(kernel.shape)


KERNEL_GRADIENTS = {
  'native': _native_kernel,
  'shifts': _shifts_kernel,
  'bands': _bands_kernel,
  'patches': _patches_kernel,
  'winograd': _winograd_kernel,
  'karatsuba': _karatsuba_kernel,
}


# --- The choice. ---


class Forms(NamedTuple):
  """Names of the forms for a convolution and its two gradients."""

  forward: str
  images: str
  kernel: str


# Of the products in 'winograd' and 'karatsuba': with fewer rows, transforming
# the kernel costs more than is saved.
_LEAST_ROWS = 64


def applies(form: str, images, kernel, geometry: Geometry) -> bool:
  """Whether a form computes the convolution of such images with a kernel."""
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


def cpu_forms(images, kernel, geometry: Geometry) -> Forms:
  """Returns the forms that are fastest on a CPU.

  Measured by benchmarks/convolutions.py for the networks of the paper's Table
  2 and batches of 100; the results are in results/bench-avx2-convolutions.json.

  Args:
    images, kernel: arrays, or their shapes and types.
    geometry: of the convolution.
  """
  height, width = geometry.output_size(images, kernel)
  if min(height, width) < 1:  # There is nothing to compute.
    return Forms('native', 'native', 'native')
  if kernel.shape[2] < 16:  # The stem: products with so short a side are slow.
    is_narrow = np.prod(kernel.shape[:3]) <= kernel.shape[3]
    # Patches take no more memory then than the gradient of the output.
    return Forms('native', 'native', 'patches' if is_narrow else 'native')
  if _is_whole(images):  # They are of networks in use, and have no gradient.
    is_small = height * width <= 4 or kernel.shape[:2] == (1, 1)
    return Forms('shifts' if is_small else 'native', 'native', 'native')
  if images.dtype == jnp.float32:  # Their sums are not for bfloat16.
    is_large = images.shape[0] >= _least_batch((height, width))
    form = 'winograd' if min(height, width) > 2 else 'karatsuba'
    if is_large and applies(form, images, kernel, geometry):
      return Forms(form, form, form)
  if height * width <= 16 or kernel.shape[:2] == (1, 1):
    return Forms('shifts', 'shifts', 'shifts')
  if geometry.strides != (1, 1):
    return Forms('native', 'shifts', 'shifts')
  if applies('bands', images, kernel, geometry):
    return Forms('native', 'native', 'bands')
  return Forms('native', 'native', 'native')


def _least_batch(output_size: tuple[int, int]) -> int:
  """Returns the images from which on a batch's tiles are worth it."""
  height, width = map(_num_tiles, output_size)
  return -(-_LEAST_ROWS // max(height * width, 1))


def _fastest(images, kernel, geometry: Geometry):
  """A convolution on a CPU.

  Where a program is exported for any batch, whose size is then a symbol, it
  holds the form for small batches and that for large ones.
  """

  def forms_of(batch):
    shape = (batch, *images.shape[1:])
    like = jax.ShapeDtypeStruct(shape, images.dtype)
    return cpu_forms(like, kernel, geometry)

  def with_forms(forms):
    return lambda images, kernel: _convolve(images, kernel, geometry, forms)

  batch = images.shape[0]
  if isinstance(batch, int):
    return with_forms(forms_of(batch))(images, kernel)
  least = _least_batch(geometry.output_size(images, kernel))
  small, large = forms_of(1), forms_of(least)
  if small == large:
    return with_forms(large)(images, kernel)
  return lax.cond(
    jnp.asarray(batch) >= least,
    with_forms(large),
    with_forms(small),
    images,
    kernel,
  )


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
    [B, H', W', D], equal to XLA's up to rounding; of whole numbers, whose sums
    are asked for as int32, to the bit.
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
    and preferred_element_type == (jnp.int32 if _is_whole(lhs) else None)
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
  return lax.platform_dependent(
    lhs,
    rhs,
    cpu=functools.partial(_fastest, geometry=geometry),
    default=fallback,
  )
