"""Augmentation: pure functions of an image and a key, on the device."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

PAD_PX = 4


def crop_and_flip(images: jax.Array, keys: jax.Array) -> jax.Array:
  """Zero-pads by 4 pixels, crops at random to size, flips half the images.

  With the key a function of seed, epoch and example, so is the image: one of
  9 x 9 x 2 = 162 views.

  Args:
    images: [B, H, W, C] as stored; the padding is black.
    keys: [B].
  Returns:
    [B, H, W, C] of the same type.
  """
  shape = images.shape[1:]

  def one(image, key):
    crop_key, flip_key = jax.random.split(key)
    corner = jax.random.randint(crop_key, (2,), 0, 2 * PAD_PX + 1)
    padded = jnp.pad(image, ((PAD_PX, PAD_PX), (PAD_PX, PAD_PX), (0, 0)))
    crop = jax.lax.dynamic_slice(padded, (*corner, 0), shape)
    return jnp.where(jax.random.bernoulli(flip_key), crop[:, ::-1], crop)

  return jax.vmap(one)(images, keys)


AUGMENTATIONS: dict[str, Callable[[jax.Array, jax.Array], jax.Array] | None] = {
  'none': None,
  'crop_and_flip': crop_and_flip,
}
