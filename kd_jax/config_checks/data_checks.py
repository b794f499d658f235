"""Checks how a network trains against the data that it learns."""

import jax
import numpy as np

from kd_jax import config as config_lib
from kd_jax import data, methods
from kd_jax.models import from_config
from kd_jax.runtime import errors, processes
from kd_jax.sections import TrainingSections
from kd_jax.training import plan

# An optimizer counts its steps in 32 bits.
_TOO_MANY_STEPS = 2**31


def check_training_and_plan(
  sections: TrainingSections, dataset: data.Dataset
) -> plan.Plan:
  """Checks that batches, steps and examples go together; returns the plan.

  Args:
    sections: the sections of the network that trains.
    dataset: the data set that the network learns.
  Returns:
    The plan, for `train.make_training`.
  Raises:
    DataError: if the subset of the examples is not known, or a label is not a
      class.
    UserError: names the field that does not go with the data.
  """
  _check_labels(dataset)
  training_plan = plan.make_plan(sections.train, dataset)
  _check_rest(sections, training_plan)
  _check_steps(sections, training_plan)
  _check_least_examples(sections, training_plan)
  if not sections.train.drop_remainder and from_config.has_batch_norm(
    sections.model, dataset.task
  ):
    _check_whole_batches(sections, training_plan)
  _check_shares(sections, dataset)
  return training_plan


def _check_steps(sections: TrainingSections, training_plan: plan.Plan) -> None:
  """Refuses a phase without a step, and more steps than an optimizer counts."""
  field = sections.field
  train = sections.train
  for phase in training_plan.phases:
    _, steps = plan.epoch_size(phase, train.batch_size, train.drop_remainder)
    if not steps:
      raise errors.UserError(
        f'config.{field}: {int(phase.mask.sum())} examples make no step, '
        f'with batch_size={train.batch_size}, '
        f'drop_remainder={train.drop_remainder}, folds={train.folds}, '
        f'holdout_fraction={train.holdout_fraction:g} and '
        f'subset={train.subset!r}'
      )
  if training_plan.num_steps >= _TOO_MANY_STEPS:
    raise errors.UserError(
      f'config.{field}: {training_plan.num_steps:,} steps are more than an '
      f'optimizer counts ({_TOO_MANY_STEPS - 1:,})'
    )


def _check_rest(sections: TrainingSections, training_plan: plan.Plan) -> None:
  """Refuses to hide the labels of the rest of the examples, if none is left."""
  if training_plan.unlabeled_indices is not None and not len(
    training_plan.unlabeled_indices
  ):
    raise errors.UserError(
      f'config.{sections.field}.unlabeled={config_lib.REST!r}: subset='
      f'{sections.train.subset!r} leaves out no training example; expected a '
      'smaller subset, such as first100'
    )


def _check_labels(dataset: data.Dataset) -> None:
  """Refuses a single class, and labels whose loss would be NaN."""
  if dataset.num_classes < 2:
    raise data.DataError(
      f'{dataset.name}: {dataset.num_classes} class; expected 2 or more, '
      'because there is nothing to learn'
    )
  for name, split in (('train', dataset.train), ('test', dataset.test)):
    labels = np.asarray(split.labels)
    wrong = (labels < 0) | (labels >= dataset.num_classes)
    if dataset.unlabeled:
      wrong &= labels != data.NO_LABEL
    if wrong.any():
      first = int(np.argmax(wrong))
      raise data.DataError(
        f'{dataset.name}: {name}_labels[{first}] is {labels[first]}; expected '
        f'integers from 0 to {dataset.num_classes - 1}'
      )


def _check_least_examples(
  sections: TrainingSections, training_plan: plan.Plan
) -> None:
  """Refuses batches in which a method has nothing to compare."""
  fewest = min(int(phase.mask.sum()) for phase in training_plan.phases)
  size = min(sections.train.batch_size, fewest)
  for name in config_lib.method_options(sections.distill):
    least = methods.METHODS[name].least_examples
    if size < least:
      raise errors.UserError(
        f'config.{sections.field}.batch_size={sections.train.batch_size}: '
        f'batches of {size} examples are too few for the method {name}, which '
        f'compares examples; expected {least} or more, because with fewer its '
        'gradient is 0'
      )


def _check_whole_batches(
  sections: TrainingSections, training_plan: plan.Plan
) -> None:
  """Refuses padded batches: padding would enter the batch statistics."""
  batch_size = sections.train.batch_size
  if any(int(phase.mask.sum()) % batch_size for phase in training_plan.phases):
    raise errors.UserError(
      f'config.{sections.field}.batch_size does not divide the number of '
      'examples, and batch norm needs whole batches: choose another, or set '
      f'config.{sections.field}.drop_remainder=true'
    )


def _check_shares(sections: TrainingSections, dataset: data.Dataset) -> None:
  """Refuses batches on disk that several processes cannot share evenly."""
  batch_size = sections.train.batch_size
  devices = jax.device_count()
  if (
    data.is_on_disk(dataset.train)
    and processes.count() > 1
    and batch_size % devices
  ):
    raise errors.UserError(
      f'config.{sections.field}.batch_size={batch_size}: images that several '
      'processes read from disk are shared out evenly; expected a multiple of '
      f'their {devices} devices'
    )
