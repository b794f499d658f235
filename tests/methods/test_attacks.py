"""Attacks on images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import losses
from kd_jax.methods import attacks
from tests.methods.method_calls import (
  PIXEL_RANGE,
  linear,
  make_images,
  worst_images,
)


def _pgd(fn, images, labels, image_range=PIXEL_RANGE, **options):
  """Compiles and calls `attacks.pgd`; eagerly, each operation is compiled."""
  attack = lambda images, key: attacks.pgd(
    fn, images, labels, image_range, key, **options
  )
  return jax.jit(attack)(images, jax.random.key(0))


@pytest.mark.parametrize('unroll', [False, True])
def test_an_attack_stays_in_the_ball_and_the_range_and_raises_the_loss(unroll):
  images, labels, weights = make_images()
  attacked = _pgd(
    linear(weights), images, labels,
    epsilon=0.1, step_size=0.03, num_steps=10, unroll=unroll,
  )  # fmt: skip
  assert np.all(np.abs(attacked - images) <= 0.1 + 1e-6)
  assert np.all((attacked >= 0) & (attacked <= 1))
  before, after = (
    losses.cross_entropy(linear(weights)(x), labels) for x in (images, attacked)
  )
  assert np.all(after > before)


def test_an_attack_finds_the_worst_images_of_a_linear_network():
  images, labels, weights = make_images()
  labels, weights = labels % 2, weights[:, :2]
  attacked = _pgd(
    linear(weights), images, labels,
    epsilon=0.1, step_size=0.05, num_steps=10,
  )  # fmt: skip
  np.testing.assert_allclose(
    attacked, worst_images(images, labels, weights, 0.1), atol=1e-5
  )


def test_epsilon_and_step_size_are_shares_of_the_range():
  images, labels, weights = make_images()
  low, high = PIXEL_RANGE
  wide = (low * 4 - 2, high * 4 - 2)  # -2 to 2
  attack = lambda fn, x, image_range: _pgd(
    fn, x, labels, image_range, epsilon=0.1, step_size=0.05, num_steps=10
  )
  expected = attack(linear(weights), images, PIXEL_RANGE)
  scaled = attack(lambda x: linear(weights)((x + 2) / 4), images * 4 - 2, wide)
  np.testing.assert_allclose((scaled + 2) / 4, expected, atol=1e-5)


def test_an_attack_of_two_steps_is_one_of_one_step_and_another_step():
  images, labels, weights = make_images()
  settings = {'epsilon': 0.1, 'step_size': 0.03}
  first, second = (
    _pgd(linear(weights), images, labels, num_steps=n, **settings)
    for n in (1, 2)
  )
  step = lambda first: attacks.pgd_step(
    linear(weights), first, images, labels, PIXEL_RANGE, **settings
  )
  stepped = jax.jit(step)(first)
  np.testing.assert_allclose(stepped, second, atol=1e-6)
  assert jnp.any(first != second)
