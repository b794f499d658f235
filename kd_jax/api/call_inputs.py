"""The arrays of a call of `distill`: images, labels and a teacher's logits."""

from typing import Any, NamedTuple

import numpy as np

from kd_jax import data
from kd_jax.api import array_data
from kd_jax.api.stored_teacher import StoredOutputs
from kd_jax.runtime import errors


class CallInputs(NamedTuple):
  """What the arrays of a call hold.

  Attributes:
    dataset: the images and the labels; its order is that of a file's.
    logits: the teacher's logits by split, in the order of the call.
    has_eval_labels: whether the evaluation has labels.
  """

  dataset: data.Dataset
  logits: dict[str, np.ndarray]
  has_eval_labels: bool


def check_inputs(
  images: Any, labels: Any, teacher: Any, eval_data: Any
) -> CallInputs:
  """Returns the arrays of a call, checked against each other.

  Args:
    images: uint8 [N, H, W, C] or [N, H, W].
    labels: integers [N], or None.
    teacher: logits [N, K], or what `store_outputs` returned.
    eval_data: (images, labels), or None; see `distillation.distill`.
  Raises:
    UserError: names the argument that is wrong.
  """
  images = array_data.check_images(images)
  logits = {}
  if isinstance(teacher, StoredOutputs):
    teacher.check_same_images(images)
    logits['train'] = teacher.logits
  else:
    logits['train'] = array_data.check_logits(
      teacher, len(images), "the teacher's logits"
    )
  has_eval_labels = labels is not None
  labels = _labels_or_decisions(labels, logits['train'], 'labels')
  if eval_data is None:
    shown = array_data.evaluated_training_images(labels)
    eval_images, eval_labels = images[shown], labels[shown]
    logits['test'] = logits['train'][shown]
  else:
    if not isinstance(eval_data, tuple | list) or len(eval_data) != 2:
      raise errors.UserError('eval_data: expected (images, labels)')
    eval_images = array_data.check_images(eval_data[0], 'eval_data: images')
    has_eval_labels = eval_data[1] is not None
    if isinstance(teacher, StoredOutputs):
      logits['test'] = teacher.predict(eval_images)
    elif not has_eval_labels:
      raise errors.UserError(
        'eval_data: labels are None, and the teacher is an array, which has no '
        'outputs for these images: expected labels, or a teacher from '
        '`store_outputs`'
      )
    eval_labels = _labels_or_decisions(
      eval_data[1], logits.get('test'), 'eval_data: labels'
    )
  arrays = {
    'train_images': images,
    'train_labels': labels,
    'test_images': eval_images,
    'test_labels': eval_labels,
  }
  dataset = array_data.make(arrays, logits['train'].shape[1])
  return CallInputs(dataset, logits, has_eval_labels)


def _labels_or_decisions(
  labels: Any, logits: np.ndarray | None, name: str
) -> np.ndarray:
  """Returns labels; without labels, the teacher's decisions."""
  if labels is not None:
    return array_data.as_array(labels, name)
  assert logits is not None  # See `check_inputs`.
  return np.argmax(logits, axis=-1).astype(np.int32)
