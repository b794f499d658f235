"""Vectors and feature maps, one for each example, made comparable."""

import jax
import jax.numpy as jnp
import numpy as np

# The features of a network: one array [B, ...] for each compared layer.
Features = tuple[jax.Array, ...]

# Vectors without an entry of at least this size count as 0. Squares of larger
# entries do not vanish in float32 once the largest entry is 1.
_ZERO = 1e-30
# Numbers count as equal if they differ by at most this share of the largest
# one: such a difference may be the rounding error of equal numbers.
_EQUAL = 1e-6


def flatten(features: jax.Array) -> jax.Array:
  """Flattens the features of each example.

  Args:
    features: [B, ...].
  Returns:
    [B, D]; D is 1 for features of shape [B].

  Example:
    >>> flatten(jnp.zeros((2, 4, 4, 3))).shape
    (2, 48)
  """
  return features.reshape(features.shape[0], -1)


def without_padding(array: jax.Array, mask: jax.Array) -> jax.Array:
  """Sets the rows of padding to 0, in case they are not finite.

  A product with the mask would keep NaN, and so would the gradient of a `where`
  that comes after other operations.

  Args:
    array: [B, ...].
    mask: [B], 0 for padding.
  Returns:
    [B, ...].

  Example:
    >>> print(without_padding(jnp.array([1.0, jnp.nan]), jnp.array([1, 0])))
    [1. 0.]
  """
  return jnp.where(mask.reshape(-1, *(1,) * (array.ndim - 1)) > 0, array, 0)


def rescale(array: jax.Array, axis: int | tuple[int, ...]) -> jax.Array:
  """Divides by the largest magnitude along an axis, a constant.

  This comes before squares and powers of the entries, which could underflow or
  overflow, if a function of them does not depend on the scale. The gradient of
  such a function is then right although the divisor is a constant.

  Args:
    array: float, any shape.
    axis: the axis, or axes, of one vector.
  Returns:
    The array with entries in [-1, 1]. A vector of zeros stays zero, with a
    gradient of 0.

  Example:
    >>> print(rescale(jnp.array([[3e-9, -6e-9], [0.0, 0.0]]), -1))
    [[ 0.5 -1. ]
     [ 0.   0. ]]
  """
  largest = jnp.max(
    jnp.abs(jax.lax.stop_gradient(array)), axis=axis, keepdims=True
  )
  is_zero = largest < _ZERO
  return jnp.where(is_zero, 0, array * (1 / jnp.where(is_zero, 1, largest)))


def unit(vectors: jax.Array) -> jax.Array:
  """Divides vectors by their lengths, whatever their scale.

  A zero vector stays zero, with a gradient of 0.

  Args:
    vectors: [..., D] float.
  Returns:
    [..., D], of length 1.

  Example:
    >>> print(unit(jnp.array([[3e-9, 4e-9], [0.0, 0.0]])).round(3))
    [[0.6 0.8]
     [0.  0. ]]
  """
  vectors = rescale(vectors, -1)
  square = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
  return vectors * jax.lax.rsqrt(jnp.where(square > 0, square, 1))


def unit_deviation(
  vectors: jax.Array, where: jax.Array | None = None
) -> jax.Array:
  """Subtracts the mean of vectors [..., D] and divides by the new length.

  If the entries of a vector are equal to rounding, the result and its gradient
  are 0.

  Args:
    vectors: [..., D] float.
    where: [..., D] bool, the entries to use; None for all.
  Returns:
    [..., D], of mean 0 and length 1; 0 at the entries that are not used.

  Example:
    >>> vectors = jnp.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])
    >>> print(unit_deviation(vectors).round(3))
    [[-0.707  0.     0.707]
     [ 0.     0.     0.   ]]
  """
  where = jnp.ones_like(vectors, bool) if where is None else where
  vectors = jnp.where(where, vectors, 0)
  count = jnp.maximum(jnp.sum(where, axis=-1, keepdims=True), 1)
  mean = jnp.sum(vectors, axis=-1, keepdims=True) / count
  deviation = jnp.where(where, vectors - mean, 0)
  largest = lambda x: jnp.max(jnp.abs(x), axis=-1, keepdims=True)
  is_constant = largest(deviation) <= _EQUAL * largest(vectors)
  return unit(jnp.where(is_constant, 0, deviation))


def mean_per_example(values: jax.Array) -> jax.Array:
  """Averages over all axes except the batch.

  Args:
    values: [B, ...] float.
  Returns:
    [B].

  Example:
    >>> print(mean_per_example(jnp.array([[1.0, 3.0], [0.0, 0.0]])))
    [2. 0.]
  """
  return jnp.mean(flatten(values), axis=-1)


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
  Returns:
    The array with `size` entries along the axis.

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
