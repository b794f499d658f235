"""Vectors and feature maps, one for each example, made comparable."""

import jax
import jax.numpy as jnp
import numpy as np

# The features of a network: one array [B, ...] for each compared layer.
Features = tuple[jax.Array, ...]

# Added under a square root, this constant keeps the gradient of a norm or of a
# standard deviation finite at 0. It is far below the float32 resolution of the
# sums that it is added to.
TINY = 1e-12


def flatten(features: jax.Array) -> jax.Array:
  """Flattens the features of each example: [B, ...] -> [B, D]."""
  return features.reshape(features.shape[0], -1)


def unit(vectors: jax.Array) -> jax.Array:
  """Divides vectors [..., D] by their lengths; a zero vector stays zero.

  Example:
    >>> print(unit(jnp.array([[3.0, 4.0], [0.0, 0.0]])).round(3))
    [[0.6 0.8]
     [0.  0. ]]
  """
  square = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
  return vectors * jax.lax.rsqrt(square + TINY)


def match_sizes(
  student: jax.Array, teacher: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Averages the larger of two maps down to the height and width of the other.

  Args:
    student: [B, H, W, C], or [B, C], which is returned unchanged.
    teacher: [B, H', W', C'], or [B, C'], which is returned unchanged.
  Returns:
    The student's and the teacher's features, of equal height and width.
  Raises:
    ValueError: at trace time, if one array is a map and the other is not.

  Example:
    >>> student, teacher = jnp.zeros((2, 4, 4, 3)), jnp.zeros((2, 8, 8, 5))
    >>> [x.shape for x in match_sizes(student, teacher)]
    [(2, 4, 4, 3), (2, 4, 4, 5)]
  """
  if student.ndim != teacher.ndim:
    raise ValueError(
      f'a map and a vector cannot be compared: the student has shape '
      f'{student.shape}, the teacher has shape {teacher.shape}'
    )
  for axis in range(1, student.ndim - 1):
    size = min(student.shape[axis], teacher.shape[axis])
    student = pool(student, axis, size)
    teacher = pool(teacher, axis, size)
  return student, teacher


def pool(array: jax.Array, axis: int, size: int) -> jax.Array:
  """Averages an axis over `size` windows: adaptive average pooling.

  If the length of the axis is a multiple of `size`, the windows are equal and
  do not overlap. Otherwise window i is the smallest one that covers the places
  from i / size to (i + 1) / size of the axis, and windows overlap.

  Args:
    array: any shape.
    axis: the axis to average.
    size: number of windows.

  Example:
    >>> print(pool(jnp.arange(6.0), 0, 3), pool(jnp.arange(7.0), 0, 4))
    [0.5 2.5 4.5] [0.5 2.  4.  5.5]
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
