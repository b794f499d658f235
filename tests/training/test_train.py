"""Compiled epochs: order, padding, chunks, resume, non-finite losses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_jax.data import augmentation, preprocessing
from kd_jax.training import objectives, steps, train

NUM_EXAMPLES, BATCH_SIZE = 50, 8
SETTINGS = steps.Settings(
  jnp.float32(0.1),
  objectives.Weights(jnp.float32(0), jnp.float32(1), jnp.float32(2)),
)


def _apply(variables, images, *, train, key):
  logits = images.reshape(images.shape[0], -1) @ variables['params']['w']
  if train:  # The noise makes the result depend on the key.
    logits = logits + 0.01 * jax.random.normal(key, logits.shape)
  return logits, {}, variables['batch_stats']


def _arrays():
  rng = np.random.default_rng(0)
  return {
    'images': jnp.asarray(
      rng.integers(0, 256, (NUM_EXAMPLES, 2, 2, 1), 'uint8')
    ),
    'labels': jnp.asarray(rng.integers(0, 3, NUM_EXAMPLES)),
    'teacher_logits': jnp.asarray(
      rng.normal(size=(NUM_EXAMPLES, 3)), 'float32'
    ),
  }


def _state(optimizer, seed=0):
  params = {'w': jax.random.normal(jax.random.key(seed), (4, 3))}
  return steps.init_state({'params': params, 'batch_stats': {}}, optimizer)


def _program(train_step=None, **kwargs):
  optimizer = optax.trace(0.9)
  objective = objectives.make_objective({'kl': {}})
  if train_step is None:
    train_step = steps.make_train_step(
      _apply, objective, optimizer, lambda step: 1.0
    )
  program = train.make_program(
    train_step,
    preprocessing.unit,
    batch_size=BATCH_SIZE,
    names=steps.SUMS + objective.names,
    **kwargs,
  )
  return program, _state(optimizer)


def _phases(epochs=2, folds=3):
  used = np.ones(NUM_EXAMPLES, bool)
  return train.make_phases(used, epochs=epochs, folds=folds)


def _fit(program, state, **kwargs):
  return train.fit(
    program,
    state,
    _arrays(),
    _phases(),
    key=jax.random.key(7),
    settings=kwargs.pop('settings', lambda epoch: SETTINGS),
    **kwargs,
  )


def _copy(tree):
  return jax.tree.map(jnp.copy, tree)


def _assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_fold_loop_of_the_papers_code():
  phases = train.make_phases(np.ones(60_000, bool), epochs=3, folds=3)
  assert [p.name for p in phases] == ['fold0', 'fold1', 'fold2', 'fit']
  assert [p.subset.sum() for p in phases] == [40_000] * 3 + [60_000]
  held_out = [~p.subset for p in phases[:3]]
  np.testing.assert_array_equal(np.sum(held_out, axis=0), 1)
  # In all, these are 3 E epochs of the whole training set.
  assert sum(p.epochs * p.subset.sum() for p in phases) == 9 * 60_000
  assert train.num_steps(phases, 32, drop_remainder=False) == 9 * 1875


def test_folds_divide_the_examples_that_are_used():
  used = np.arange(60) < 48
  *folds, fit = train.make_phases(used, epochs=1, folds=3)
  np.testing.assert_array_equal(fit.subset, used)
  assert [p.subset.sum() for p in folds] == [32] * 3
  assert not any(p.subset[48:].any() for p in folds)


def test_an_epoch_visits_each_example_of_the_subset_once():
  program, _ = _program()
  subset = np.arange(NUM_EXAMPLES) % 3 > 0
  count = subset.sum()
  orders = [
    np.asarray(program.order(jnp.asarray(subset), jax.random.key(seed)))
    for seed in (0, 0, 1)
  ]
  np.testing.assert_array_equal(orders[0], orders[1])
  assert (orders[0] != orders[2]).any()
  for order in orders:
    assert order.shape == (56,)
    np.testing.assert_array_equal(
      np.sort(order[:count]), np.flatnonzero(subset)
    )


def test_the_order_is_uniform():
  # A chi-squared test with 23 degrees of freedom: each of the 24 orders of 4
  # examples is about equally frequent.
  program = _program()[0]
  subset = jnp.ones(4, bool)
  keys = jax.random.split(jax.random.key(0), 4800)
  orders = jax.vmap(lambda key: program.order(subset, key))(keys)[:, :4]
  _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
  assert len(counts) == 24
  assert np.sum((counts - 200) ** 2 / 200) < 60


def test_a_short_last_batch_counts_what_it_holds():
  """The sums of an epoch equal those of single steps on its batches."""
  program, state = _program()
  optimizer = optax.trace(0.9)
  step = steps.make_train_step(
    _apply, objectives.make_objective({'kl': {}}), optimizer, lambda s: 1.0
  )
  arrays, key = _arrays(), jax.random.key(3)
  order = program.order(jnp.ones(NUM_EXAMPLES, bool), key)
  expected, totals = _copy(state), {}
  for i in range(7):
    index = order[i * 8 : (i + 1) * 8]
    if i == 6:
      index = index[:2]  # 50 = 6 * 8 + 2
    batch = {name: array[index] for name, array in arrays.items()}
    batch['images'] = preprocessing.unit(batch['images'])
    batch['mask'] = jnp.ones(len(index))
    # A short batch draws its noise in another shape, so there is no noise.
    noise_free = lambda v, x, *, train, key: _apply(v, x, train=False, key=None)
    step = steps.make_train_step(
      noise_free, objectives.make_objective({'kl': {}}), optimizer,
      lambda s: 1.0,
    )  # fmt: skip
    expected, sums = step(expected, batch, key, SETTINGS)
    totals = {n: totals.get(n, 0) + value for n, value in sums.items()}
  program, _ = _program(step)
  state, sums = program.run(
    state,
    program.zero_sums(),
    order,
    arrays,
    {},
    NUM_EXAMPLES,
    0,
    7,
    key,
    SETTINGS,
  )
  assert sums['count'] == 50
  for name, total in totals.items():
    np.testing.assert_allclose(sums[name], total, rtol=1e-5)
  np.testing.assert_allclose(state.params['w'], expected.params['w'], rtol=1e-5)


def test_chunks_do_not_change_the_result():
  program, state = _program()
  arrays, key = _arrays(), jax.random.key(3)
  order = program.order(jnp.ones(NUM_EXAMPLES, bool), key)
  results = []
  for bounds in ((0, 7), (0, 1, 5, 7)):
    s, sums = _copy(state), program.zero_sums()
    for start, stop in zip(bounds, bounds[1:], strict=False):
      s, sums = program.run(
        s, sums, order, arrays, {}, NUM_EXAMPLES, start, stop, key, SETTINGS
      )
    results.append((s, sums))
  _assert_equal(*results)


def test_a_loop_on_the_host_gives_what_one_on_the_device_gives():
  results = []
  for loop in ('device', 'host'):
    program, state = _program(loop=loop)
    results.append(
      [(_copy(r.state), r.sums, r.compile_s > 0) for r in _fit(program, state)]
    )
  for (on_device, sums, _), (on_host, host_sums, _) in zip(
    *results, strict=True
  ):
    np.testing.assert_allclose(
      on_host.params['w'], on_device.params['w'], rtol=1e-5
    )
    assert on_host.step == on_device.step
    for name, total in sums.items():
      np.testing.assert_allclose(host_sums[name], total, rtol=1e-5)


def test_a_step_on_the_host_is_compiled_before_the_clock_starts():
  program, state = _program(loop='host')
  first = next(_fit(program, state))
  assert first.compile_s > 5 * first.train_s
  # A fold has 33 examples and 5 steps; the steps of the compilation are undone.
  assert first.state.step == 5


def test_the_remainder_of_an_epoch_can_be_dropped():
  program, state = _program(drop_remainder=True)
  phases = _phases(epochs=1, folds=0)
  assert train.epoch_size(phases[0], 8, True) == (48, 6)
  assert train.epoch_size(phases[0], 8, False) == (50, 7)
  assert train.num_steps(phases, 8, drop_remainder=True) == 6
  (result,) = train.fit(
    program, state, _arrays(), phases, key=jax.random.key(0),
    settings=lambda epoch: SETTINGS,
  )  # fmt: skip
  assert result.sums['count'] == 48
  assert result.state.step == 6


def _recorded(seen):
  """Returns an augmentation whose million views are the unchanged image."""

  def apply(images, views):
    record = lambda images, views: seen.append((images, views))
    jax.debug.callback(record, images, views)
    return images

  choose = jax.vmap(lambda key: jax.random.randint(key, (), 0, 1_000_000))
  return augmentation.Augmentation(1_000_000, choose, apply)


def test_augmentation_is_a_function_of_seed_epoch_and_example():
  """The views do not depend on the batch size or on the loop."""
  seen = []

  def run(batch_size, key, loop='device'):
    seen.clear()
    program = train.make_program(
      lambda state, batch, key, settings: (
        state,
        {'loss': jnp.float32(0), 'correct': 0.0, 'count': 0.0},
      ),
      preprocessing.unit,
      batch_size=batch_size,
      names=('loss',),
      augmentation=_recorded(seen),
      loop=loop,
    )
    order = program.order(jnp.ones(NUM_EXAMPLES, bool), key)
    own = train.own_arrays(program, key, NUM_EXAMPLES)
    jax.block_until_ready(
      program.run(
        _state(optax.identity()), program.zero_sums(), order, _arrays(), own,
        NUM_EXAMPLES, 0, NUM_EXAMPLES // batch_size, key, SETTINGS,
      )
    )  # fmt: skip
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


@pytest.mark.parametrize('num_seeds', [None, 2])
def test_an_epoch_learns_from_the_teacher_of_its_own_views(num_seeds):
  """The loss of an epoch uses the teacher's logits of that epoch's views."""
  asked = []

  def teacher_of_views(views):
    asked.append(views)
    return np.stack([views, -views, 0 * views], axis=1).astype(np.float32)

  def train_step(state, batch, key, settings):
    first = batch['teacher_logits'][:, 0]
    total = jnp.sum(first * batch['mask'] * (1 + batch['labels']))
    count = jnp.sum(batch['mask'])
    return state, {'loss': total, 'correct': count, 'count': count}

  program = train.make_program(
    train_step,
    preprocessing.unit,
    batch_size=BATCH_SIZE,
    names=steps.SUMS,
    augmentation=_recorded([]),
    num_seeds=num_seeds,
  )
  key, state = jax.random.key(0), _state(optax.identity())
  if num_seeds:
    key = jax.random.split(key, num_seeds)
    state = jax.tree.map(lambda leaf: jnp.stack([leaf] * num_seeds), state)
  arrays = _arrays()
  del arrays['teacher_logits']
  results = [
    result.sums
    for result in train.fit(
      program, state, arrays, _phases(epochs=2, folds=0), key=key,
      settings=lambda epoch: SETTINGS, teacher_of_views=teacher_of_views,
    )
  ]  # fmt: skip
  expected = [
    np.sum(views.astype(np.float64) * (1 + np.asarray(arrays['labels'])))
    for views in asked
  ]
  assert len({views.tobytes() for views in asked}) == 2 * (num_seeds or 1)
  np.testing.assert_allclose(
    np.ravel([sums['loss'] for sums in results]), expected, rtol=1e-5
  )


@pytest.mark.parametrize('live', [False, True])
def test_mixup_mixes_images_as_its_targets_say(live):
  """An image's shade is its label and its teacher's logit."""
  shades = np.arange(NUM_EXAMPLES)
  arrays = {
    'images': jnp.asarray(np.tile(shades[:, None], 4), 'uint8').reshape(
      -1, 2, 2, 1
    ),
    'labels': jnp.asarray(shades),
    'teacher_logits': jnp.asarray(shades[:, None], 'float32'),
  }
  if live:
    arrays['teacher'] = arrays.pop('teacher_logits')  # Any array works.

  def train_step(state, batch, key, settings):
    share, both = batch['share'], batch | batch['partner']
    mixed = lambda name: share * batch[name] + (1 - share) * both[name]
    shade = 255 * jnp.mean(batch['images'], axis=(1, 2, 3))
    wrong = jnp.abs(mixed('labels') - shade)
    wrong += jnp.abs(mixed('teacher_logits')[:, 0] - shade)
    count = jnp.sum(batch['mask'])
    return state, {'loss': jnp.max(wrong), 'correct': share, 'count': count}

  program = train.make_program(
    train_step,
    preprocessing.unit,
    batch_size=BATCH_SIZE,
    names=steps.SUMS,
    mixup_alpha=1.0,
    teacher=(
      (lambda variables, images: {'teacher_logits': images[:, 0, 0]})
      if live
      else None
    ),
    drop_remainder=True,
  )
  first, second = (
    result.sums
    for result in train.fit(
      program, _state(optax.identity()), arrays, _phases(epochs=2, folds=0),
      key=jax.random.key(0), settings=lambda epoch: SETTINGS,
    )
  )  # fmt: skip
  assert first['loss'] < 1e-3 and second['loss'] < 1e-3
  # Each epoch draws new shares.
  assert first['correct'] != second['correct']
  assert 0 < first['correct'] < 6


def test_a_run_is_reproducible_and_another_key_differs():
  program, state = _program()
  first = [r.state for r in _fit(program, _copy(state))][-1]
  second = [r.state for r in _fit(program, _copy(state))][-1]
  _assert_equal(first, second)
  (*_, other) = train.fit(
    program, state, _arrays(), _phases(), key=jax.random.key(8),
    settings=lambda epoch: SETTINGS,
  )  # fmt: skip
  assert (other.state.params['w'] != first.params['w']).any()


@pytest.mark.parametrize('done_epochs', [1, 2, 5, 7])
def test_resume_is_exact(done_epochs):
  """All epochs at once equal some, a restart, and the rest."""
  program, state = _program()
  whole = [(r.epoch, _copy(r.state)) for r in _fit(program, _copy(state))]
  assert [epoch for epoch, _ in whole] == list(range(8))
  epochs = _fit(program, _copy(state))
  for _ in range(done_epochs):
    saved = next(epochs).state
  saved = jax.tree.map(np.asarray, saved)  # as a checkpoint holds it
  program, _ = _program()  # a new process compiles anew
  rest = [
    (r.epoch, _copy(r.state))
    for r in _fit(
      program, jax.tree.map(jnp.asarray, saved), done_epochs=done_epochs
    )
  ]
  assert [epoch for epoch, _ in rest] == list(range(done_epochs, 8))
  _assert_equal(rest[-1][1], whole[-1][1])


@pytest.mark.parametrize('done_epochs', [0, 3])
def test_an_interrupted_epoch_resumes_exactly(done_epochs, monkeypatch):
  monkeypatch.setattr(train, '_CALL_S', 0.0)  # One step a call.
  program, state = _program()
  *_, whole = _fit(program, _copy(state))
  whole = _copy(whole.state), whole.sums
  partials = [
    result._replace(**_copy({'state': result.state, 'sums': result.sums}))
    for result in _fit(program, _copy(state), partial_every_s=0.0)
    if isinstance(result, train.Partial)
  ]
  partial = next(p for p in partials if p.epoch == done_epochs)
  assert partial.step > 0 and partial.train_s > 0
  program, _ = _program()
  results = list(
    _fit(program, _copy(state), done_epochs=done_epochs, partial=partial)
  )
  assert [result.epoch for result in results] == list(range(done_epochs, 8))
  assert results[0].train_s > partial.train_s
  _assert_equal(results[-1].state, whole[0])
  for name, total in whole[1].items():
    np.testing.assert_array_equal(results[-1].sums[name], total)


def test_settings_follow_the_epoch_over_all_phases():
  seen = []

  def settings(epoch):
    seen.append(epoch)
    return SETTINGS._replace(learning_rate=jnp.float32(0 if epoch < 7 else 1))

  program, state = _program()
  before = np.asarray(state.params['w'])
  results = [
    np.asarray(r.state.params['w'])
    for r in _fit(program, state, settings=settings)
  ]
  assert set(seen) == set(range(8))
  np.testing.assert_array_equal(results[6], before)
  assert (results[7] != before).any()


def test_the_optimizer_state_is_kept_unless_it_is_reset():
  program, state = _program()
  optimizer = optax.trace(0.9)
  resets = []

  def reset(state):
    resets.append(int(state.step))
    return steps.reset_optimizer(state, optimizer)

  carried = [_copy(r.state) for r in _fit(program, _copy(state))]
  restarted = [
    _copy(r.state) for r in _fit(program, _copy(state), reset_optimizer=reset)
  ]
  # Folds of 33 and 34 examples: 5 steps an epoch, two epochs a fold.
  assert resets == [10, 20, 30]
  _assert_equal(carried[1], restarted[1])
  assert (carried[2].params['w'] != restarted[2].params['w']).any()


def test_the_step_is_traced_once_for_all_epochs_subsets_and_settings():
  traces = []
  optimizer = optax.trace(0.9)
  step = steps.make_train_step(
    _apply, objectives.make_objective({'kl': {}}), optimizer, lambda s: 1.0
  )

  def counted(*args):
    traces.append(1)
    return step(*args)

  program, state = _program(counted)
  settings = lambda epoch: SETTINGS._replace(
    learning_rate=jnp.float32(epoch / 10)
  )
  results = list(_fit(program, state, settings=settings))
  assert len(results) == 8
  # The loop traces its body once for the types, and once for the compilation.
  first = len(traces)
  assert first <= 2
  list(_fit(program, _copy(results[-1].state), settings=settings))
  assert len(traces) == first


def test_seeds_side_by_side_equal_seeds_one_by_one():
  single, _ = _program()
  several, _ = _program(num_seeds=2)
  optimizer = optax.trace(0.9)
  states = [_state(optimizer, seed) for seed in (0, 1)]
  keys = jnp.stack([jax.random.key(seed) for seed in (0, 1)])
  run = lambda program, state, key: [
    (_copy(r.state), r.sums)
    for r in train.fit(
      program, state, _arrays(), _phases(), key=key,
      settings=lambda epoch: SETTINGS,
    )
  ][-1]  # fmt: skip
  one_by_one = [
    run(single, _copy(s), k) for s, k in zip(states, keys, strict=True)
  ]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
  together, sums = run(several, stacked, keys)
  for i, (state, own_sums) in enumerate(one_by_one):
    np.testing.assert_allclose(
      together.params['w'][i], state.params['w'], rtol=1e-5
    )
    np.testing.assert_allclose(sums['loss'][i], own_sums['loss'], rtol=1e-5)


def test_a_loss_that_is_not_finite_stops_with_step_and_settings():
  program, state = _program()
  settings = lambda epoch: SETTINGS._replace(
    learning_rate=jnp.float32(jnp.inf if epoch == 3 else 0.1)
  )
  done = []
  with pytest.raises(
    train.NonFiniteLoss,
    match=r'step 1 of epoch 3 \(fold1\), with learning_rate=inf, '
    r'ce_weight=0, kd_weight=1, temperature=2',
  ):
    for result in _fit(program, state, settings=settings):
      done.append(result.epoch)
  assert done == [0, 1, 2]


def test_a_last_step_that_ruins_the_network_is_an_error():
  program, state = _program()
  settings = SETTINGS._replace(learning_rate=jnp.float32(jnp.inf))
  phase = train.Phase('fit', 1, np.arange(NUM_EXAMPLES) < BATCH_SIZE)
  (loss,) = (
    result.sums['loss']
    for result in train.fit(
      program, state, _arrays(), [phase], key=jax.random.key(7),
      settings=lambda epoch: SETTINGS,
    )
  )  # fmt: skip
  # The loss of the only step is computed before its update.
  assert np.isfinite(loss)
  with pytest.raises(
    train.NonFiniteLoss, match=r"params\['w'\] is not finite.*epoch 0 \(fit\)"
  ):
    list(
      train.fit(
        program, _program()[1], _arrays(), [phase], key=jax.random.key(7),
        settings=lambda epoch: settings,
      )
    )  # fmt: skip


def test_the_loss_falls():
  program, state = _program()
  losses = [r.sums['loss'] / r.sums['count'] for r in _fit(program, state)]
  assert losses[-1] < 0.5 * losses[0]
