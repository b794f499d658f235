"""The trainings that lie ahead of a run, with their steps and minutes."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.benchmark import training_steps
from kd_jax.experiments.rows import PlannedRow
from kd_jax.models import apply, costs, from_config
from kd_jax.report import markdown
from kd_jax.sections import TrainingSections
from kd_jax.training import context, example_source, plan

# Seconds of timed steps, for each network that is timed.
_BUDGET_S = 0.5


class _PlannedTraining(NamedTuple):
  """A network that a run trains.

  Attributes:
    name: the name of the row, or 'teacher'.
    sections: the sections that say how the network trains.
    config: the closed config of a row whose student is the network.
    plan: its examples, phases and batches.
    dataset: what the network learns.
    seeds: how often it is trained.
    live_teacher: whether its steps call the teacher.
  """

  name: str
  sections: TrainingSections
  config: ConfigDict
  plan: plan.Plan
  dataset: data.Dataset
  seeds: int
  live_teacher: bool


def training_table(
  config: ConfigDict,
  planned: Mapping[str, PlannedRow],
  teacher_plan: plan.Plan | None,
  context_for: Callable[[str], context.Context],
  *,
  with_minutes: bool,
) -> str:
  """Returns a table of the networks that a run trains.

  Args:
    config: the run's config.
    planned: the rows by name.
    teacher_plan: the plan of the teacher; None if the run does not train it.
    context_for: maps a transfer set's name to its context.
    with_minutes: whether to time a step of the teacher and of the first row,
      which compiles both.
  """
  trainings = []
  if teacher_plan is not None:
    sections = config_lib.teacher_sections(config)
    dataset = context_for('').dataset
    first = next((row.config for row in planned.values()), config)
    as_row = _as_row(first, sections)
    trainings.append(
      _PlannedTraining(
        name='teacher',
        sections=sections,
        config=as_row,
        plan=teacher_plan,
        dataset=dataset,
        seeds=1,
        live_teacher=False,
      )
    )
  for name, row in planned.items():
    dataset = context_for(config_lib.transfer_set_name(row.config)).dataset
    sections = config_lib.student_sections(row.config)
    trainings.append(
      _PlannedTraining(
        name=name,
        sections=sections,
        config=row.config,
        plan=row.plan,
        dataset=dataset,
        seeds=row.config.seeds,
        live_teacher=row.live_teacher,
      )
    )
  lines = []
  seconds_per_mac: dict[str, float] = {}
  for training in trainings:
    macs = _count_macs(training)
    step_s = None
    if with_minutes:
      kind = 'teacher' if training.name == 'teacher' else 'student'
      macs_per_step = macs * training.sections.train.batch_size
      if kind not in seconds_per_mac:
        seconds_per_mac[kind] = _measure_step(training) / max(macs_per_step, 1)
      step_s = seconds_per_mac[kind] * macs_per_step
    lines.append(_table_line(training, macs, step_s))
  return markdown.table_of_lines(markdown.without_empty_columns(lines))


def _as_row(config: ConfigDict, sections: TrainingSections) -> ConfigDict:
  """Returns a config whose student is the network of some sections."""
  config = config.copy_and_resolve_references()
  config.unlock()
  config.student, config.train = sections.model, sections.train
  config.optim, config.distill = sections.optim, sections.distill
  config.data.scaling = sections.scaling
  return config


def _count_macs(training: _PlannedTraining) -> int:
  """Returns the multiplications of a network for an image."""
  model = training.sections.model
  dataset = training.dataset
  module = from_config.make_module(model, dataset.num_classes)
  forward = lambda variables, images: apply.make_apply(module)(
    variables, images, train=False, key=None
  )[0]
  image = jax.ShapeDtypeStruct((1, *dataset.task.image_shape), jnp.float32)
  variables = from_config.variables_like(model, dataset.task)
  return costs.count_macs(forward, variables, image)


def _measure_step(training: _PlannedTraining) -> float:
  """Returns the seconds of a step, taught by random outputs or networks."""
  logging.info('timing the training steps of %s', training.name)
  config = training.config
  dataset = training.dataset
  if training.live_teacher:
    teacher = example_source.TeacherInputs(
      variables=_random_variables(config, dataset)
    )
  else:
    teacher = training_steps.random_teacher_outputs(config, dataset)
  return training_steps.seconds_per_step(
    config, dataset, teacher, budget_s=_BUDGET_S
  )


def _random_variables(config: ConfigDict, dataset: data.Dataset) -> Any:
  """Returns variables of the teacher's network; time needs no other values."""
  module = from_config.make_module(config.teacher.model, dataset.num_classes)
  return apply.init_variables(
    module, dataset.task.image_shape, jax.random.key(0)
  )


def _table_line(
  training: _PlannedTraining, macs: int, step_s: float | None
) -> dict[str, str]:
  """Returns the cells of a network's training, by column header.

  Args:
    training: the training.
    macs: the multiplications of the network for an image.
    step_s: the seconds of a step; None if unknown.
  """
  sections = training.sections
  dataset = training.dataset
  training_plan = training.plan
  variables = from_config.variables_like(sections.model, dataset.task)
  minutes = markdown.NONE
  if step_s is not None:
    needed = training.seeds * training_plan.num_steps * step_s / 60
    minutes = f'{needed:.1f}' if needed >= 0.1 else '< 0.1'
  return {
    'network': training.name,
    'kind': sections.model.kind,
    'parameters': f'{costs.count_parameters(variables["params"]):,}',
    'MAC': f'{macs:,}',
    'examples': _count_examples(training_plan, dataset),
    'not trained on': f'{training_plan.num_held_out:,}',
    'epochs': _epochs(training_plan),
    'batch': f'{sections.train.batch_size:,}',
    'steps': f'{training_plan.num_steps:,}',
    'minutes': minutes,
    'optimizer': f'{sections.optim.name} {sections.optim.learning_rate:.3g}',
    'augmentation': sections.train.augmentation,
    'loss': _loss(sections.distill),
    'T of its logits': _temperature(sections.model),
  }


def _count_examples(training_plan: plan.Plan, dataset: data.Dataset) -> str:
  """Returns the examples of an epoch, and how many of them lack labels."""
  labels = training_plan.labels_of_epoch(dataset)
  unlabeled = int(np.sum(labels == data.NO_LABEL))
  suffix = f' ({unlabeled:,} without labels)' if unlabeled else ''
  return f'{len(labels):,}{suffix}'


def _epochs(training_plan: plan.Plan) -> str:
  """Returns the epochs of a training, or of each of its phases."""
  epochs = {phase.epochs for phase in training_plan.phases}
  if len(training_plan.phases) > 1 and len(epochs) == 1:
    return f'{epochs.pop():,} x {len(training_plan.phases)} phases'
  return f'{training_plan.num_epochs:,}'


def _temperature(model: ConfigDict) -> str:
  """Returns the divisor of a network's logits; `NONE` if there is none."""
  temperature = model.get('temperature', 1.0)
  return markdown.NONE if temperature == 1 else f'{temperature:g}'


def _loss(distill: ConfigDict) -> str:
  """Returns the terms of a loss with their weights."""
  terms = [f'{distill.ce_weight:.3g} labels'] if distill.ce_weight else []
  if distill.kd_weight:
    terms.append(
      f'{distill.kd_weight:.3g} {distill.method} (T {distill.temperature:g})'
    )
  return ' + '.join(terms)
