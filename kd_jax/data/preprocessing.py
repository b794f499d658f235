"""From stored pixels to what a network takes; pure functions on arrays."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


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


def apart(scaling: str) -> Callable[[jax.Array], jax.Array]:
  """Returns a scaling that XLA for CPUs does not take into what follows it.

  It (jax 0.10 to 0.12) otherwise has an MLP's first product, from 500
  images on, in one fusion with it, which takes twice as long; a barrier between
  them does not hold with jax 0.10. So a CPU looks each pixel up among the 256
  that there are. The values are those of the scaling compiled by itself.
  """
  scale = SCALINGS[scaling]

  def look_up(images):
    channels = images.shape[-1]
    levels = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
    # While tracing, by a program of its own: it rounds as the scaling does.
    with jax.ensure_compile_time_eval():
      scaled = jax.jit(scale)(jnp.broadcast_to(levels, (256, 1, 1, channels)))
    table = scaled.reshape(-1)  # By level, then by channel.
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
  """Returns a scaling as a factor and an offset of each image as one row.

  A number each where channels share them, else one for each pixel and channel.
  ONNX's runtimes do that fast: they take an operation along a last axis of one
  or three channels element by element. The values are the same to rounding.

  Args:
    scaling: a name in SCALINGS.
    image_shape: [H, W, C].
  Raises:
    ValueError: if the scaling is no factor and offset.
  """
  levels = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
  pixels = np.broadcast_to(levels, (256, 1, 1, image_shape[-1]))
  values = np.asarray(SCALINGS[scaling](pixels), np.float64)
  offset = values[0]
  factor = (values[-1] - offset) / 255
  if np.abs(factor * levels + offset - values).max() > 1e-5:
    raise ValueError(f'{scaling} is no factor and offset of pixels')
  if np.ptp(factor) == np.ptp(offset) == 0:
    of_row = lambda own: np.float32(own.flat[0])
  else:
    of_row = lambda own: np.float32(np.broadcast_to(own, image_shape)).ravel()
  factor, offset = of_row(factor), of_row(offset)

  def scale(images: jax.Array) -> jax.Array:
    rows = images.reshape(images.shape[0], -1).astype(jnp.float32) * factor
    if np.any(offset):
      rows = rows + offset
    return rows.reshape(images.shape[0], *image_shape)

  return scale
