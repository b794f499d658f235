"""Augmentation on the device: views of an image, and mixtures of two.

A view is one of finitely many. Which one is a function of seed, epoch and
example alone, so that a teacher's outputs for the views can be stored, as those
for the images can.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

PAD_PX = 4


class Augmentation(NamedTuple):
  """The views of an image, numbered.

  Attributes:
    num_views: V.
    choose: keys [B] -> views int32 [B], 0 .. V-1, each as likely.
    apply: (images [B, H, W, C] as stored, views [B]) -> [B, H, W, C] of the
      same type.
  """

  num_views: int
  choose: Callable[[jax.Array], jax.Array]
  apply: Callable[[jax.Array, jax.Array], jax.Array]


_CORNERS = 2 * PAD_PX + 1  # Of a crop, along an axis.


@jax.vmap
def _choose_crop_and_flip(key: jax.Array) -> jax.Array:
  crop_key, flip_key = jax.random.split(key)
  row, col = jax.random.randint(crop_key, (2,), 0, _CORNERS)
  flip = jax.random.bernoulli(flip_key).astype(jnp.int32)
  return (row * _CORNERS + col) * 2 + flip


@jax.vmap
def _crop_and_flip(image: jax.Array, view: jax.Array) -> jax.Array:
  corner, flip = view // 2, view % 2
  border = (PAD_PX, PAD_PX)
  padded = jnp.pad(image, (border, border, (0, 0)))
  crop = jax.lax.dynamic_slice(
    padded, (corner // _CORNERS, corner % _CORNERS, 0), image.shape
  )
  return jnp.where(flip == 1, crop[:, ::-1], crop)


AUGMENTATIONS: dict[str, Augmentation | None] = {
  'none': None,
  # Zero-pads (black) by 4 pixels, crops to size, flips half the crops: view
  # (row * 9 + column) * 2 + flip. View 80 is the image itself.
  'crop_and_flip': Augmentation(
    2 * _CORNERS**2, _choose_crop_and_flip, _crop_and_flip
  ),
}


def mixup(
  images: jax.Array, key: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Mixes each image of a batch with the one before it.

  x_i <- share x_i + (1 - share) x_(i-1),  share ~ Beta(alpha, alpha)

  Args:
    images: [B, H, W, C]; in random order, so that partners are random.
    key: one.
    alpha: above 0.
  Returns:
    float32 [B, H, W, C], and the share, a scalar.
  Reference: Zhang et al. 2018, arXiv:1710.09412.
  """
  share = jax.random.beta(key, alpha, alpha)
  images = images.astype(jnp.float32)
  return share * images + (1 - share) * partners(images), share


def partners(array: jax.Array) -> jax.Array:
  """What `mixup` mixes each example of a batch with."""
  return jnp.roll(array, 1, axis=0)
