"""Augmentation on the device: random crops, flips and mixup.

An image has finitely many views, which are numbered. The seed, the epoch and
the example alone determine which view is used. A teacher's outputs for the
views can therefore be stored, like its outputs for the images.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


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


def _random_crops(pad: int, *, flips: bool) -> Augmentation:
  """Returns random crops of a zero-padded image, with or without flips.

  The image is padded by `pad` black pixels on each side and cropped to its
  former size. With flips, every second view is mirrored left to right. The
  number of a view is (row * corners + column) * 2 + flip with flips, and
  row * corners + column without. The middle view, unflipped, is the image.
  """
  corners = 2 * pad + 1  # Crop positions along one axis.
  views_per_crop = 2 if flips else 1

  @jax.vmap
  def choose(key: jax.Array) -> jax.Array:
    crop_key, flip_key = jax.random.split(key)
    row, column = jax.random.randint(crop_key, (2,), 0, corners)
    view = (row * corners + column) * views_per_crop
    return view + jax.random.bernoulli(flip_key) if flips else view

  @jax.vmap
  def apply(image: jax.Array, view: jax.Array) -> jax.Array:
    corner, flip = view // views_per_crop, view % views_per_crop
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    crop = jax.lax.dynamic_slice(
      padded, (corner // corners, corner % corners, 0), image.shape
    )
    return jnp.where(flip == 1, crop[:, ::-1], crop)

  return Augmentation(views_per_crop * corners**2, choose, apply)


AUGMENTATIONS: dict[str, Augmentation | None] = {
  'none': None,
  'crop_and_flip': _random_crops(4, flips=True),
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
