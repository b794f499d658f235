"""Augmentation on the device: crops, flips, cutout and mixup.

An image has finitely many views, which are numbered. The seed, the epoch and
the example alone determine which view is used. A teacher's outputs for the
views can therefore be stored, like its outputs for the images.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Views of an image beyond this number are not stored: two epochs would seldom
# show the same view.
MOST_STORED_VIEWS = 1000


class Augmentation(NamedTuple):
  """The numbered views of an image.

  Attributes:
    num_views: V, the number of views of an image.
    choose: keys [B] -> views int32 [B], uniform in 0 .. V-1.
    apply: (images [B, H, W, C] as stored, views [B]) -> [B, H, W, C] of the
      same dtype.
  """

  num_views: int
  choose: Callable[[jax.Array], jax.Array]
  apply: Callable[[jax.Array, jax.Array], jax.Array]

  @property
  def has_stored_views(self) -> bool:
    """Whether a teacher's outputs for the views are stored."""
    return self.num_views <= MOST_STORED_VIEWS


def _random_crops(pad: int, *, flips: bool) -> Augmentation:
  """Returns random crops of a zero-padded image, with or without flips.

  The image is padded by `pad` black pixels on each side and cropped to its
  former size. With P = 2 * pad + 1 offsets along each axis, the number of a
  crop is row * P + column, for the row and column of its first pixel. The
  number of a view is that of its crop; with flips, crop * 2 + flip, and every
  second view is mirrored left to right. The middle view, unflipped, is the
  image.
  """
  offsets = 2 * pad + 1
  views_per_crop = 2 if flips else 1

  @jax.vmap
  def choose(key: jax.Array) -> jax.Array:
    crop_key, flip_key = jax.random.split(key)
    row, column = jax.random.randint(crop_key, (2,), 0, offsets)
    view = (row * offsets + column) * views_per_crop
    return view + jax.random.bernoulli(flip_key) if flips else view

  @jax.vmap
  def apply(image: jax.Array, view: jax.Array) -> jax.Array:
    crop = view // views_per_crop
    flip = view % views_per_crop
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    cropped = jax.lax.dynamic_slice(
      padded, (crop // offsets, crop % offsets, 0), image.shape
    )
    return jnp.where(flip == 1, cropped[:, ::-1], cropped)

  return Augmentation(views_per_crop * offsets**2, choose, apply)


# Places of the centre of `cutout`, along each axis.
_PLACES = 32
# The side of the square that `cutout` hides, as a share of the image's side.
_HIDDEN_SIDE = 0.25
# The value of hidden pixels: the middle of uint8.
_GRAY = 128


def _with_cutout(inner: Augmentation) -> Augmentation:
  """Returns an augmentation followed by cutout: a square turns gray.

  The centre of the square is one of 32 x 32 places. The square may lie partly
  outside the image. The number of a view is place * V + the inner view, where V
  is the number of the inner views.

  Args:
    inner: the augmentation that comes first.
  Reference: DeVries and Taylor 2017, arXiv:1708.04552.
  """

  @jax.vmap
  def choose_place(key: jax.Array) -> jax.Array:
    # The inner augmentation splits the key into two; this is a third key.
    return jax.random.randint(jax.random.fold_in(key, 2), (), 0, _PLACES**2)

  def choose(keys: jax.Array) -> jax.Array:
    return choose_place(keys) * inner.num_views + inner.choose(keys)

  def apply(images: jax.Array, views: jax.Array) -> jax.Array:
    place = views // inner.num_views
    rows, columns = (
      _is_hidden(images.shape[axis], index)
      for axis, index in ((1, place // _PLACES), (2, place % _PLACES))
    )
    hidden = rows[:, :, None, None] & columns[:, None, :, None]
    images = inner.apply(images, views % inner.num_views)
    return jnp.where(hidden, jnp.asarray(_GRAY, images.dtype), images)

  return Augmentation(inner.num_views * _PLACES**2, choose, apply)


def _is_hidden(size: int, place: jax.Array) -> jax.Array:
  """Returns which pixels of an axis cutout hides.

  Args:
    size: S, the image's pixels along the axis.
    place: int32 [B], the place of the centre along the axis.
  Returns:
    bool [B, S].
  """
  centre = place[:, None] * (size / _PLACES)
  distance = jnp.abs(jnp.arange(size)[None] + 0.5 - centre)
  return distance < _HIDDEN_SIDE * size / 2


# Of `resized_crop_and_flip`: shares of the image's area, relations of width to
# height, and places along each axis. These 750 views are few enough to store.
_AREAS = (0.3, 0.475, 0.65, 0.825, 1.0)
_ASPECTS = (3 / 4, 1.0, 4 / 3)
_CROP_PLACES = 5


def _resized_crops() -> Augmentation:
  """Returns crops of many sizes and shapes, resized to the image's size.

  The number of a view is (((area * A + aspect) * P + row) * P + column) * 2 +
  flip, for the indices of the crop's area among all areas, its aspect among A,
  and its place among P rows and P columns. Pixels are interpolated linearly.

  Reference: Szegedy et al. 2015, arXiv:1409.4842, section 6, where areas are
    uniform in 0.08 .. 1.
  """
  num_crops = len(_AREAS) * len(_ASPECTS) * _CROP_PLACES**2

  @jax.vmap
  def choose(key: jax.Array) -> jax.Array:
    return jax.random.randint(key, (), 0, 2 * num_crops)

  @jax.vmap
  def apply(image: jax.Array, view: jax.Array) -> jax.Array:
    crop, flip = view // 2, view % 2
    shape, place = crop // _CROP_PLACES**2, crop % _CROP_PLACES**2
    area = jnp.asarray(_AREAS)[shape // len(_ASPECTS)]
    aspect = jnp.asarray(_ASPECTS)[shape % len(_ASPECTS)]
    # The crop's height and width, and its first row and column, as shares.
    sides = jnp.minimum(jnp.sqrt(jnp.stack([area / aspect, area * aspect])), 1)
    where = jnp.stack([place // _CROP_PLACES, place % _CROP_PLACES])
    starts = where / (_CROP_PLACES - 1) * (1 - sides)
    scale = 1 / sides
    resized = jax.image.scale_and_translate(
      image.astype(jnp.float32),
      image.shape,
      (0, 1),
      scale,
      -starts * jnp.asarray(image.shape[:2]) * scale,
      method='linear',
    )
    resized = jnp.round(resized).astype(image.dtype)
    return jnp.where(flip == 1, resized[:, ::-1], resized)

  return Augmentation(2 * num_crops, choose, apply)


AUGMENTATIONS: dict[str, Augmentation | None] = {
  'none': None,
  'crop_and_flip': _random_crops(4, flips=True),
  'crop_flip_cutout': _with_cutout(_random_crops(4, flips=True)),
  'resized_crop_and_flip': _resized_crops(),
  # Hinton et al. 2015, arXiv:1503.02531, section 3, shift MNIST images by up to
  # two pixels.
  'jitter': _random_crops(2, flips=False),
}


def mixup(
  images: jax.Array, key: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Mixes each image of a batch with the image before it.

  x_i <- share x_i + (1 - share) x_(i-1),  share ~ Beta(alpha, alpha)

  Args:
    images: [B, H, W, C]; in random order, so that the mixed pairs are random.
    key: PRNG key.
    alpha: parameter of the Beta distribution, above 0.
  Returns:
    The mixed images, float32 [B, H, W, C], and the share, a scalar.
  Reference: Zhang et al. 2018, arXiv:1710.09412.
  """
  share = jax.random.beta(key, alpha, alpha)
  images = images.astype(jnp.float32)
  return share * images + (1 - share) * partners(images), share


def partners(array: jax.Array | np.ndarray) -> jax.Array:
  """Returns the example that `mixup` mixes with each example of a batch.

  Args:
    array: [B, ...].
  Returns:
    [B, ...]; entry i is `array[i - 1]`.
  """
  return jnp.roll(array, 1, axis=0)
