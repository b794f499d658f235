"""Checks how a network trains against the data that it learns."""

import jax

from kd_jax import data
from kd_jax.config import TrainingSections
from kd_jax.runtime import errors, processes
from kd_jax.training import networks, plan

# An optimizer counts its steps in 32 bits.
_TOO_MANY_STEPS = 2**31


def check_training(sections: TrainingSections, dataset: data.Dataset) -> None:
  """Checks that batches, steps and examples go together.

  Args:
    sections: the sections of the network that trains.
    dataset: the data set that the network learns.
  Raises:
    DataError: if the subset of the examples is not known.
    UserError: names the field that does not go with the data.
  """
  training_plan = plan.make_plan(sections.train, dataset)
  _check_steps(sections, training_plan)
  if not sections.train.drop_remainder and networks.has_batch_norm(
    sections.model, dataset.problem
  ):
    _check_whole_batches(sections, training_plan)
  _check_shares(sections, dataset)


def _check_steps(sections: TrainingSections, training_plan: plan.Plan) -> None:
  """Refuses a fit without a step, and more steps than an optimizer counts."""
  field, train = sections.field, sections.train
  for phase in training_plan.phases:
    _, steps = plan.epoch_size(phase, train.batch_size, train.drop_remainder)
    if not steps:
      raise errors.UserError(
        f'config.{field}: {int(phase.subset.sum())} examples make no step, '
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


def _check_whole_batches(
  sections: TrainingSections, training_plan: plan.Plan
) -> None:
  """Refuses padded batches: padding would enter the batch statistics."""
  batch_size = sections.train.batch_size
  if any(
    int(phase.subset.sum()) % batch_size for phase in training_plan.phases
  ):
    raise errors.UserError(
      f'config.{sections.field}.batch_size does not divide the number of '
      'examples, and batch norm needs whole batches: choose another, or set '
      f'config.{sections.field}.drop_remainder=true'
    )


def _check_shares(sections: TrainingSections, dataset: data.Dataset) -> None:
  """Refuses batches on disk that several processes cannot share evenly."""
  batch_size, devices = sections.train.batch_size, jax.device_count()
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
