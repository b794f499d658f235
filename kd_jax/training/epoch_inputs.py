"""The inputs of an epoch: examples in memory or on disk, order and views."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from kd_jax.training.batch import Examples
from kd_jax.training.hyperparameters import Hyperparameters

PyTree = Any


class ExampleReader(NamedTuple):
  """Reads examples from disk while a training needs them.

  Attributes:
    batches: maps indices [M] to an iterator over batches of those examples, in
      that order, on the host. With several processes each gets its own share
      of every batch.
  """

  batches: Callable[[np.ndarray], Iterator[Examples]]


class EpochViews(NamedTuple):
  """The augmented views of one epoch; with seeds, a leading axis [S].

  Attributes:
    views: int32 [N], or None without augmentation.
    teacher_logits: float32 [N, K], the teacher's logits for the views; None if
      they are not stored.
  """

  views: jax.Array | None = None
  teacher_logits: jax.Array | None = None


class StepInputs(NamedTuple):
  """The inputs that all steps of an epoch share.

  Attributes:
    num_examples: the examples of the epoch. The positions after them, up to
      whole batches, are padding.
    key: the epoch's key.
    hyperparameters: the traced numbers of a step.
    teacher_variables: the variables of a live teacher, or None.
  """

  num_examples: int
  key: jax.Array
  hyperparameters: Hyperparameters
  teacher_variables: PyTree = None


class EpochInputs(NamedTuple):
  """The inputs of an epoch's steps.

  Attributes:
    examples: the examples to gather from; or the batch itself.
    views: the epoch's views of the examples.
    order: int32 [M], positions of the examples in the order of the epoch; None
      if `examples` is the batch.
    each_step: the inputs that all steps share.
  """

  examples: Examples
  views: EpochViews
  order: jax.Array | None
  each_step: StepInputs


class DiskInputs(NamedTuple):
  """The inputs of the steps of an epoch whose examples are read from disk.

  Attributes:
    batches: the batches of the steps to take, in order; on the host, shown as
      the epoch's views. Each step takes the next one.
    first_batch: the first of `batches`.
    each_step: the inputs that all steps share.
  """

  batches: Iterator[Examples]
  first_batch: Examples
  each_step: StepInputs


def with_views(examples: Examples, views: EpochViews) -> Examples:
  """Returns examples shown as an epoch's views, with the logits for them."""
  if views.views is None:
    return examples
  examples = examples._replace(views=views.views)
  if views.teacher_logits is None:
    return examples
  return examples._replace(teacher_logits=views.teacher_logits)
