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


# Mean and standard deviation of the training pixels, by channel.
_CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
_CIFAR10_STD = (0.2471, 0.2435, 0.2616)


def cifar10(images: jax.Array) -> jax.Array:
  """Pixels to mean 0 and deviation 1 on CIFAR-10, by channel (RGB).

  uint8 [B, H, W, 3] -> float32.
  """
  mean, std = (
    jnp.asarray(values, jnp.float32).reshape(1, 1, 1, 3)
    for values in (_CIFAR10_MEAN, _CIFAR10_STD)
  )
  return (unit(images) - mean) / std


SCALINGS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'unit': unit,
  'symmetric': symmetric,
  'cifar10': cifar10,
}
