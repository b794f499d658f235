"""Hyperparameters: the weights of terms, and the rates of discriminators."""

import jax
import jax.numpy as jnp
import pytest

from kd_jax import methods
from kd_jax.training.hyperparameters import Hyperparameters

NAME = 'adversarial_logits'


def _hyperparameters(**options):
  return Hyperparameters(
    learning_rate=jnp.float32(0.1),
    ce_weight=jnp.float32(0.25),
    kd_weight=jnp.float32(2),
    temperature=jnp.float32(4),
    methods={
      name: {option: jnp.float32(value) for option, value in values.items()}
      for name, values in options.items()
    },
  )


def test_every_cross_entropy_has_the_weight_of_the_labels():
  hyperparameters = _hyperparameters()
  for term in ('ce', 'mutual_peer'):
    assert hyperparameters.weight_of(term) == 0.25


def test_a_methods_weight_is_its_share_of_the_weight_of_all_methods():
  hyperparameters = _hyperparameters(hint={'weight': 3.0})
  assert hyperparameters.weight_of('hint') == 6
  default = methods.METHODS['attention'].weight
  assert hyperparameters.weight_of('attention') == pytest.approx(2 * default)


def test_a_discriminator_has_its_own_rate():
  given = _hyperparameters(**{NAME: {'discriminator_rate': 0.5}})
  assert given.discriminator_rate(NAME) == 0.5
  default = methods.METHODS[NAME].discriminator_rate
  assert _hyperparameters().discriminator_rate(NAME) == default


def test_every_leaf_is_traced():
  hyperparameters = _hyperparameters(hint={'weight': 3.0})
  traces = []

  @jax.jit
  def loss_weight(hyperparameters):
    traces.append(1)
    return hyperparameters.weight_of('hint') * hyperparameters.temperature

  values = [
    loss_weight(jax.tree.map(lambda leaf, f=factor: f * leaf, hyperparameters))
    for factor in (1, 2)
  ]
  assert values == [24, 8 * 24] and len(traces) == 1
