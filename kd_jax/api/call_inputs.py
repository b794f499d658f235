"""The arrays of a call of `distill`: images, labels and a teacher's logits."""

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kd_jax import data
from kd_jax.api import array_data, scalars
from kd_jax.api.stored_outputs import StoredOutputs
from kd_jax.api.trained_student import Student
from kd_jax.data.user_data import npz_files
from kd_jax.export import artifact
from kd_jax.models import user
from kd_jax.runtime import errors

_EVAL_DATA = (
  '(images, labels) that are in no training, or the share of the images to '
  'hold out, such as 0.1'
)


class CallInputs(NamedTuple):
  """The arrays of a call, checked.

  Attributes:
    dataset: the images and the labels; its order is that of a file's. The test
      split is empty if a part of the training split is held out.
    logits: the teacher's logits by split, in the order of the call; {} without
      a teacher.
    has_eval_labels: whether the evaluation has labels.
    held_out: the number of training images that are held out; 0 with eval_data.
  """

  dataset: data.Dataset
  logits: dict[str, np.ndarray]
  has_eval_labels: bool
  held_out: int

  @property
  def num_trained(self) -> int:
    """The number of images that the student trains on."""
    return len(self.dataset.train.labels) - self.held_out

  @property
  def evaluated_on(self) -> str:
    """The images that the metrics are of."""
    if not self.held_out:
      return f'{len(self.dataset.test.labels):,} images of eval_data'
    total = len(self.dataset.train.labels)
    return f'{self.held_out:,} held-out images of the {total:,}'


class _EvalData(NamedTuple):
  """The images, labels and logits of the evaluation, or what is held out."""

  images: np.ndarray
  labels: np.ndarray
  logits: np.ndarray | None = None
  has_labels: bool = True
  held_out: int = 0


def check_inputs(
  images: Any,
  labels: Any,
  teacher: Any,
  eval_data: Any,
  class_names: Sequence[str] = (),
) -> CallInputs:
  """Returns the arrays of a call, checked against each other.

  Args:
    images: uint8 [N, H, W, C] or [N, H, W].
    labels: integers [N], or None.
    teacher: logits [N, K], what `store_outputs` returned, or None.
    eval_data: (images, labels), or a share; see `distillation.distill`.
    class_names: the names of the classes, or ().
  Raises:
    UserError: names the argument that is wrong.
  """
  class_names = scalars.names('class_names', class_names)
  images = array_data.check_images(images)
  given = labels
  if given is not None:
    given = array_data.check_labels(given, len(images), 'labels')
  logits = _teacher_logits(teacher, images)
  labels = _labels_or_predictions(given, logits)
  if isinstance(eval_data, numbers.Real) and not isinstance(eval_data, bool):
    held_out = _count_held_out(eval_data, len(images))
    evaluated = _EvalData(
      images[:0], labels[:0], None, given is not None, held_out
    )
  else:
    evaluated = _check_eval_data(eval_data, teacher)
  num_classes, reason = _count_classes(logits, labels, class_names)
  dataset = array_data.make(
    {
      'train_images': images,
      'train_labels': labels,
      'test_images': evaluated.images,
      'test_labels': evaluated.labels,
    },
    num_classes,
    reason,
    class_names,
  )
  by_split = {'train': logits, 'test': evaluated.logits}
  return CallInputs(
    dataset,
    {split: array for split, array in by_split.items() if array is not None},
    evaluated.has_labels,
    evaluated.held_out,
  )


def _teacher_logits(teacher: Any, images: np.ndarray) -> np.ndarray | None:
  """Returns the teacher's logits [N, K], or None without a teacher."""
  if teacher is None:
    return None
  if isinstance(teacher, StoredOutputs):
    teacher.check_same_images(images)
    return teacher.logits
  _refuse_network(teacher)
  return array_data.check_logits(teacher, len(images), "the teacher's logits")


def _refuse_network(teacher: Any) -> None:
  """Refuses a network as teacher, and says how to get its outputs."""
  is_pair = isinstance(teacher, tuple | list) and len(teacher) == 2
  call = ''
  if isinstance(teacher, artifact.Artifact):
    call = 'np.log(np.maximum(loaded.predict(images), 1e-12))'
  elif isinstance(teacher, Student):
    call = 'kd_jax.store_outputs(student.network, images)'
  elif callable(teacher) or (is_pair and callable(teacher[0])):
    call = 'kd_jax.store_outputs((apply, variables), images)'
    if user.is_module(teacher):
      call = 'kd_jax.store_outputs(module, images)'
  if call:
    kind = type(teacher[0] if is_pair else teacher).__name__
    raise errors.UserError(
      f'teacher: it is a network ({kind}); expected its outputs for the '
      f'images: {call}'
    )


def _labels_or_predictions(
  labels: np.ndarray | None, logits: np.ndarray | None
) -> np.ndarray:
  """Returns labels; without labels, the classes that the teacher predicts."""
  if labels is not None:
    return labels
  if logits is None:
    raise errors.UserError(
      'labels=None and teacher=None: expected one of them to learn from'
    )
  return np.argmax(logits, axis=-1).astype(np.int32)


def _count_held_out(share: Any, num_images: int) -> int:
  """Returns how many images a share holds out."""
  if not 0 < share < 1:
    raise errors.UserError(f'eval_data={share}: expected {_EVAL_DATA}')
  held_out = max(1, round(float(share) * num_images))
  if held_out >= num_images:
    raise errors.UserError(
      f'eval_data={share}: it holds out all {num_images} images; expected a '
      'smaller share, or (images, labels)'
    )
  return held_out


def _check_eval_data(eval_data: Any, teacher: Any) -> _EvalData:
  """Returns checked images and labels of the evaluation."""
  if not isinstance(eval_data, tuple | list) or len(eval_data) != 2:
    came = repr(eval_data)
    if eval_data is not None:
      came = type(eval_data).__name__
    raise errors.UserError(f'eval_data={came}: expected {_EVAL_DATA}')
  images = array_data.check_images(eval_data[0], 'eval_data: images')
  labels, logits = eval_data[1], None
  if labels is not None:
    labels = array_data.check_labels(labels, len(images), 'eval_data: labels')
  if isinstance(teacher, StoredOutputs):
    logits = teacher.predict(images)
  elif labels is None:
    raise errors.UserError(
      'eval_data: labels are None, and the teacher has no outputs for these '
      'images: expected labels, or a teacher from `store_outputs`'
    )
  has_labels = labels is not None
  return _EvalData(
    images, _labels_or_predictions(labels, logits), logits, has_labels
  )


def _count_classes(
  logits: np.ndarray | None, labels: np.ndarray, class_names: Sequence[str]
) -> tuple[int, str]:
  """Returns the number of classes, and what says so."""
  if logits is not None:
    count = logits.shape[1]
    return count, f'the teacher has {count} logits for each image'
  if len(class_names):
    return len(class_names), f'there are {len(class_names)} class_names'
  largest = int(labels.max())
  if labels.min() == 1 < largest:
    raise errors.UserError(
      f'labels are from 1 to {largest}{npz_files.FROM_1}; or, if the images '
      'of class 0 are left out, give class_names'
    )
  count = max(2, largest + 1)
  return count, f'the largest label is {count - 1}'
