"""Timing of training steps, with stored teacher outputs or a live teacher."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data, methods
from kd_jax.benchmark import timing
from kd_jax.teachers import compact_arrays
from kd_jax.training import training_functions
from kd_jax.training.batch import Examples
from kd_jax.training.epoch import EpochFunctions
from kd_jax.training.epoch_inputs import (
  DiskInputs,
  EpochInputs,
  SharedInputs,
  make_shuffled_inputs,
  make_views,
)
from kd_jax.training.example_source import TeacherInputs

PyTree = Any

# Steps train on at most this number of examples: enough that successive batches
# differ, and few enough that the teacher's features fit into memory.
_MAX_EXAMPLES = 2000

# Steps per call for a compiled loop over steps. A single step takes little more
# time than the call itself.
_STEPS_PER_CALL = 20


def measure_stored_and_live(
  rows: Mapping[str, ConfigDict],
  teacher_variables: PyTree,
  dataset: data.Dataset,
  *,
  budget_s: float,
) -> dict[str, Any]:
  """Times training steps on stored teacher outputs and with a live teacher.

  Args:
    rows: closed configs by network.
    teacher_variables: variables of the teacher's network. Their values do not
      affect the time.
    dataset: a data set on the device.
    budget_s: timed seconds for each step.
  Returns:
    JSON values: for each network, the quartiles of 'stored_step_s' and of
    'live_step_s'.
  """
  results = {}
  for name, config in rows.items():
    logging.info('benchmark: training steps of %s', name)
    config = config.copy_and_resolve_references()
    # Rows that do not distill get a teacher, too: the authors' code calls
    # the teacher even for them.
    config.distill.kd_weight = config.distill.kd_weight or 1.0
    seconds = timing.interleave(
      {
        'stored_step_s': make_training_step(
          config, dataset, random_teacher_outputs(config, dataset)
        ),
        'live_step_s': make_training_step(
          config, dataset, TeacherInputs(variables=teacher_variables)
        ),
      },
      budget_s=budget_s,
    )
    results[name] = {
      step: timing.quartiles(values) for step, values in seconds.items()
    }
  return results


def measure_against_row(
  rows: Mapping[str, ConfigDict],
  reference: str,
  dataset: data.Dataset,
  *,
  budget_s: float,
) -> dict[str, Any]:
  """Times each row's training steps in turn with those of a reference row.

  All steps train on stored teacher outputs with random values.

  Args:
    rows: closed configs by row.
    reference: the name of the reference row.
    dataset: a data set on the device.
    budget_s: timed seconds for each step.
  Returns:
    JSON values: for each row that does not learn from other rows, the quartiles
    of 'step_s' and of 'ratio', the row's step / the reference's step in each
    round.
  """

  def make_step(config: ConfigDict) -> Callable[[], Any]:
    return make_training_step(
      config,
      dataset,
      random_teacher_outputs(config, dataset),
      steps_per_call=_STEPS_PER_CALL,
    )

  reference_step = make_step(rows[reference])
  results = {}
  for name, config in rows.items():
    # A row that learns from other rows takes the same steps as a timed row.
    if config.teacher.rows:
      continue
    logging.info('benchmark: training steps of %s', name)
    seconds = timing.interleave(
      {'step_s': make_step(config), 'reference': reference_step},
      budget_s=budget_s,
    )
    rounds = zip(seconds['step_s'], seconds['reference'], strict=True)
    results[name] = {
      'step_s': timing.quartiles(seconds['step_s']),
      'ratio': timing.quartiles(
        [step_s / reference_s for step_s, reference_s in rounds]
      ),
    }
  return results


def seconds_per_step(
  config: ConfigDict,
  dataset: data.Dataset,
  teacher_inputs: TeacherInputs,
  *,
  budget_s: float,
) -> float:
  """Returns how long a training step of a row takes, without compilation.

  Args:
    config: the closed config of the row.
    dataset: a data set on the device.
    teacher_inputs: see `make_training_step`.
    budget_s: timed seconds; at least one call is timed.
  """
  step = make_training_step(
    config, dataset, teacher_inputs, steps_per_call=_STEPS_PER_CALL
  )
  state, _ = jax.block_until_ready(step())
  first = int(state.step)
  began = time.perf_counter()
  elapsed_s = 0.0
  while elapsed_s <= budget_s:
    state, _ = jax.block_until_ready(step())
    elapsed_s = time.perf_counter() - began
  return elapsed_s / (int(state.step) - first)


def random_teacher_outputs(
  config: ConfigDict, dataset: data.Dataset
) -> TeacherInputs:
  """Returns random values in place of a row's stored teacher outputs.

  Args:
    config: the closed config of the row.
    dataset: the data set of the training.
  """
  rng = np.random.default_rng(0)
  count = _num_examples(dataset)
  logits = jnp.asarray(
    rng.normal(size=(count, dataset.num_classes)), jnp.float32
  )
  layers = config_lib.teacher_layers(config, dataset.task)
  features = {
    methods.stored_layer(layer, bits > 0): rng.uniform(
      0, 3, (count, *shape)
    ).astype(compact_arrays.features_dtype(bits))
    for bits, shapes in layers.items()
    for layer, shape in shapes.items()
  }
  return TeacherInputs({'train': logits}, features=features)


def make_training_step(
  config: ConfigDict,
  dataset: data.Dataset,
  teacher_inputs: TeacherInputs,
  *,
  steps_per_call: int = 1,
) -> Callable[[], Any]:
  """Returns a function that continues a row's training at each call.

  Args:
    config: the closed config of the row.
    dataset: a data set on the device.
    teacher_inputs: outputs for the first training examples, or the variables of
      a live teacher.
    steps_per_call: training steps per call, at most one epoch. If Python loops
      over the steps (`loop` is 'host'), a call takes a single step.
  Returns:
    A function without arguments. It returns the new state and the totals, to be
    blocked on.
  """
  count = _num_examples(dataset)
  spec = training_functions.make_spec(
    config,
    config_lib.student_sections(config),
    dataset.task,
    total_steps=1,
    live_teacher=teacher_inputs.variables is not None,
  )
  functions = training_functions.make_training_functions(spec)
  if spec.loop == 'host':
    steps_per_call = 1
  steps_per_call = min(steps_per_call, count // config.train.batch_size or 1)
  key = jax.random.key(0)
  inputs = _epoch_inputs(
    config, dataset, teacher_inputs, functions.epoch_functions, key
  )
  state = functions.init(key)

  def step():
    nonlocal state
    state, totals = functions.epoch_functions.take_steps(
      state, functions.epoch_functions.zero_totals(), inputs, 0, steps_per_call
    )
    return state, totals

  return step


def _epoch_inputs(
  config: ConfigDict,
  dataset: data.Dataset,
  teacher_inputs: TeacherInputs,
  functions: EpochFunctions,
  key: jax.Array,
) -> EpochInputs | DiskInputs:
  """Returns the inputs of an epoch on the first training examples."""
  count = _num_examples(dataset)
  return make_shuffled_inputs(
    functions.shuffle,
    Examples(
      jnp.asarray(dataset.train.images[:count]),
      dataset.train.labels[:count],
      teacher_inputs.split_logits('train'),
      jax.device_put(teacher_inputs.features),
    ),
    np.ones(count, bool),
    make_views(functions.choose_views, key, count),
    SharedInputs(
      num_examples=count,
      key=key,
      hyperparameters=training_functions.hyperparameters_of_epoch(
        config.optim, config.distill, 0
      ),
      teacher_variables=teacher_inputs.variables,
    ),
  )


def _num_examples(dataset: data.Dataset) -> int:
  """Returns the number of training examples that the timed steps use."""
  return min(len(dataset.train.labels), _MAX_EXAMPLES)
