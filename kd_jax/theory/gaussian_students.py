"""Students of labels and of graded teachers on the Gaussian task."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from kd_jax import models
from kd_jax.theory import gaussians


class _TrainingSets(NamedTuple):
  """S training sets of N examples, each with T kinds of targets.

  Attributes:
    target_names: T names: 'labels', then the names of the teachers.
    examples: S arrays [N, D] float64.
    targets: S lists of T arrays [N, K] float64; probabilities.
  """

  target_names: list[str]
  examples: list[np.ndarray]
  targets: list[list[np.ndarray]]


def train_students(
  config: ConfigDict,
  task: gaussians.Gaussians,
  rng: np.random.Generator,
  num_examples: int,
  test_examples: np.ndarray,
) -> dict[str, np.ndarray]:
  """Trains a student on each kind of targets of each training set.

  One compiled function trains all students. The students of one training set
  start from the same parameters.

  Args:
    config: a config of configs/theory.py:bayes_teacher.
    task: the task that training sets are drawn from.
    rng: the random generator of the training sets and the teachers' noise.
    num_examples: N, examples in a training set.
    test_examples: [M, D] float64.
  Returns:
    The students' log-probabilities on the test examples, [S, M, K] float64 for
    S training sets, by the name of the targets: 'labels' or a teacher.
  """
  sets = _draw_training_sets(config, task, rng, num_examples)
  train = _make_train(config, test_examples)
  # On a CPU, networks train one after another: their arrays stay in the cache.
  is_cpu = jax.default_backend() == 'cpu'
  map_over = (
    (lambda fn: functools.partial(jax.lax.map, fn)) if is_cpu else jax.vmap
  )

  def train_on_set(training_set):
    key, examples, targets = training_set
    return map_over(lambda target: train(key, examples, target))(targets)

  keys = jax.random.split(
    jax.random.key(config.seed + num_examples), config.num_students
  )
  students = jax.jit(map_over(train_on_set))(
    (keys, jnp.float32(sets.examples), jnp.float32(sets.targets))
  )
  by_targets = np.swapaxes(np.asarray(students, np.float64), 0, 1)
  return dict(zip(sets.target_names, by_targets, strict=True))


def _draw_training_sets(
  config: ConfigDict,
  task: gaussians.Gaussians,
  rng: np.random.Generator,
  num_examples: int,
) -> _TrainingSets:
  all_examples, all_targets = [], []
  for _ in range(config.num_students):
    examples, labels = task.draw(rng, num_examples)
    log_posterior = task.log_posterior(examples)
    teachers = gaussians.graded_teachers(
      log_posterior,
      rng.normal(size=log_posterior.shape),
      gaussians.fixed_error(examples, config.num_classes),
    )
    one_hot = np.eye(config.num_classes)[labels]
    all_examples.append(examples)
    all_targets.append([one_hot, *map(np.exp, teachers.values())])
  return _TrainingSets(['labels', *teachers], all_examples, all_targets)


def _make_train(config: ConfigDict, test_examples: np.ndarray) -> Callable:
  """Returns a function that trains one student with full batches.

  The function maps (key, examples [N, D], targets [N, K]) to the trained
  student's log-probabilities [M, K] on the test examples [M, D].
  """
  module = models.MLP(hidden=(config.hidden,), num_classes=config.num_classes)
  optimizer = optax.adam(config.learning_rate)

  def train(key, examples, targets):
    params = module.init(key, examples[:1], train=False)

    def loss_fn(params):
      logits, _ = module.apply(params, examples, train=True)
      return jnp.mean(optax.softmax_cross_entropy(logits, targets))

    def step(carry, _):
      params, state = carry
      updates, state = optimizer.update(jax.grad(loss_fn)(params), state)
      return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(
      step, (params, optimizer.init(params)), length=config.steps
    )
    return jax.nn.log_softmax(
      module.apply(params, jnp.float32(test_examples), train=False)[0]
    )

  return train
