"""A teacher's logits: their type, and checks that they can be learned from."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging

from kd_jax.runtime import errors

# Logits [N, K] by split: arrays, or a `ShardedLogits` if images are on disk.
Logits = dict[str, Any]
# The largest distance from 1 of a sum of probabilities, in any float type.
_SUM_TOLERANCE = 5e-3
# The same for probabilities that were rounded to one or two decimals, relative.
_ROUNDED_TOLERANCE = 0.3


def as_logits(array: np.ndarray, name: str) -> np.ndarray:
  """Returns logits as float32.

  Args:
    array: [N, K] of any float type.
    name: the array, for error messages.
  Returns:
    float32 [N, K].
  Raises:
    UserError: if the values are no floats, not finite in float32, or
      probabilities.
  """
  if array.dtype.type is np.void:  # NumPy reads types that it does not know so.
    raise errors.UserError(
      f'{name} are {array.dtype}, perhaps bfloat16 or float8, which .npy files '
      'cannot hold: store them as float32'
    )
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise errors.UserError(
      f'{name} are {array.dtype}; expected floating-point logits'
    )
  # Damaged bytes can be NaNs of a kind at which a conversion warns.
  with np.errstate(over='ignore', invalid='ignore'):
    logits = np.asarray(array, np.float32)
    is_too_large = np.isfinite(np.asarray(array, np.float64)).all()
  if not np.isfinite(logits).all():
    reason = 'are not all finite'
    if is_too_large:
      reason = 'are beyond the range of float32: mask classes with -1e9'
    raise errors.UserError(f'{name} {reason}')
  if are_probabilities(logits):
    raise errors.UserError(
      f'{name} are probabilities: give their logarithms, such as '
      'np.log(np.maximum(p, 1e-12))'
    )
  if _look_like_probabilities(logits):
    logging.warning(
      '%s look like probabilities, shares or percentages, as none is below 0: '
      'a student should get logits, such as np.log(np.maximum(p, 1e-12))',
      name,
    )
  return logits


def _look_like_probabilities(array: np.ndarray) -> bool:
  """Returns whether [N, K] may be rounded or independent probabilities.

  Rounded ones have sums near 1, percentages near 100, and the outputs of
  sigmoids are at most 1.
  """
  if not len(array) or array.min() < 0 or not array.any():
    return False
  sums = array.sum(axis=-1, dtype=np.float64)
  has_sum = (
    np.abs(sums / total - 1).max() < _ROUNDED_TOLERANCE for total in (1, 100)
  )
  return bool(array.max() <= 1 or any(has_sum))


def are_probabilities(array: np.ndarray) -> bool:
  """Returns whether each row of [N, K] is at least 0 and has the sum 1."""
  if not len(array) or array.min() < 0:
    return False
  sums = array.sum(axis=-1, dtype=np.float64)
  return bool(np.abs(sums - 1).max() < _SUM_TOLERANCE)
