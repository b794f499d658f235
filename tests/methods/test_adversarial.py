"""Discriminators, peers and attacks in training steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import config_fields, losses, models
from kd_jax.data import ImageTask
from kd_jax.methods import adversarial
from kd_jax.models import apply, from_config
from kd_jax.training import objective as objectives
from kd_jax.training import optimizers, step, training_functions
from kd_jax.training.batch import Batch
from kd_jax.training.hyperparameters import Hyperparameters
from tests.methods import references
from tests.methods.method_calls import (
  PIXEL_RANGE,
  linear,
  make_images,
  worst_images,
)


def _step(method, options=None):
  """Returns a compiled step of one method, its first state and a batch."""
  section = config_fields.mlp((16,))
  task = ImageTask(4, (3, 3, 1))
  module = from_config.make_module(section, 4)
  objective = objectives.make_objective(
    {method: options or {}},
    training_functions.method_setup(section, section, 'unit', task),
  )
  optimizer = optimizers.make_optimizer(
    'sgd', momentum=0.0, nesterov=False, weight_decay=0.0
  )
  variables = apply.init_variables(module, task.image_shape, jax.random.key(0))
  state = step.init_state(
    variables, optimizer, objective.init(jax.random.key(1))
  )
  train_step = step.make_train_step(
    apply.make_apply(module), objective, optimizer, lambda i: 1.0
  )
  images, labels, _ = make_images(batch=8)
  rng = np.random.default_rng(1)
  batch = Batch(
    images=images,
    labels=labels,
    mask=jnp.ones(8),
    teacher_logits=jnp.asarray(rng.normal(size=(8, 4)), 'float32'),
    teacher_features={
      'hidden0': jnp.asarray(rng.uniform(size=(8, 16)), 'float32')
    },
  )
  return jax.jit(train_step), state, batch


def _hyperparameters(rate, **options):
  return Hyperparameters(rate, 0.0, 1.0, 2.0, options)


def _run(train_step, state, batch, hyperparameters, count=60):
  """Returns the state after some steps, and the means of the last step."""
  for _ in range(count):
    state, sums = train_step(state, batch, jax.random.key(0), hyperparameters)
  return state, {name: value / 8 for name, value in sums.items()}


@pytest.mark.parametrize(
  'method, options',
  [('adversarial_logits', {}), ('adversarial_features', {'doubt': 0.0})],
)
def test_the_discriminator_and_the_student_both_learn(method, options):
  train_step, state, batch = _step(method)
  run = functools.partial(_run, train_step, batch=batch)

  # With a constant student, the discriminator learns to tell the two apart.
  still, sums = run(
    state, hyperparameters=_hyperparameters(0.0, **{method: options})
  )
  assert sums[f'{method}_discriminator'] < 0.5 * 2 * np.log(2)
  jax.tree.map(np.testing.assert_array_equal, state.params, still.params)
  # With a constant discriminator, the student learns to pass for the teacher.
  frozen = _hyperparameters(
    0.05, **{method: {'weight': 1.0, 'discriminator_rate': 0.0}}
  )
  after, sums = run(still, hyperparameters=frozen, count=30)
  jax.tree.map(
    np.testing.assert_array_equal,
    still.method_params.discriminators,
    after.method_params.discriminators,
  )
  _, first = run(still, hyperparameters=frozen, count=1)
  assert sums[method] < first[method]


@pytest.mark.parametrize(
  'method', ['adversarial_logits', 'adversarial_features']
)
def test_a_step_updates_the_discriminator_before_the_student(method):
  train_step, state, batch = _step(method)
  run = functools.partial(_run, train_step, batch=batch, count=1)
  rates = lambda student, discriminator: _hyperparameters(
    student, **{method: {'discriminator_rate': discriminator}}
  )
  both, _ = run(state, hyperparameters=rates(0.1, 0.05))
  first, _ = run(state, hyperparameters=rates(0.0, 0.05))
  after, _ = run(first, hyperparameters=rates(0.1, 0.0))
  for computed, expected in (
    (both.method_params.discriminators, first.method_params.discriminators),
    (both.params, after.params),
    (both.method_params.adapters, after.method_params.adapters),
  ):
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
      computed,
      expected,
    )
  # The student does not learn from the discriminator before its update.
  before, _ = run(state, hyperparameters=rates(0.1, 0.0))
  different = jax.tree.map(
    lambda a, b: np.abs(a - b).max() > 1e-4, both.params, before.params
  )
  assert any(jax.tree.leaves(different))


def test_without_doubt_the_discriminator_wins_and_with_it_guesses():
  student_losses = {}
  for doubt in (0.0, 1.0):
    train_step, state, batch = _step('adversarial_features')
    hyperparameters = _hyperparameters(
      0.0, adversarial_features={'doubt': doubt}
    )
    _, sums = _run(train_step, state, batch, hyperparameters, count=300)
    student_losses[doubt] = sums['adversarial_features']
  assert student_losses[0.0] > 3
  # The discriminator takes the student for the teacher with probability 1/2.
  assert student_losses[1.0] == pytest.approx(np.log(2), rel=0.1)


def test_a_peer_learns_beside_the_student_and_is_another_network():
  train_step, state, batch = _step('mutual')
  peer = state.method_params.adapters['mutual']
  assert jax.tree.structure(peer) == jax.tree.structure(state.params)
  different = jax.tree.map(lambda a, b: (a != b).any(), peer, state.params)
  assert any(jax.tree.leaves(different))
  hyperparameters = Hyperparameters(0.2, 1.0, 1.0, 1.0)
  first = None
  for _ in range(80):
    state, sums = train_step(state, batch, jax.random.key(0), hyperparameters)
    first = first or sums
  assert sums['ce'] < 0.7 * first['ce']
  assert sums['mutual_peer'] < 0.7 * first['mutual_peer']


def test_a_peer_learns_from_labels_like_the_student_for_any_method_weight():
  train_step, state, batch = _step('mutual')
  for kd_weight in (0.0, 1e-6):
    hyperparameters = Hyperparameters(
      0.2, 1.0, kd_weight, 1.0, {'mutual': {'weight': 0.3}}
    )
    # With the student's initialization, the peer takes the student's steps.
    twins = state._replace(
      method_params=state.method_params._replace(
        adapters={'mutual': state.params}
      ),
    )
    twins, sums = train_step(twins, batch, jax.random.key(0), hyperparameters)
    assert sums['mutual_peer'] == pytest.approx(float(sums['ce']), rel=1e-6)
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
      twins.method_params.adapters['mutual'],
      twins.params,
    )


def test_a_robust_student_learns_the_teachers_logits_at_attacked_images():
  train_step, state, batch = _step('ard', {'num_steps': 3})
  first = None
  for i in range(80):
    state, sums = train_step(
      state, batch, jax.random.key(i), _hyperparameters(rate=0.2)
    )
    first = first or sums
  assert sums['ard'] < 0.5 * first['ard']


def test_ard_is_kl_at_the_worst_images():
  images, labels, weights = make_images()
  labels, weights = labels % 2, weights[:, :2]
  teacher = jnp.asarray(np.random.default_rng(1).normal(size=(5, 2)), 'float32')
  loss = jax.jit(
    lambda images, key: adversarial.ard(
      linear(weights), images, PIXEL_RANGE, teacher, labels, key, False,
      temperature=3.0, epsilon=0.1, step_size=0.05, num_steps=10,
    )
  )(images, jax.random.key(0))  # fmt: skip
  worst = worst_images(images, labels, weights, 0.1)
  student = np.float64(worst.reshape(5, -1)) @ np.float64(weights)
  np.testing.assert_allclose(
    loss,
    references.kl(student, np.float64(teacher), temperature=3.0),
    rtol=1e-4,
  )


def test_ard_without_an_attack_is_kl():
  _, state, batch = _step('ard')
  module = models.MLP(hidden=(16,), num_classes=4)
  student = lambda images: module.apply(state.variables, images, train=True)[0]
  logits = jax.jit(student)(batch.images)
  loss = jax.jit(
    lambda images, key: adversarial.ard(
      student, images, PIXEL_RANGE, batch.teacher_logits, batch.labels, key,
      False, temperature=2.0, epsilon=0.0,
    )
  )(batch.images, jax.random.key(0))  # fmt: skip
  np.testing.assert_allclose(
    loss,
    losses.kl(logits, batch.teacher_logits, temperature=2.0),
    rtol=1e-5,
  )
