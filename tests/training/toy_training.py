"""A linear network on 50 tiny images, for tests of epochs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kd_jax.data import augmentation, preprocessing
from kd_jax.training import (
  batch,
  epoch,
  epoch_inputs,
  epoch_loop,
  objective,
  plan,
  step,
)
from kd_jax.training.batch import Examples
from kd_jax.training.epoch_inputs import DiskInputs, EpochInputs, SharedInputs
from kd_jax.training.example_source import ExampleSource
from kd_jax.training.hyperparameters import Hyperparameters
from kd_jax.training.method_terms import MethodSetup

NUM_EXAMPLES, BATCH_SIZE, NUM_CLASSES = 50, 8, 3
HYPERPARAMETERS = Hyperparameters(
  learning_rate=jnp.float32(0.1),
  ce_weight=jnp.float32(0),
  kd_weight=jnp.float32(1),
  temperature=jnp.float32(2),
)
OBJECTIVE = objective.make_objective({'kl': {}}, MethodSetup())
OPTIMIZER = optax.trace(0.9)
UNIT = batch.Pipeline(preprocessing.unit)


def apply(variables, images, *, train, key):
  """A linear network."""
  logits = images.reshape(images.shape[0], -1) @ variables['params']['w']
  if train:  # The noise makes the result depend on the key.
    logits = logits + 0.01 * jax.random.normal(key, logits.shape)
  return logits, {}, variables['batch_stats']


def examples() -> Examples:
  """Returns random images with random labels and teacher logits."""
  rng = np.random.default_rng(0)
  return Examples(
    images=jnp.asarray(rng.integers(0, 256, (NUM_EXAMPLES, 2, 2, 1), 'uint8')),
    labels=jnp.asarray(rng.integers(0, NUM_CLASSES, NUM_EXAMPLES)),
    teacher_logits=jnp.asarray(
      rng.normal(size=(NUM_EXAMPLES, NUM_CLASSES)), 'float32'
    ),
  )


def init_state(optimizer=OPTIMIZER, seed: int = 0) -> step.TrainState:
  """Returns the state of a network with random parameters."""
  params = {'w': jax.random.normal(jax.random.key(seed), (4, NUM_CLASSES))}
  return step.init_state({'params': params, 'batch_stats': {}}, optimizer)


def make_step(apply_fn=apply) -> step.TrainStep:
  """Returns a train step on the teacher's logits alone."""
  return step.make_train_step(apply_fn, OBJECTIVE, OPTIMIZER, lambda i: 1.0)


def make_epoch_functions(
  train_step=None,
  *,
  pipeline: batch.Pipeline = UNIT,
  batch_size: int = BATCH_SIZE,
  sum_names: tuple[str, ...] = step.SUM_NAMES + OBJECTIVE.names,
  **options,
) -> epoch.EpochFunctions:
  """Returns the functions of an epoch.

  Args:
    train_step: the train step; None for `make_step`.
    pipeline: the way from examples to a batch.
    batch_size: examples per step.
    sum_names: the names of the sums that the train step returns.
    **options: further fields of EpochOptions.
  """
  return epoch.make_epoch_functions(
    train_step or make_step(),
    pipeline,
    epoch.EpochOptions(batch_size, sum_names, **options),
  )


def make_inputs(
  functions: epoch.EpochFunctions, key: jax.Array
) -> EpochInputs | DiskInputs:
  """Returns the inputs of an epoch over all examples."""
  return epoch_inputs.make_shuffled_inputs(
    functions.shuffle,
    examples(),
    np.ones(NUM_EXAMPLES, bool),
    epoch_inputs.make_views(functions.choose_views, key, NUM_EXAMPLES),
    SharedInputs(NUM_EXAMPLES, key, HYPERPARAMETERS),
  )


def recording_augmentation(seen):
  """Returns an augmentation whose million views are the unchanged image."""

  def apply(images, views):
    record = lambda images, views: seen.append((images, views))
    jax.debug.callback(record, images, views)
    return images

  choose = jax.vmap(lambda key: jax.random.randint(key, (), 0, 1_000_000))
  return augmentation.Augmentation(1_000_000, choose, apply)


def make_phases(epochs: int = 2, folds: int = 3) -> list[plan.Phase]:
  """Returns phases over all examples; by default 8 epochs in 4 phases."""
  used = np.ones(NUM_EXAMPLES, bool)
  return plan.make_phases(used, epochs=epochs, folds=folds)


def run_epochs(
  functions: epoch.EpochFunctions,
  state: step.TrainState,
  *,
  source: ExampleSource | None = None,
  phases: list[plan.Phase] | None = None,
  key: jax.Array | None = None,
  drop_remainder: bool = False,
  **options,
):
  """Returns the iterator of `train_epochs`.

  Args:
    functions: the functions of an epoch.
    state: its buffers are taken.
    source: None for `examples`.
    phases: None for `make_phases`.
    key: None for `key(7)`.
    drop_remainder: whether examples that do not fill a batch are left out.
    **options: further fields of LoopOptions.
  """
  return epoch_loop.train_epochs(
    functions,
    state,
    source or ExampleSource(examples()),
    plan.Plan(None, phases or make_phases(), 0, BATCH_SIZE, drop_remainder),
    epoch_loop.LoopOptions(
      key=jax.random.key(7) if key is None else key,
      **{'hyperparameters_of_epoch': lambda epoch: HYPERPARAMETERS, **options},
    ),
  )


def copy(tree):
  """Returns a copy of a tree; a training takes the buffers of the original."""
  return jax.tree.map(jnp.copy, tree)


def assert_equal(a, b) -> None:
  """Compares two trees, array by array."""
  jax.tree.map(np.testing.assert_array_equal, a, b)
