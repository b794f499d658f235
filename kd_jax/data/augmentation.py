"""Augmentation on the device: views of an image, and mixtures of two.

A view is one of finitely many. Which one is a function of seed, epoch and
example alone, so that a teacher's outputs for the views can be stored, as those
for the images can.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


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


def _crops(pad: int, *, flips: bool) -> Augmentation:
  """Zero-pads (black) by so many pixels and crops to size; flips half of them.

  View ((row * corners) + column) * 2 + flip, without the last where there are
  no flips: the middle one, unflipped, is the image itself.
  """
  corners = 2 * pad + 1  # Along an axis.
  kinds = 2 if flips else 1

  @jax.vmap
  def choose(key: jax.Array) -> jax.Array:
    crop_key, flip_key = jax.random.split(key)
    row, col = jax.random.randint(crop_key, (2,), 0, corners)
    view = (row * corners + col) * kinds
    return view + jax.random.bernoulli(flip_key) if flips else view

  @jax.vmap
  def apply(image: jax.Array, view: jax.Array) -> jax.Array:
    corner, flip = view // kinds, view % kinds
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    crop = jax.lax.dynamic_slice(
      padded, (corner // corners, corner % corners, 0), image.shape
    )
    return jnp.where(flip == 1, crop[:, ::-1], crop)

  return Augmentation(kinds * corners**2, choose, apply)


AUGMENTATIONS: dict[str, Augmentation | None] = {
  'none': None,
  'crop_and_flip': _crops(4, flips=True),
  # Hinton's of MNIST, arXiv:1503.02531, section 3: up to two pixels.
  'jitter': _crops(2, flips=False),
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
