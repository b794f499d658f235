"""A teacher: logits that students learn from, and the network behind them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kd_jax import data
from kd_jax.evaluation import evaluate, mismatched_outputs
from kd_jax.runtime import errors, files
from kd_jax.teachers import sharded_logits, user_features
from kd_jax.teachers.logit_checks import Logits
from kd_jax.teachers.teacher_network import TeacherNetwork, join_unlabeled
from kd_jax.teachers.user_logits import UNLABELED_SPLIT
from kd_jax.training import checkpoint

PyTree = Any

# `teacher.logits` with this value: there is no teacher.
NONE = 'none'
# The number of examples on which logits on disk are evaluated.
_EVALUATED_ON_DISK = 50_000


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
  """A teacher of students.

  Attributes:
    logits: float32 [N, K] by split, on the device. A user's file may lack
      'test', and may have UNLABELED_SPLIT: the logits [U, K] of images without
      labels.
    record: JSON values for run.json.
    network: the network behind the logits; None if there are files alone.
    features: the file of a user's features; None without.
    warnings: what speaks against the logits being those of the examples.
  """

  logits: Logits
  record: dict[str, Any]
  network: TeacherNetwork | None = None
  features: user_features.UserFeatures | None = None
  warnings: list[str] = dataclasses.field(default_factory=list)

  @property
  def variables(self) -> PyTree | None:
    """The network's variables; None if there are logits alone."""
    return None if self.network is None else self.network.variables

  def with_logits(self, logits: Logits) -> 'Teacher':
    """Returns the teacher with other logits."""
    return dataclasses.replace(self, logits=logits)

  def check_unlabeled(self, dataset: data.Dataset) -> None:
    """Checks that the teacher has outputs for images without labels.

    Args:
      dataset: the data set that students learn.
    Raises:
      UserError: if a teacher of logits alone lacks those of an image.
    """
    if not dataset.unlabeled or self.network is not None:
      return
    count = len(dataset.train.labels) - dataset.num_labeled
    given = len(self.logits.get(UNLABELED_SPLIT, ()))
    if given != count:
      found = f'there are {given:,}' if given else 'there are none'
      raise errors.UserError(
        f'config.train.unlabeled: the teacher has logits alone, and {found} '
        f'for the {count:,} images without labels: give them as the array '
        f"'{UNLABELED_SPLIT}' of config.teacher.logits, or a teacher with a "
        'network'
      )

  def on_transfer_set(self, name: str, dataset: data.Dataset) -> 'Teacher':
    """Returns the teacher, shown other or more training images.

    Args:
      name: the name of the images.
      dataset: the data set with them.
    """
    if self.network is None:  # See `check_unlabeled`.
      return self.with_logits(on_device(join_unlabeled(self.logits)))
    with files.locked(self.network.folder, wait=True):
      network = self.network.on_transfer_set(name, dataset)
      return network_teacher(network, self.record)


def absent() -> Teacher:
  """Returns the teacher of students that all learn from labels alone."""
  return Teacher({}, {'row': 'teacher', 'source': NONE, 'outputs': ''})


def network_teacher(
  network: TeacherNetwork,
  record: dict[str, Any],
  warnings: Sequence[str] = (),
) -> Teacher:
  """Returns a teacher of a network's outputs in the scaling of the config."""
  logits = network.logits(network.config.teacher.outputs_scaling)
  return Teacher(on_device(logits), record, network, warnings=[*warnings])


def on_device(logits: Logits) -> Logits:
  """Puts logits on the device; those on disk stay there."""
  return {
    split: array
    if isinstance(array, sharded_logits.ShardedLogits)
    else jnp.asarray(array)
    for split, array in logits.items()
  }


def find_mismatches(
  logits: Logits, dataset: data.Dataset, name: str
) -> list[str]:
  """Returns what speaks against logits being those of the examples.

  Args:
    logits: [N, K] by split.
    dataset: the data set that the students learn.
    name: the teacher, for messages.
  """
  return mismatched_outputs.find_mismatches(
    _labeled_splits(logits, dataset),
    dataset.names_of(range(dataset.num_classes)),
    name,
  )


def find_unlearned(
  logits: Logits, dataset: data.Dataset, config: ConfigDict
) -> list[str]:
  """Returns what speaks against a teacher that has learned these labels.

  Args:
    logits: [N, K] by split.
    dataset: the data set that the teacher has learned.
    config: the run's config.
  """
  if config.data.at_most:  # A smoke run trains a teacher for one epoch.
    return []
  return mismatched_outputs.find_unlearned(
    _labeled_splits(logits, dataset), 'the teacher'
  )


def _labeled_splits(
  logits: Logits, dataset: data.Dataset
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Returns logits and labels by split, of the examples that have both."""
  if isinstance(logits['train'], sharded_logits.ShardedLogits):
    logits = logits | {'train': logits['train'][:_EVALUATED_ON_DISK]}
  labels = {'train': dataset.train.labels, 'test': dataset.test.labels}
  return {
    split: _with_labels(array, labels[split])
    for split, array in logits.items()
    if split in labels
  }


def _with_labels(logits: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
  """Returns the logits and the labels of the examples that have both."""
  labels = np.asarray(labels)[: len(logits)]
  has_label = labels != data.NO_LABEL
  return np.asarray(logits)[has_label], labels[has_label]


def make_record(
  record: dict[str, Any], logits: Logits, dataset: data.Dataset
) -> dict[str, Any]:
  """Returns a training's record with metrics of the outputs students get.

  Args:
    record: the record of the teacher's training.
    logits: [N, K] by split.
    dataset: the data set that the students learn.
  """
  record = dict(record)
  record.pop('test', None)
  train = logits['train']
  if isinstance(train, sharded_logits.ShardedLogits):
    record['outputs'] = train.digest
    train = train[:_EVALUATED_ON_DISK]
    record['train_examples'] = len(train)
  else:
    record['outputs'] = checkpoint.tree_digest(logits)
  record['train'] = evaluate.evaluate(train, dataset.train.labels[: len(train)])
  if 'test' in logits:
    labels = dataset.test.labels
    record['test'] = evaluate.evaluate(logits['test'], labels)
    record['reliability'] = evaluate.reliability(logits['test'], labels)
  return record
