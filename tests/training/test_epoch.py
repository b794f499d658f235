"""Compiled epochs: padding, chunks and mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_jax.data import preprocessing
from kd_jax.training import step
from kd_jax.training.batch import Batch, Examples, Pipeline
from kd_jax.training.example_source import ExampleSource
from tests.training import toy_training as toy


def test_a_short_last_batch_counts_what_it_holds():
  """The sums of an epoch equal those of single steps on its batches."""
  # A short batch draws its noise in another shape, so there is no noise.
  train_step = jax.jit(
    toy.make_step(
      lambda v, x, *, train, key: toy.apply(v, x, train=False, key=None)
    )
  )
  functions = toy.make_epoch_functions(train_step)
  key = jax.random.key(3)
  inputs = toy.make_inputs(functions, key)
  expected, totals = toy.init_state(), {}
  for i in range(7):
    index = inputs.order[i * 8 : (i + 1) * 8]
    if i == 6:
      index = index[:2]  # 50 = 6 * 8 + 2
    part = jax.tree.map(lambda array, i=index: array[i], inputs.examples)
    batch = Batch(
      images=preprocessing.unit(part.images),
      labels=part.labels,
      mask=jnp.ones(len(index)),
      teacher_logits=part.teacher_logits,
    )
    expected, sums = train_step(expected, batch, key, toy.HYPERPARAMETERS)
    totals = {n: totals.get(n, 0) + value for n, value in sums.items()}
  state, (sums, _) = functions.take_steps(
    toy.init_state(), functions.zero_totals(), inputs, 0, 7
  )
  assert sums['count'] == 50
  for name, total in totals.items():
    np.testing.assert_allclose(sums[name], total, rtol=1e-5)
  np.testing.assert_allclose(state.params['w'], expected.params['w'], rtol=1e-5)


def test_chunks_do_not_change_the_result():
  functions = toy.make_epoch_functions()
  inputs = toy.make_inputs(functions, jax.random.key(3))
  results = []
  for bounds in ((0, 7), (0, 1, 5, 7)):
    state, totals = toy.init_state(), functions.zero_totals()
    for start, stop in zip(bounds, bounds[1:], strict=False):
      state, totals = functions.take_steps(state, totals, inputs, start, stop)
    results.append((state, totals))
  toy.assert_equal(*results)


@pytest.mark.parametrize('live', [False, True])
def test_mixup_mixes_images_as_its_targets_say(live):
  """An image's shade is its label and its teacher's logit."""
  shades = np.arange(toy.NUM_EXAMPLES)
  images = np.tile(shades[:, None], 4).reshape(-1, 2, 2, 1)
  logits = jnp.asarray(shades[:, None], 'float32')
  examples = Examples(jnp.asarray(images, 'uint8'), jnp.asarray(shades))

  def train_step(state, batch, key, hyperparameters):
    share, partners = batch.mixture
    both = batch.with_targets(partners)
    mix = lambda first, second: share * first + (1 - share) * second
    shade = 255 * jnp.mean(batch.images, axis=(1, 2, 3))
    wrong = jnp.abs(mix(batch.labels, both.labels) - shade)
    mixed = mix(batch.teacher_logits, both.teacher_logits)[:, 0]
    wrong += jnp.abs(mixed - shade)
    count = jnp.sum(batch.mask)
    return state, {'loss': jnp.max(wrong), 'correct': share, 'count': count}

  if live:
    teacher = lambda variables, images: (images[:, 0, 0], {})
    source = ExampleSource(examples, teacher_variables=jnp.zeros(1))
  else:
    teacher = None
    source = ExampleSource(examples._replace(teacher_logits=logits))
  functions = toy.make_epoch_functions(
    train_step,
    pipeline=Pipeline(preprocessing.unit, mixup_alpha=1.0, teacher_fn=teacher),
    sum_names=step.SUM_NAMES,
  )
  first, second = (
    result.sums
    for result in toy.run_epochs(
      functions,
      toy.init_state(optax.identity()),
      source=source,
      phases=toy.make_phases(epochs=2, folds=0),
      key=jax.random.key(0),
      drop_remainder=True,
    )
  )
  assert first['loss'] < 1e-3 and second['loss'] < 1e-3
  # Each epoch draws new shares.
  assert first['correct'] != second['correct']
  assert 0 < first['correct'] < 6
