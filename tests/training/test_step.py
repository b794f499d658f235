"""The train step of a real network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import models
from kd_jax.models import apply
from kd_jax.training import method_terms, optimizers, step
from kd_jax.training import objective as objectives
from kd_jax.training.batch import Batch
from kd_jax.training.hyperparameters import Hyperparameters


@pytest.fixture(name='pieces', scope='module')
def _pieces():
  module = models.MLP(hidden=(16,), num_classes=4, dropout_rate=0.1)
  optimizer = optimizers.make_optimizer(
    'adam', momentum=0.0, nesterov=False, weight_decay=0.0
  )
  train_step = step.make_train_step(
    apply.make_apply(module),
    objectives.make_objective({'kl': {}}, method_terms.MethodSetup()),
    optimizer,
    lambda i: 1.0,
  )
  variables = apply.init_variables(module, (4, 4, 1), jax.random.key(0))
  keys = jax.random.split(jax.random.key(1), 3)
  batch = Batch(
    images=jax.random.uniform(keys[0], (8, 4, 4, 1)),
    labels=jax.random.randint(keys[1], (8,), 0, 4),
    mask=jnp.ones(8),
    teacher_logits=jax.random.normal(keys[2], (8, 4)),
  )
  return jax.jit(train_step), step.init_state(variables, optimizer), batch


def _hyperparameters(learning_rate=1e-2, ce_weight=0.5, kd_weight=0.5):
  return Hyperparameters(learning_rate, ce_weight, kd_weight, 2.0)


def test_same_key_same_result(pieces):
  train_step, state, batch = pieces
  run = lambda seed: train_step(
    state, batch, jax.random.key(seed), _hyperparameters()
  )
  jax.tree.map(np.testing.assert_array_equal, run(0), run(0))
  # Dropout depends on the key.
  assert run(0)[1]['loss'] != run(1)[1]['loss']


def test_the_loss_falls_on_a_fixed_batch(pieces):
  train_step, state, batch = pieces
  hyperparameters = _hyperparameters(ce_weight=0.0, kd_weight=1.0)
  losses = []
  for i in range(60):
    state, sums = train_step(state, batch, jax.random.key(i), hyperparameters)
    losses.append(sums['loss'] / sums['count'])
  assert losses[-1] < 0.3 * losses[0]
  assert state.step == 60


def test_a_learning_rate_of_zero_changes_no_parameter(pieces):
  train_step, state, batch = pieces
  hyperparameters = _hyperparameters(learning_rate=0.0)
  after, _ = train_step(state, batch, jax.random.key(0), hyperparameters)
  jax.tree.map(np.testing.assert_array_equal, state.params, after.params)


def test_a_step_is_compiled_once_even_if_the_first_state_is_weakly_typed(
  pieces,
):
  train_step, state, batch = pieces
  # These parameters are weakly typed; those that a step returns are not.
  params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), state.params)
  state = step.init_state(
    {'params': params, 'batch_stats': state.batch_stats},
    optimizers.make_optimizer(
      'adam', momentum=0.0, nesterov=False, weight_decay=0
    ),
  )
  traced = []

  @jax.jit
  def run(state, key):
    traced.append(key)
    return train_step(state, batch, key, _hyperparameters())[0]

  for i in range(3):
    state = run(state, jax.random.key(i))
  assert len(traced) == 1


def test_sums_are_totals_over_the_unmasked_examples(pieces):
  train_step, state, batch = pieces
  hyperparameters = _hyperparameters(kd_weight=0.0, ce_weight=1.0)
  batch = batch._replace(mask=jnp.array([1.0] * 5 + [0.0] * 3))
  _, sums = train_step(state, batch, jax.random.key(0), hyperparameters)
  assert sums['count'] == 5
  assert 0 <= sums['correct'] <= 5
  np.testing.assert_allclose(sums['loss'], sums['ce'], rtol=1e-6)


def test_without_a_kd_weight_the_teacher_does_not_matter(pieces):
  train_step, state, batch = pieces
  hyperparameters = _hyperparameters(kd_weight=0.0, ce_weight=1.0)
  other = batch._replace(teacher_logits=-batch.teacher_logits)
  run = lambda batch, hyperparameters: train_step(
    state, batch, jax.random.key(0), hyperparameters
  )[0]
  a, b = run(batch, hyperparameters), run(other, hyperparameters)
  jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
  c = run(other, _hyperparameters())
  assert not np.allclose(
    a.params['logits']['kernel'], c.params['logits']['kernel']
  )
