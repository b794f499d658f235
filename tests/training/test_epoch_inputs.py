"""The inputs of an epoch: the order of the examples, and their views."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kd_jax.data import preprocessing
from kd_jax.training.batch import Pipeline
from tests.training import toy_training as toy


def test_an_epoch_visits_each_example_of_the_mask_once():
  functions = toy.make_epoch_functions()
  mask = np.arange(toy.NUM_EXAMPLES) % 3 > 0
  count = mask.sum()
  orders = [
    np.asarray(functions.shuffle(jnp.asarray(mask), jax.random.key(seed)))
    for seed in (0, 0, 1)
  ]
  np.testing.assert_array_equal(orders[0], orders[1])
  assert (orders[0] != orders[2]).any()
  for order in orders:
    assert order.shape == (56,)
    np.testing.assert_array_equal(np.sort(order[:count]), np.flatnonzero(mask))


def test_the_order_is_uniform():
  # A chi-squared test with 23 degrees of freedom: each of the 24 orders of 4
  # examples is about equally frequent.
  functions = toy.make_epoch_functions()
  mask = jnp.ones(4, bool)
  keys = jax.random.split(jax.random.key(0), 4800)
  orders = jax.vmap(lambda key: functions.shuffle(mask, key))(keys)[:, :4]
  _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
  assert len(counts) == 24
  assert np.sum((counts - 200) ** 2 / 200) < 60


def _constant_step(state, batch, key, hyperparameters):
  """A train step that changes nothing."""
  del batch, key, hyperparameters
  return state, {'loss': jnp.float32(0)}


def test_augmentation_is_a_function_of_seed_epoch_and_example():
  """The views do not depend on the batch size or on the loop."""
  seen = []
  augmentation = toy.recording_augmentation(seen)

  def run(batch_size, key, loop='device'):
    seen.clear()
    functions = toy.make_epoch_functions(
      _constant_step,
      pipeline=Pipeline(preprocessing.unit, augmentation),
      batch_size=batch_size,
      sum_names=('loss',),
      loop=loop,
    )
    inputs = toy.make_inputs(functions, key)
    jax.block_until_ready(
      functions.take_steps(
        toy.init_state(optax.identity()),
        functions.zero_totals(),
        inputs,
        0,
        toy.NUM_EXAMPLES // batch_size,
      )
    )
    jax.effects_barrier()
    return {
      image.tobytes(): int(view)
      for images, views in seen
      for image, view in zip(np.asarray(images), views, strict=True)
    }

  views = run(10, jax.random.key(0))
  assert len(set(views.values())) == len(views) > 40
  assert run(25, jax.random.key(0), 'host') == views
  assert run(10, jax.random.key(1)) != views
