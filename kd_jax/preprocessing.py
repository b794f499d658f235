"""From stored pixels to what a network takes; pure functions on arrays."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def unit(images: jax.Array) -> jax.Array:
  """Pixels to [0, 1]: x / 255. uint8 [B, H, W, C] -> float32."""
  return images.astype(jnp.float32) / 255


def symmetric(images: jax.Array) -> jax.Array:
  """Pixels to [-1, 1]: (x / 255 - 0.5) / 0.5. uint8 [B, H, W, C] -> float32."""
  return (unit(images) - 0.5) / 0.5


SCALINGS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'unit': unit,
  'symmetric': symmetric,
}
