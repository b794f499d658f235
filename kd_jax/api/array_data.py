"""Arrays of the user as a data set: checked, and in the order of a file's."""

from typing import Any

import numpy as np

from kd_jax.data.dataset import (
  SPLITS,
  DataError,
  Dataset,
  UserArrays,
  make_dataset,
)
from kd_jax.data.user_data import npz_files
from kd_jax.runtime import errors
from kd_jax.teachers import logit_checks

# The name of the data set in records.
NAME = 'arrays'
_MESSAGE_NAMES = {
  'train_images': 'images',
  'train_labels': 'labels',
  'test_images': 'eval_data: images',
  'test_labels': 'eval_data: labels',
}
# Training images that replace eval_data.
_EVALUATED = 1000


def as_array(value: Any, name: str) -> np.ndarray:
  """Returns a NumPy, JAX or other array as a NumPy array.

  Raises:
    UserError: if NumPy cannot make an array of it.
  """
  try:
    return np.asarray(value)
  except (TypeError, ValueError, RuntimeError) as error:
    raise errors.UserError(
      f'{name}: expected an array, or what NumPy makes one of ({error})'
    ) from None


def check_images(images: Any, name: str = 'images') -> np.ndarray:
  """Returns images as an array.

  Args:
    images: uint8 [N, H, W, C] or [N, H, W].
    name: what error messages call them.
  Raises:
    UserError: if they have another type or shape.
  """
  array = as_array(images, name)
  if array.dtype.kind == 'f':
    raise errors.UserError(
      f'{name} are {array.dtype}; expected uint8, with values from 0 to 255: '
      'for values from 0 to 1, np.round(255 * images).astype(np.uint8). The '
      'argument `scaling` says how networks get them'
    )
  if array.dtype != np.uint8 or array.ndim not in (3, 4):
    raise errors.UserError(
      f'{name} are {array.dtype} {list(array.shape)}; expected uint8 '
      '[N, H, W, C] or [N, H, W], with values from 0 to 255'
    )
  if not len(array):
    raise errors.UserError(f'{name}: there is none')
  return array if array.ndim == 4 else array[..., None]


def check_logits(logits: Any, num_examples: int, name: str) -> np.ndarray:
  """Returns a teacher's logits as float32 [N, K].

  Raises:
    UserError: if they are not finite, are probabilities, or have another shape.
  """
  array = as_array(logits, name)
  if array.ndim != 2 or len(array) != num_examples or array.shape[1] < 2:
    raise errors.UserError(
      f'{name} have shape {list(array.shape)}; expected [{num_examples}, K]: a '
      'row for each image, and a column for each of 2 or more classes'
    )
  return logit_checks.as_logits(array, name)


def make(arrays: dict[str, np.ndarray], num_classes: int) -> Dataset:
  """Returns the data set of four arrays.

  Args:
    arrays: train_images, train_labels, test_images and test_labels.
    num_classes: K.
  Raises:
    UserError: if an array has another type or shape, or a label is no class.
  """
  content = npz_files.check_arrays(arrays, _MESSAGE_NAMES)
  for split in SPLITS:
    _check_classes(content, split, num_classes)
  return make_dataset(
    NAME,
    content.arrays,
    num_classes=num_classes,
    digest=content.digest,
    orders=content.orders,
  )


def evaluated_training_images(labels: np.ndarray) -> np.ndarray:
  """Returns the positions of training images to evaluate on, at most 1,000."""
  from kd_jax.data import ordering

  return ordering.stratified(labels)[:_EVALUATED]


def _check_classes(content: UserArrays, split: str, num_classes: int) -> None:
  """Checks that the teacher has a logit for each label."""
  labels = content.arrays[f'{split}_labels']
  wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
  if len(wrong):
    rows = content.orders[split][wrong]
    first = int(np.argmin(rows))
    raise DataError(
      f'{_MESSAGE_NAMES[f"{split}_labels"]}[{rows[first]}] is '
      f'{labels[wrong[first]]}; expected a class from 0 to {num_classes - 1}, '
      f'since the teacher has {num_classes} logits for each image'
    )
