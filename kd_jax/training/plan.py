"""The examples, phases and steps of a training."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kd_jax import data
from kd_jax.config import REST

# The name, in logs and records, of the phase on all examples of a training.
WHOLE = 'fit'


class Phase(NamedTuple):
  """A phase of a training: some epochs over a part of the examples.

  Attributes:
    name: 'fold0', 'fold1', ... or WHOLE.
    epochs: its number of epochs.
    mask: bool [N], which examples it uses.
  """

  name: str
  epochs: int
  mask: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Epoch:
  """One epoch of a training.

  Attributes:
    index: its number, counted from 0 over all phases.
    phase: the phase that it belongs to.
    num_examples: how many examples it uses.
    num_steps: how many optimizer steps it takes.
    batch_size: examples per step.
    starts_phase: whether it is the first of its phase.
  """

  index: int
  phase: Phase
  num_examples: int
  num_steps: int
  batch_size: int
  starts_phase: bool


class Plan(NamedTuple):
  """The examples, phases and batches of a training.

  Attributes:
    example_indices: int [M], the training examples (an index may repeat); None
      if the phases' masks select from all examples.
    phases: the phases, in order, over those examples.
    num_held_out: how many of the last labeled examples are in no phase.
    batch_size: examples per step.
    drop_remainder: whether examples that do not fill a batch are left out;
      the left-out examples differ from epoch to epoch. If not, the last batch
      is padded and masked.
    unlabeled_indices: int [U], the training examples whose labels are not used;
      None if all labels are.
  """

  example_indices: np.ndarray | None
  phases: list[Phase]
  num_held_out: int
  batch_size: int
  drop_remainder: bool
  unlabeled_indices: np.ndarray | None = None

  def labels(self, dataset: data.Dataset) -> jax.Array | np.ndarray:
    """Returns the labels [N] of all training examples, NO_LABEL if unused."""
    labels = dataset.train.labels
    if self.unlabeled_indices is None:
      return labels
    shown = np.array(labels)
    shown[self.unlabeled_indices] = data.NO_LABEL
    return jnp.asarray(shown) if isinstance(labels, jax.Array) else shown

  def labels_of_epoch(self, dataset: data.Dataset) -> np.ndarray:
    """Returns the labels [M] of the examples of the last phase."""
    labels = np.asarray(self.labels(dataset))
    if self.example_indices is not None:
      return labels[self.example_indices]
    return labels[: len(labels) - self.num_held_out]

  @property
  def num_examples(self) -> int:
    """The number of examples that the training uses."""
    return int(self.phases[-1].mask.sum())

  @property
  def epochs(self) -> list[Epoch]:
    """Every epoch of the training, in order."""
    return timetable(self.phases, self.batch_size, self.drop_remainder)

  @property
  def num_epochs(self) -> int:
    """The number of epochs of the training."""
    return sum(phase.epochs for phase in self.phases)

  @property
  def num_steps(self) -> int:
    """The number of optimizer steps of the training."""
    return sum(
      phase.epochs * epoch_size(phase, self.batch_size, self.drop_remainder)[1]
      for phase in self.phases
    )


class Plans(NamedTuple):
  """The plans of a run's trainings.

  Attributes:
    rows: the plan of each row's students, by row.
    teacher: the teacher's; None if it is not trained by this run.
  """

  rows: dict[str, Plan]
  teacher: Plan | None


def make_plan(train: ConfigDict, dataset: data.Dataset) -> Plan:
  """Returns the plan of a `train` section of a config."""
  num_examples = len(dataset.train.labels)
  num_held_out = _count_held_out(train, dataset)
  kept = num_examples - num_held_out
  indices = _used_examples(train, dataset)
  unlabeled_indices = None
  if train.get('unlabeled') == REST:
    unlabeled_indices = _labeled_and_unlabeled(train, dataset)[1]
  # If all examples up to the held-out ones are used, the masks select them.
  # Other examples are copied, in the order of their indices.
  masked = np.array_equal(indices, np.arange(kept))
  used = (
    np.arange(num_examples) < kept if masked else np.ones(len(indices), bool)
  )
  return Plan(
    example_indices=None if masked else indices,
    phases=make_phases(used, epochs=train.epochs, folds=train.folds),
    num_held_out=num_held_out,
    batch_size=train.batch_size,
    drop_remainder=train.drop_remainder,
    unlabeled_indices=unlabeled_indices,
  )


def _used_examples(train: ConfigDict, dataset: data.Dataset) -> np.ndarray:
  """Returns the indices [M] of the examples that a `train` section uses.

  Those with labels come first. An index repeats if its example does.
  """
  labeled, unlabeled = _labeled_and_unlabeled(train, dataset)
  if not len(unlabeled):
    return labeled
  if train.unlabeled_ratio and len(labeled):
    ratio = train.unlabeled_ratio
    counts = len(labeled), len(unlabeled)
    labeled = np.resize(labeled, max(counts[0], round(counts[1] / ratio)))
    unlabeled = np.resize(unlabeled, max(counts[1], round(counts[0] * ratio)))
  return np.concatenate([labeled, unlabeled])


def name_of_examples(train: ConfigDict) -> str:
  """Returns a name of the examples that a `train` section uses."""
  parts = [train.subset]
  if train.unlabeled:
    parts.append(REST if train.unlabeled == REST else 'unlabeled')
  if train.unlabeled_ratio:
    parts.append(f'{train.unlabeled_ratio:g}')
  return '-'.join(parts)


def _labeled_and_unlabeled(
  train: ConfigDict, dataset: data.Dataset
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the indices of examples with labels, and of those without.

  Both are without repetitions that `train.unlabeled_ratio` asks for.
  """
  labels = np.asarray(dataset.train.labels)
  kept = dataset.num_labeled - _count_held_out(train, dataset)
  find = data.find_subset(train.subset)
  assert find is not None  # See `field_checks`.
  labeled = find(labels[:kept])
  if train.get('unlabeled') == REST:
    return labeled, np.setdiff1d(np.arange(kept), labeled)
  return labeled, np.arange(dataset.num_labeled, len(labels))


