"""Scalings of pixels to a network's inputs; pure functions on arrays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Mean and standard deviation of the training pixels, by channel.
_CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
_CIFAR10_STD = (0.2471, 0.2435, 0.2616)


def unit(images: jax.Array) -> jax.Array:
  """Scales pixels to [0, 1]: x / 255. uint8 [B, H, W, C] -> float32."""
  return images.astype(jnp.float32) / 255


def symmetric(images: jax.Array) -> jax.Array:
  """Scales pixels to [-1, 1]: (x / 255 - 0.5) / 0.5.

  Args:
    images: uint8 [B, H, W, C].
  Returns:
    float32 [B, H, W, C].
  """
  return (unit(images) - 0.5) / 0.5


def cifar10(images: jax.Array) -> jax.Array:
  """Scales CIFAR-10 pixels to mean 0 and standard deviation 1 by channel.

  Args:
    images: uint8 [B, H, W, 3], RGB.
  Returns:
    float32 [B, H, W, 3].
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


def unfused(scaling: str) -> Callable[[jax.Array], jax.Array]:
  """Returns a scaling that XLA on a CPU does not fuse with the next operation.

  From 500 images on, XLA (jax 0.10 to 0.12) fuses the scaling with the first
  matrix product of an MLP, which then takes twice as long. An optimization
  barrier does not prevent the fusion with jax 0.10. On a CPU, the scaling
  therefore looks up each pixel in a table of the 256 pixel values. The results
  equal those of the scaling compiled alone.

  Args:
    scaling: a name in SCALINGS.
  Returns:
    A function uint8 [B, H, W, C] -> float32 [B, H, W, C].
  """
  scale = SCALINGS[scaling]

  def look_up(images):
    channels = images.shape[-1]
    levels = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
    # The table is computed during tracing by a separately compiled function,
    # so that its values are rounded like those of the scaling.
    with jax.ensure_compile_time_eval():
      scaled = jax.jit(scale)(jnp.broadcast_to(levels, (256, 1, 1, channels)))
    table = scaled.reshape(-1)  # Index: level * channels + channel.
    channel = jnp.arange(channels, dtype=jnp.int32).reshape(1, 1, 1, -1)
    index = images.astype(jnp.int32) * channels + channel
    return table.at[index].get(
      mode='promise_in_bounds', wrap_negative_indices=False
    )

  return lambda images: lax.platform_dependent(
    images, cpu=look_up, default=scale
  )


def affine(
  scaling: str, image_shape: tuple[int, ...]
) -> Callable[[jax.Array], jax.Array]:
  """Returns a scaling as a factor and an offset on flattened images.

  ONNX runtimes are fast on flattened images. An operation along a last axis of
  one or three channels is slow, as they compute it element by element. If all
  channels share the factor and the offset, both are scalars. Otherwise, both
  have an entry for each pixel and channel.

  Args:
    scaling: a name in SCALINGS.
    image_shape: (H, W, C).
  Returns:
    A function uint8 [B, H, W, C] -> float32 [B, H, W, C], equal to the scaling
    up to rounding.
  Raises:
    ValueError: if the scaling is not affine in the pixels.
  """
  levels = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
  # For a NumPy array, the scalings compute in NumPy.
  pixels: Any = np.broadcast_to(levels, (256, 1, 1, image_shape[-1]))
  scaled = np.asarray(SCALINGS[scaling](pixels), np.float64)
  offset = scaled[0]
  factor = (scaled[-1] - offset) / 255
  if np.abs(factor * levels + offset - scaled).max() > 1e-5:
    raise ValueError(
      f'scaling {scaling!r} is not affine: expected factor * pixel + offset'
    )
  flatten: Callable[[np.ndarray], np.float32 | np.ndarray]
  if np.ptp(factor) == np.ptp(offset) == 0:
    flatten = lambda by_channel: np.float32(by_channel.flat[0])
  else:
    flatten = lambda by_channel: np.float32(
      np.broadcast_to(by_channel, image_shape)
    ).ravel()
  factor, offset = flatten(factor), flatten(offset)

  def scale(images: jax.Array) -> jax.Array:
    rows = images.reshape(images.shape[0], -1).astype(jnp.float32) * factor
    if np.any(offset):
      rows = rows + offset
    return rows.reshape(images.shape[0], *image_shape)

  return scale


def image_range(scaling: str, num_channels: int) -> tuple[jax.Array, jax.Array]:
  """Returns the lowest and highest values of scaled images, [1, 1, 1, C]."""
  scale = SCALINGS[scaling]
  pixel = (1, 1, 1, num_channels)
  low, high = (scale(jnp.full(pixel, value, jnp.uint8)) for value in (0, 255))
  return low, high
