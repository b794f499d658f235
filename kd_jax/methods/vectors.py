"""Vectors and maps, one for each example: what methods compare."""

import jax
import jax.numpy as jnp
import numpy as np

# Added under a square root, it keeps the gradient of a norm or a deviation
# finite at 0; it is far below what float32 resolves in what it is added to.
TINY = 1e-12


def flatten(features: jax.Array) -> jax.Array:
  """[B, ...] -> [B, D]."""
  return features.reshape(features.shape[0], -1)


def unit(vectors: jax.Array) -> jax.Array:
  """Divides [..., D] by its length; a vector of length 0 stays 0."""
  square = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
  return vectors * jax.lax.rsqrt(square + TINY)


def match_sizes(
  student: jax.Array, teacher: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Brings maps to one height and width: the larger is averaged over windows.

  Args:
    student: [B, H, W, C], or [B, C], which is left as it is.
    teacher: likewise.
  Raises:
    ValueError: at trace time, if one is a map and the other is not.
  """
  if student.ndim != teacher.ndim:
    raise ValueError(
      f'a map and a vector cannot be compared: {student.shape} of the student, '
      f'{teacher.shape} of the teacher'
    )
  for axis in range(1, student.ndim - 1):
    size = min(student.shape[axis], teacher.shape[axis])
    student = pool(student, axis, size)
    teacher = pool(teacher, axis, size)
  return student, teacher


def pool(array: jax.Array, axis: int, size: int) -> jax.Array:
  """Averages an axis over `size` windows.

  They are equal where the length is a multiple, and else the smallest from
  places i / size to (i + 1) / size, which overlap: adaptive average pooling.
  """
  length = array.shape[axis]
  if length == size:
    return array
  if length % size == 0:
    shape = (*array.shape[:axis], size, length // size)
    return jnp.mean(
      array.reshape(*shape, *array.shape[axis + 1 :]), axis=axis + 1
    )
  window, place = np.arange(size)[:, None], np.arange(length)
  inside = (place + 1) * size > window * length
  inside &= place * size < (window + 1) * length
  weights = inside / np.sum(inside, axis=1, keepdims=True)
  averaged = jnp.tensordot(
    array, jnp.asarray(weights, array.dtype), (axis, 1), precision='highest'
  )
  return jnp.moveaxis(averaged, -1, axis)
