"""Our training of student_training.py: an epoch is one compiled program.

The program shuffles, gathers and steps on the device.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import student_systems

from configs import mnist
from kd_jax import config as config_lib
from kd_jax.data import ImageTask
from kd_jax.training import epoch_loop, plan, training_functions
from kd_jax.training.batch import Examples
from kd_jax.training.epoch_inputs import EpochInputs, EpochViews, SharedInputs
from kd_jax.training.example_source import ExampleSource


def make(*, live: bool = False) -> student_systems.Trainer:
  """Returns our training on stored outputs, or with a live teacher."""
  config = config_lib.close_row(mnist.get_config('h300'), 'h300')
  images, labels, logits = student_systems.load_arrays()
  system = 'ours-live' if live else 'ours'
  used = np.arange(len(labels)) < student_systems.SYSTEMS[system][2]
  phases = plan.make_phases(used, epochs=1, folds=0)
  training_plan = plan.Plan(None, phases, 0, student_systems.BATCH, False)
  functions = training_functions.make_training_functions(
    training_functions.make_spec(
      config,
      config_lib.student_sections(config),
      ImageTask(10, images.shape[1:]),
      total_steps=training_plan.num_steps,
      live_teacher=live,
    )
  )
  source = ExampleSource(
    Examples(
      jnp.asarray(images),
      jnp.asarray(labels),
      None if live else jnp.asarray(logits),
    ),
    _teacher_variables() if live else None,
  )
  hyperparameters_of_epoch = lambda epoch: (
    training_functions.hyperparameters_of_epoch(
      config.optim, config.distill, epoch
    )
  )
  key = jax.random.key(0)
  losses = _first_losses(functions, source, key, hyperparameters_of_epoch(0))
  state, epochs = _initial_state(functions, key), 0

  def run(examples):
    nonlocal state, epochs
    assert examples == used.sum()
    (result,) = epoch_loop.train_epochs(
      functions.epoch_functions,
      state,
      source,
      training_plan,
      epoch_loop.LoopOptions(
        key=jax.random.fold_in(key, epochs),
        hyperparameters_of_epoch=hyperparameters_of_epoch,
      ),
    )
    state, epochs = result.state, epochs + 1
    # The clock of `train_epochs` leaves out only the check that it is compiled.
    return result.train_s

  return student_systems.Trainer(losses, run)


def _teacher_variables() -> dict[str, Any]:
  """Returns the shared teacher weights as variables of our network."""
  arrays = list(map(jnp.asarray, student_systems.make_teacher_weights()))
  convolution, *dense = (
    {'kernel': kernel, 'bias': bias}
    for kernel, bias in zip(arrays[::2], arrays[1::2], strict=True)
  )
  names = ('hidden0', 'hidden1', 'logits')
  head = dict(zip(names, dense, strict=True))
  return {'params': {'conv0': convolution, 'head': head}, 'batch_stats': {}}


def _initial_state(
  functions: training_functions.TrainingFunctions, key: jax.Array
):
  """Returns a training state with the shared student weights."""
  w1, b1, w2, b2 = map(jnp.asarray, student_systems.make_weights())
  params = {
    'hidden0': {'kernel': w1, 'bias': b1},
    'logits': {'kernel': w2, 'bias': b2},
  }
  return functions.init(key)._replace(params=params)


def _first_losses(
  functions: training_functions.TrainingFunctions,
  source: ExampleSource,
  key: jax.Array,
  hyperparameters,
) -> list[float]:
  """Returns the losses of the first steps, on examples in their order."""
  assert isinstance(source.examples, Examples)  # In memory, not on disk.
  count = len(source.examples.labels)
  inputs = EpochInputs(
    examples=source.examples,
    views=EpochViews(),
    order=jnp.arange(count, dtype=jnp.int32),
    shared=SharedInputs(count, key, hyperparameters, source.teacher_variables),
  )
  state, losses = _initial_state(functions, key), []
  for step in range(student_systems.CHECKED_STEPS):
    state, totals = functions.epoch_functions.take_steps(
      state, functions.epoch_functions.zero_totals(), inputs, step, step + 1
    )
    losses.append(float(totals.sums['loss'] / totals.sums['count']))
  return losses
