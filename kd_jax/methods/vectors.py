"""Vectors and maps, one for each example: what methods compare."""

import jax
import jax.numpy as jnp

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
    ValueError: at trace time, if one is a map and the other is not, or the
      sizes are not multiples.
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
  """Averages an axis over equal windows, so that `size` of them are left."""
  length = array.shape[axis]
  if length % size:
    raise ValueError(f'{length} is no multiple of {size}: {array.shape}')
  if length == size:
    return array
  shape = (*array.shape[:axis], size, length // size, *array.shape[axis + 1 :])
  return jnp.mean(array.reshape(shape), axis=axis + 1)
