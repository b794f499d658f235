"""The compact types that a teacher's outputs are stored in."""

import numpy as np

from kd_jax.runtime import errors


def half_floats(outputs: np.ndarray) -> np.ndarray:
  """Returns outputs as float16.

  Raises:
    UserError: if an output is beyond the range of float16, or not finite.
  """
  largest = np.abs(outputs).max()
  if not largest <= np.finfo(np.float16).max:
    raise errors.UserError(
      f'the teacher has outputs of {largest:g}, beyond half floats: its '
      'training diverged; lower its learning rate'
    )
  return np.asarray(outputs, np.float16)


def features_dtype(bits: int) -> np.dtype:
  """Returns the type that features are stored in.

  Args:
    bits: 0 for float16; otherwise the bits of whole numbers, 1 to 16.
  """
  if not bits:
    return np.dtype(np.float16)
  return np.dtype(np.uint8 if bits <= 8 else np.uint16)


def to_integers(
  features: np.ndarray, bits: int
) -> tuple[np.ndarray, np.ndarray]:
  """Rounds features to the levels 0, ..., 2^bits - 1.

  Args:
    features: float [N, ...], at least 0.
    bits: 1 to 16.
  Returns:
    The levels [N, ...], and the feature value of the last level, a scalar.
  Raises:
    UserError: if a feature is below 0, or not finite.
  """
  if not np.min(features) >= 0 or not np.isfinite(np.max(features)):
    raise errors.UserError(
      'config.teacher.feature_bits: the layer has features from '
      f'{np.min(features):g} to {np.max(features):g}; expected finite ones of '
      'at least 0, as behind a ReLU'
    )
  largest = np.max(features).astype(np.float32)
  levels = 2**bits - 1
  units = features / largest if largest > 0 else features
  return np.rint(units * levels).astype(features_dtype(bits)), largest
