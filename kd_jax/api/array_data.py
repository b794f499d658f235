"""The user's arrays as a checked data set, ordered as a file's would be."""

from collections.abc import Sequence
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
from kd_jax.export import artifact
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


def check_images(
  images: Any, name: str = 'images', image_shape: tuple[int, ...] = ()
) -> np.ndarray:
  """Returns images [N, H, W, C] as a NumPy array.

  Args:
    images: uint8 [N, H, W, C] or [N, H, W].
    name: what error messages call them.
    image_shape: the (H, W, C) that they must have; () allows any.
  Raises:
    UserError: if they have another type or shape.
  """
  try:
    return np.asarray(artifact.check_images(images, image_shape, name))
  except ValueError as error:
    raise errors.UserError(str(error)) from None


def check_labels(labels: Any, num_examples: int, name: str) -> np.ndarray:
  """Returns labels as int32 [N].

  Args:
    labels: integers [N] of at least 0.
    num_examples: N, the number of images.
    name: what error messages call them.
  Raises:
    UserError: if they have another type or shape; says how to convert them.
  """
  array = npz_files.as_labels(as_array(labels, name), num_examples, name)
  if array.min() < 0:
    first = int(np.argmax(array < 0))
    raise errors.UserError(
      f'{name}[{first}] is {array[first]}; expected a class of at least 0'
    )
  return array


def check_logits(logits: Any, num_examples: int, name: str) -> np.ndarray:
  """Returns a teacher's logits as float32 [N, K].

  Raises:
    UserError: if they are not finite, are probabilities, or have another shape.
  """
  array = as_array(logits, name)
  if array.ndim != 2 or len(array) != num_examples or array.shape[1] < 2:
    raise errors.UserError(
      f'{name} have shape {list(array.shape)}; expected [{num_examples}, K]: '
      'a logit for each image and each of 2 or more classes'
    )
  return logit_checks.as_logits(array, name)


def make(
  arrays: dict[str, np.ndarray],
  num_classes: int,
  reason: str,
  class_names: Sequence[str] = (),
) -> Dataset:
  """Returns the data set of four arrays.

  Args:
    arrays: train_images, train_labels, test_images and test_labels.
    num_classes: K.
    reason: where K comes from, for error messages.
    class_names: the name of each class, in order; () if classes have no names.
  Raises:
    UserError: if an array has another type or shape, or a label is no class.
  """
  content = npz_files.check_arrays(arrays, _MESSAGE_NAMES)
  if len(class_names) not in (0, num_classes):
    raise errors.UserError(
      f'class_names are {len(class_names)}; expected {num_classes}, since '
      f'{reason}'
    )
  for split in SPLITS:
    _check_classes(content, split, num_classes, reason)
  return make_dataset(
    NAME,
    content.arrays,
    num_classes=num_classes,
    digest=content.digest,
    class_names=tuple(map(str, class_names)),
    orders=content.orders,
  )


def _check_classes(
  content: UserArrays, split: str, num_classes: int, reason: str
) -> None:
  """Checks that each label is one of K classes."""
  labels = content.arrays[f'{split}_labels']
  wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
  if len(wrong):
    mend = ''
    if npz_files.start_at_1(labels, num_classes):
      mend = npz_files.FROM_1
    positions = content.orders[split][wrong]
    first = int(np.argmin(positions))
    raise DataError(
      f'{_MESSAGE_NAMES[f"{split}_labels"]}[{positions[first]}] is '
      f'{labels[wrong[first]]}; expected a class from 0 to {num_classes - 1}, '
      f'since {reason}{mend}'
    )
