"""What the trainings of a run share, and a job from a config's sections."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict, FrozenConfigDict

from kd_jax import data
from kd_jax.config import TrainingSections
from kd_jax.data import selection
from kd_jax.runtime import errors
from kd_jax.training import factory, plan
from kd_jax.training.job import Job, Target


class Context(NamedTuple):
  """What the trainings of a run share.

  Attributes:
    dataset: the part of the data set that the config uses.
    load: loads a data set by its name.
    compile: `factory.compile_training`; each key is compiled once in a run.
  """

  dataset: data.Dataset
  load: Callable[[str], data.Dataset]
  compile: Callable[[FrozenConfigDict], factory.CompiledTraining]


def make_context(
  config: ConfigDict, load: Callable[[str], data.Dataset]
) -> Context:
  """Returns the context of a run; `load` loads a data set by its name."""
  dataset = selection.select(load(config.data.name), config.data)
  return Context(dataset, load, functools.cache(factory.compile_training))


def on_transfer_set(context: Context, name: str) -> Context:
  """Returns a context whose students train on other images.

  Args:
    context: of the run.
    name: a name that `data.transfer_set` knows; '' for the training split.
  Raises:
    DataError: if the transfer set's images differ in kind.
  """
  if not name:
    return context
  if data.is_on_disk(context.dataset.train):
    raise errors.UserError(
      f'config.train.transfer_set={name!r}: the training images of '
      f'{context.dataset.name} stay on disk and cannot be replaced; raise '
      'config.data.memory_gib'
    )
  train = data.transfer_set(name, context.dataset, context.load)
  return context._replace(
    dataset=dataclasses.replace(context.dataset, train=selection.put(train))
  )


def make_job(
  config: ConfigDict,
  context: Context,
  sections: TrainingSections,
  target: Target,
  *,
  is_live: bool = False,
) -> Job:
  """Returns a training of a config.

  Args:
    config: closed.
    context: of the run.
    sections: of the network that trains.
    target: whose training it is, and where it is kept.
    is_live: whether the teacher is called in every step.
  """
  job_plan = plan.make_plan(sections.train, context.dataset)
  key = factory.compile_key(
    config,
    sections,
    context.dataset.problem,
    total_steps=job_plan.num_steps,
    num_seeds=len(target.seeds) if len(target.seeds) > 1 else None,
    live_teacher=is_live,
  )
  is_teacher = sections.field == 'teacher.train'
  return Job(
    target=target,
    compiled=context.compile(key),
    plan=job_plan,
    hyperparameters=functools.partial(
      factory.hyperparameters, sections.optim, sections.distill
    ),
    carry_optimizer=sections.train.carry_optimizer,
    attacked_examples=config.eval.attacked_examples,
    bias_classes=() if is_teacher else config.eval.bias_classes,
  )
