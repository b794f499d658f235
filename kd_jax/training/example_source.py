"""The source of a training's examples and teacher outputs."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from kd_jax import data
from kd_jax.runtime import mesh, processes
from kd_jax.training.batch import Examples
from kd_jax.training.epoch_inputs import ExampleReader
from kd_jax.training.plan import Plan

PyTree = Any


class TeacherInputs(NamedTuple):
  """The part of a teacher that a training uses.

  Attributes:
    logits: [N, K] by split, on the device or on disk. None while the teacher
      itself trains. Students that learn from labels alone get logits for the
      metrics that compare with the teacher; without the test split those
      metrics are left out.
    variables: the variables of a live teacher, called in every step.
    features: stored features [M, ...] of the plan's examples, by layer.
    lookup_view_logits: maps (indices [M], views [M]) of training examples to
      stored logits [M, K].
  """

  logits: dict[str, jax.Array] | None = None
  variables: PyTree | None = None
  features: dict[str, np.ndarray] | None = None
  lookup_view_logits: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = (
    None
  )

  def split_logits(self, split: str) -> jax.Array | None:
    """Returns the logits [N, K] of a split, or None without."""
    return (self.logits or {}).get(split)


class ExampleSource(NamedTuple):
  """The source of a training's examples.

  Attributes:
    examples: arrays on the device, or what reads examples from disk.
    teacher_variables: the variables of a live teacher, or None.
    epoch_view_logits: maps the views [N] of an epoch to the teacher's stored
      logits for them, [N, K]; None without stored logits.
  """

  examples: Examples | ExampleReader
  teacher_variables: PyTree = None
  epoch_view_logits: Callable[[np.ndarray], np.ndarray] | None = None


def make_source(
  plan: Plan, dataset: data.Dataset, teacher_inputs: TeacherInputs
) -> ExampleSource:
  """Returns where a training takes its examples from.

  Args:
    plan: the plan of the training.
    dataset: the data set, on the device or on disk.
    teacher_inputs: the part of a teacher that the training uses.
  """
  logits = None
  # Logits of views, and of a live teacher, come with each epoch or step.
  if (
    teacher_inputs.lookup_view_logits is None
    and teacher_inputs.variables is None
  ):
    logits = teacher_inputs.split_logits('train')
  examples = Examples(dataset.train.images, plan.labels(dataset), logits)
  variables = mesh.put_replicated(teacher_inputs.variables)
  if data.is_on_disk(dataset.train):
    reader = ExampleReader(functools.partial(_read, plan, examples))
    return ExampleSource(reader, variables)
  indices = plan.example_indices
  if indices is not None:
    examples = jax.tree.map(lambda array: array[indices], examples)
  if teacher_inputs.features is not None:
    features = jax.device_put(teacher_inputs.features)
    examples = examples._replace(teacher_features=features)
  epoch_view_logits = None
  if teacher_inputs.lookup_view_logits is not None:
    if indices is None:
      indices = np.arange(len(dataset.train.labels))
    epoch_view_logits = functools.partial(
      teacher_inputs.lookup_view_logits, indices
    )
  return ExampleSource(mesh.put_sharded(examples), variables, epoch_view_logits)


def _read(
  plan: Plan, examples: Examples, order: np.ndarray
) -> Iterator[Examples]:
  """Yields this process's share of batches that are read from disk.

  Args:
    plan: the plan of the training.
    examples: the training split; its images are on disk.
    order: positions among the plan's examples, in whole batches.
  """
  size = plan.batch_size // processes.count()
  indices = (
    order if plan.example_indices is None else plan.example_indices[order]
  )
  share = np.concatenate(
    [
      mesh.process_share(indices, start, size)
      for start in range(0, len(indices) // processes.count(), size)
    ]
  )
  labels = np.asarray(examples.labels)
  for i, images in enumerate(examples.images.batches(share, size)):
    index = share[i * size : (i + 1) * size]
    logits = examples.teacher_logits
    yield Examples(
      images, labels[index], None if logits is None else logits[index]
    )
