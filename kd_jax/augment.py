"""Augmentation: of each image, one of finitely many views, on the device.

Which view is a function of seed, epoch and example alone. A teacher's outputs
for the views can therefore be stored, as those for the images can.
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
