"""Convolutions with fewer products: Winograd's and Karatsuba's algorithms.

Both algorithms multiply sums of pixels by sums of kernel elements, and sum the
products. Shapes and names are as in forms.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kd_jax.models.convolution.forms import Geometry


def _for_both_axes(*rows) -> np.ndarray:
  """Returns the matrix that applies `rows` to both axes of a flattened tile."""
  return np.kron(rows, rows)


def _transform(matrix: np.ndarray, tiles: jax.Array) -> jax.Array:
  """Multiplies a matrix [P, Q] by tiles [..., M, N] -> [P, M, N].

  The Q elements of a tile lie along the axes before the last two.
  """
  last_two = tiles.shape[-2:]
  vectors = tiles.reshape(matrix.shape[1], -1)
  product = jnp.asarray(matrix, tiles.dtype) @ vectors
  return product.reshape(-1, *last_two)


# --- Winograd's F(4x4, 3x3). ---
#
# For a 6x6 tile d of the images and a kernel g, the 4x4 tile of the output is
# O [(K g K^T) * (I d I^T)] O^T: a convolution is a product of polynomials,
# computed from the polynomials' values at 0, 1, -1, 2, -2 and infinity. The
# matrices below apply K, I or O to both axes of a tile that is flattened to a
# vector.

_TILE = 4
_IMAGES = _for_both_axes(
  (4, 0, -5, 0, 1, 0),
  (0, -4, -4, 1, 1, 0),
  (0, 4, -4, -1, 1, 0),
  (0, -2, -1, 2, 1, 0),
  (0, 2, -1, -2, 1, 0),
  (0, 4, 0, -5, 0, 1),
)
_KERNEL = _for_both_axes(
  (1 / 4, 0, 0),
  (-1 / 6, -1 / 6, -1 / 6),
  (-1 / 6, 1 / 6, -1 / 6),
  (1 / 24, 1 / 12, 1 / 6),
  (1 / 24, -1 / 12, 1 / 6),
  (0, 0, 1),
)
_OUTPUT = _for_both_axes(
  (1, 1, 1, 1, 1, 0),
  (0, 1, -1, 2, -2, 0),
  (0, 1, 1, 4, 4, 0),
  (0, 1, -1, 8, -8, 1),
)


def num_tiles(size: int) -> int:
  """Returns the number of 4-pixel tiles that cover `size` pixels."""
  return -(-size // _TILE)


def winograd(images, kernel, geometry: Geometry) -> jax.Array:
  """Computes a 3x3 convolution at stride 1 by Winograd's F(4x4, 3x3).

  Each 4x4 tile of the output takes 36 products for each pair of channels,
  where the other forms take 144. Rounding errors are about ten times larger
  than in the other forms: about 1e-6 of the largest output.

  Reference: Lavin and Gray 2015, arXiv:1509.09308.
  """
  height, width = geometry.output_size(images, kernel)
  counts = num_tiles(height), num_tiles(width)
  products = jnp.einsum(
    'ktc,kcd->ktd',
    _transform_images(images, counts, geometry),
    _transform(_KERNEL, kernel),
  )
  tiles = _transform(_OUTPUT, products)
  output = _join_tiles(
    tiles.reshape(_TILE, _TILE, images.shape[0], *counts, -1)
  )
  return output[:, :height, :width]


def winograd_images_gradient(images, kernel, cotangent, geometry: Geometry):
  """Returns the gradient with respect to the images.

  Transposes `winograd`, and so transforms the kernel as `winograd` does.
  """
  height, width = images.shape[1:3]
  (above, _), (left, _) = geometry.padding
  counts = [num_tiles(size) for size in cotangent.shape[1:3]]
  products = jnp.einsum(
    'ktd,kcd->ktc',
    _transform_cotangent(cotangent),
    _transform(_KERNEL, kernel),
  )
  tiles = _transform(_IMAGES.T, products).reshape(
    6, 6, images.shape[0], *counts, -1
  )
  tiles = _add_overlapping_tiles(_add_overlapping_tiles(tiles, 0), 1)
  return _join_tiles(tiles)[:, above : above + height, left : left + width]


def winograd_kernel_gradient(images, kernel, cotangent, geometry: Geometry):
  """Returns the gradient with respect to the kernel.

  Transposes `winograd`, and so transforms the images as `winograd` does.
  """
  counts = [num_tiles(size) for size in cotangent.shape[1:3]]
  products = jnp.einsum(
    'ktc,ktd->kcd',
    _transform_images(images, counts, geometry),
    _transform_cotangent(cotangent),
  )
  return _transform(_KERNEL.T, products).reshape(kernel.shape)


def _transform_images(images, counts, geometry: Geometry):
  """Returns I d I^T of the 6x6 tiles d: [36, B * tiles * tiles, C]."""
  (above, _), (left, _) = geometry.padding
  down, across = counts
  # A 6x6 tile is a 4x4 tile and the first two rows and columns of the next.
  tiles = _split_tiles(images, (above, left), (down + 1, across + 1))
  tiles = jnp.concatenate([tiles[:, :, :, :-1], tiles[:2, :, :, 1:]], axis=0)
  tiles = jnp.concatenate(
    [tiles[:, :, :, :, :-1], tiles[:, :2, :, :, 1:]], axis=1
  )
  return _transform(_IMAGES, tiles.reshape(36, -1, images.shape[-1]))


def _transform_cotangent(cotangent):
  """Returns O^T c O of the 4x4 tiles c: [36, B * tiles * tiles, D]."""
  counts = [num_tiles(size) for size in cotangent.shape[1:3]]
  tiles = _split_tiles(cotangent, (0, 0), counts)
  return _transform(_OUTPUT.T, tiles.reshape(16, -1, cotangent.shape[-1]))


def _split_tiles(images, before, counts):
  """Pads images and splits them into 4x4 tiles.

  Args:
    images: [B, H, W, C].
    before: padding above and to the left, in pixels.
    counts: number of tiles along the height and along the width.
  Returns:
    [4, 4, B, tiles, tiles, C].
  """
  padding = [
    (first, _TILE * count - size - first)
    for first, count, size in zip(
      before, counts, images.shape[1:3], strict=True
    )
  ]
  padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
  batch, channels = images.shape[0], images.shape[3]
  return padded.reshape(
    batch, counts[0], _TILE, counts[1], _TILE, channels
  ).transpose(2, 4, 0, 1, 3, 5)


def _join_tiles(tiles):
  """Inverts `_split_tiles` without padding: -> [B, 4 tiles, 4 tiles, C]."""
  _, _, batch, down, across, channels = tiles.shape
  return tiles.transpose(2, 3, 0, 4, 1, 5).reshape(
    batch, _TILE * down, _TILE * across, channels
  )


def _add_overlapping_tiles(tiles, axis: int):
  """Adds up tiles of 6 pixels that start 4 pixels apart, along an axis.

  Args:
    tiles: [6 or 4, 6 or 4, B, tiles, tiles, C], with 6 pixels along `axis`.
    axis: 0 or 1.
  Returns:
    Tiles of 4 pixels along `axis`. The number of tiles grows by one.
  """

  def place(part, missing, before):
    padding = [(0, 0)] * part.ndim
    padding[axis] = (0, missing)
    padding[axis + 3] = (before, 1 - before)
    return jnp.pad(part, padding)

  first = lax.slice_in_dim(tiles, 0, _TILE, axis=axis)
  rest = lax.slice_in_dim(tiles, _TILE, None, axis=axis)
  return place(first, 0, 0) + place(rest, 2, 1)


# --- Karatsuba's algorithm. ---

_SUMS = _for_both_axes((1, 1), (0, 1), (1, 0))
_DIFFERENCES = _for_both_axes((0, 1, 0), (0, -1, 1), (1, -1, 0))
_TOTALS = _for_both_axes((1, 1, 0), (1, 0, 1))


def karatsuba(images, kernel, geometry: Geometry) -> jax.Array:
  """Computes a 3x3 convolution of a 2x2 map padded by 1, with 9 products.

  `shifts` takes 16 products. Along one axis, the convolution is the Toeplitz
  matrix ((g1, g2), (g0, g1)) times a vector. The product of this matrix and a
  vector takes 3 products, as Karatsuba's product of two two-digit numbers does.
  """
  del geometry
  products = jnp.einsum(
    'kbc,kcd->kbd',
    _transform(_SUMS, _flatten_map(images)),
    _transform(_DIFFERENCES, kernel),
  )
  return _unflatten_map(_transform(_TOTALS, products))


def karatsuba_images_gradient(images, kernel, cotangent, geometry: Geometry):
  """Returns the gradient with respect to the images.

  Transposes `karatsuba`.
  """
  del images, geometry
  products = jnp.einsum(
    'kbd,kcd->kbc',
    _transform(_TOTALS.T, _flatten_map(cotangent)),
    _transform(_DIFFERENCES, kernel),
  )
  return _unflatten_map(_transform(_SUMS.T, products))


def karatsuba_kernel_gradient(images, kernel, cotangent, geometry: Geometry):
  """Returns the gradient with respect to the kernel.

  Transposes `karatsuba`.
  """
  del geometry
  products = jnp.einsum(
    'kbc,kbd->kcd',
    _transform(_SUMS, _flatten_map(images)),
    _transform(_TOTALS.T, _flatten_map(cotangent)),
  )
  return _transform(_DIFFERENCES.T, products).reshape(kernel.shape)


def _flatten_map(images):
  """[B, 2, 2, C] -> [4, B, C]."""
  batch, channels = images.shape[0], images.shape[3]
  return images.transpose(1, 2, 0, 3).reshape(4, batch, channels)


def _unflatten_map(vectors):
  """[4, B, C] -> [B, 2, 2, C]."""
  return vectors.reshape(2, 2, *vectors.shape[1:]).transpose(2, 0, 1, 3)