def _count_held_out(train: ConfigDict, dataset: data.Dataset) -> int:
  """Returns how many of the last labeled examples are not trained on."""
  num_examples = dataset.num_labeled
  return num_examples - round(num_examples * (1 - train.holdout_fraction))


def make_phases(used: np.ndarray, *, epochs: int, folds: int) -> list[Phase]:
  """Returns the phases of a training, in order.

  Args:
    used: bool [N], the examples that are in any phase.
    epochs: epochs of each phase.
    folds: k > 1 puts k phases before the phase on everything: each leaves out
      one contiguous k-th of the examples. 0 gives the phase on everything
      alone.
  """
  phases = []
  for fold in range(folds):
    left_out = np.array_split(np.flatnonzero(used), folds)[fold]
    mask = used.copy()
    mask[left_out] = False
    phases.append(Phase(f'fold{fold}', epochs, mask))
  return phases + [Phase(WHOLE, epochs, used)]


def epoch_size(
  phase: Phase, batch_size: int, drop_remainder: bool
) -> tuple[int, int]:
  """Returns how many examples and steps an epoch of a phase takes."""
  num_examples = int(phase.mask.sum())
  if drop_remainder:
    num_examples -= num_examples % batch_size
  return num_examples, -(-num_examples // batch_size)


def timetable(
  phases: list[Phase], batch_size: int, drop_remainder: bool
) -> list[Epoch]:
  """Returns every epoch of some phases, in order."""
  epochs: list[Epoch] = []
  for phase in phases:
    size = epoch_size(phase, batch_size, drop_remainder)
    for index_in_phase in range(phase.epochs):
      starts_phase = index_in_phase == 0
      epochs.append(Epoch(len(epochs), phase, *size, batch_size, starts_phase))
  return epochs
