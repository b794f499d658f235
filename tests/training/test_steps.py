"""The train step of a real network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import models
from kd_jax.training import build, objectives, optimizers, steps


@pytest.fixture(name='pieces')
def _pieces():
  module = models.MLP(hidden=(16,), num_classes=4, dropout_rate=0.1)
  optimizer = optimizers.make_optimizer(
    'adam', momentum=0.0, nesterov=False, weight_decay=0.0
  )
  step = steps.make_train_step(
    build.apply_fn(module),
    objectives.make_objective({'kl': {}}),
    optimizer,
    lambda step: 1.0,
  )
  variables = build.init_variables(module, (4, 4, 1), jax.random.key(0))
  keys = jax.random.split(jax.random.key(1), 3)
  batch = {
    'images': jax.random.uniform(keys[0], (8, 4, 4, 1)),
    'labels': jax.random.randint(keys[1], (8,), 0, 4),
    'teacher_logits': jax.random.normal(keys[2], (8, 4)),
    'mask': jnp.ones(8),
  }
  return step, steps.init_state(variables, optimizer), batch


def _settings(learning_rate=1e-2, ce_weight=0.5, kd_weight=0.5):
  weights = objectives.Weights(ce_weight, kd_weight, 2.0)
  return steps.Settings(learning_rate, weights)


def test_same_key_same_result(pieces):
  step, state, batch = pieces
  run = lambda seed: step(state, batch, jax.random.key(seed), _settings())
  jax.tree.map(np.testing.assert_array_equal, run(0), run(0))
  # Dropout depends on the key.
  assert run(0)[1]['loss'] != run(1)[1]['loss']


def test_the_loss_falls_on_a_fixed_batch(pieces):
  step, state, batch = pieces
  step = jax.jit(step)
  settings, losses = _settings(ce_weight=0.0, kd_weight=1.0), []
  for i in range(60):
    state, sums = step(state, batch, jax.random.key(i), settings)
    losses.append(sums['loss'] / sums['count'])
  assert losses[-1] < 0.3 * losses[0]
  assert state.step == 60


def test_a_learning_rate_of_zero_changes_no_parameter(pieces):
  step, state, batch = pieces
  after, _ = step(state, batch, jax.random.key(0), _settings(learning_rate=0.0))
  jax.tree.map(np.testing.assert_array_equal, state.params, after.params)


def test_a_step_is_compiled_once_even_if_the_first_state_is_weakly_typed(
  pieces,
):
  step, state, batch = pieces
  # These parameters are weakly typed; those that a step returns are not.
  params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), state.params)
  state = steps.init_state(
    {'params': params, 'batch_stats': state.batch_stats},
    optimizers.make_optimizer(
      'adam', momentum=0.0, nesterov=False, weight_decay=0
    ),
  )
  traced = []

  @jax.jit
  def run(state, key):
    traced.append(key)
    return step(state, batch, key, _settings())[0]

  for i in range(3):
    state = run(state, jax.random.key(i))
  assert len(traced) == 1


def test_sums_are_totals_over_the_unmasked_examples(pieces):
  step, state, batch = pieces
  settings = _settings(kd_weight=0.0, ce_weight=1.0)
  batch = batch | {'mask': jnp.array([1.0] * 5 + [0.0] * 3)}
  _, sums = step(state, batch, jax.random.key(0), settings)
  assert sums['count'] == 5
  assert 0 <= sums['correct'] <= 5
  np.testing.assert_allclose(sums['loss'], sums['ce'], rtol=1e-6)


def test_without_a_kd_weight_the_teacher_does_not_matter(pieces):
  step, state, batch = pieces
  settings = _settings(kd_weight=0.0, ce_weight=1.0)
  other = batch | {'teacher_logits': -batch['teacher_logits']}
  a, _ = step(state, batch, jax.random.key(0), settings)
  b, _ = step(state, other, jax.random.key(0), settings)
  jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
  c, _ = step(state, other, jax.random.key(0), _settings())
  assert not np.allclose(
    a.params['logits']['kernel'], c.params['logits']['kernel']
  )
