"""Logits from a file that the user has made, and the mean of several."""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kd_jax.runtime import errors

# Logits [N, K] by split.
Logits = dict[str, np.ndarray]


def load_outputs(
  path: os.PathLike, lengths: Mapping[str, int], num_classes: int
) -> Logits:
  """Returns logits that any other program has made.

  Args:
    path: a .npy file of the training split's logits, or a .npz file with
      arrays 'train' and, for metrics that compare with the teacher, 'test'.
    lengths: the number of examples of each split, by name.
    num_classes: K.
  Returns:
    float32 logits [N, K] by split: 'train', and 'test' if the file has it.
  Raises:
    UserError: if the file cannot be read or does not fit the data.
  """
  path = pathlib.Path(path).expanduser()
  arrays = _load(path)
  if 'train' not in arrays or not arrays.keys() <= lengths.keys():
    raise errors.UserError(
      f'config.teacher.logits: {path} holds {sorted(arrays)}; expected '
      "'train' and perhaps 'test'"
    )
  for split, array in arrays.items():
    expected = (lengths[split], num_classes)
    if array.shape != expected:
      raise errors.UserError(
        f'config.teacher.logits: {split} logits of {path} have shape '
        f'{array.shape}; the {split} split needs {expected}'
      )
    if not np.issubdtype(array.dtype, np.floating):
      raise errors.UserError(
        f'config.teacher.logits: {split} logits of {path} are '
        f'{array.dtype}; expected floating-point logits'
      )
    if not np.isfinite(array).all():
      raise errors.UserError(
        f'config.teacher.logits: {split} logits of {path} are not all finite'
      )
  return {split: array.astype(np.float32) for split, array in arrays.items()}


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the arrays of a .npy or .npz file by split."""
  try:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
      return {'train': content}
    with content:
      return {name: content[name] for name in content.files}
  except FileNotFoundError:
    raise errors.UserError(
      f'config.teacher.logits: there is no file {path}'
    ) from None
  except Exception as error:  # NumPy, zipfile and zlib raise many kinds.
    raise errors.UserError(
      f'config.teacher.logits: {path} is not a .npy or .npz file of numbers: '
      f'{str(error) or type(error).__name__}'
    ) from None


def _mean_logits(logits: np.ndarray) -> np.ndarray:
  return np.mean(logits, axis=0)


def _log_mean_probabilities(logits: np.ndarray) -> np.ndarray:
  log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
  return np.logaddexp.reduce(log_p, axis=0) - np.log(len(logits))


# From the logits [T, N, K] of T teachers to logits [N, K].
AVERAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'logits': _mean_logits,
  'probabilities': _log_mean_probabilities,
}


def average(teachers: Sequence[Logits], how: str) -> Logits:
  """Returns the logits of an ensemble, for the splits that all teachers have.

  Args:
    teachers: the logits [N, K] by split of each teacher.
    how: a name in AVERAGES.
  """
  splits = set.intersection(*(set(teacher) for teacher in teachers))
  return {
    split: AVERAGES[how](
      np.stack([np.asarray(teacher[split]) for teacher in teachers])
    ).astype(np.float32)
    for split in sorted(splits)
  }
