"""The loop over epochs: reproducible, resumed exactly, compiled once."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_jax.data import preprocessing
from kd_jax.training import epoch_loop, pace, step
from kd_jax.training.batch import Pipeline
from kd_jax.training.epoch_inputs import ExampleReader
from kd_jax.training.example_source import ExampleSource
from tests import helpers
from tests.training import toy_training as toy


def test_a_loop_on_the_host_gives_what_one_on_the_device_gives():
  results = []
  for loop in ('device', 'host'):
    functions = toy.make_epoch_functions(loop=loop)
    results.append(
      [
        (toy.copy(r.state), r.sums)
        for r in toy.run_epochs(functions, toy.init_state())
      ]
    )
  for (on_device, sums), (on_host, host_sums) in zip(*results, strict=True):
    np.testing.assert_allclose(
      on_host.params['w'], on_device.params['w'], rtol=1e-5
    )
    assert on_host.step == on_device.step
    for name, total in sums.items():
      np.testing.assert_allclose(host_sums[name], total, rtol=1e-5)


def test_a_step_on_the_host_is_compiled_before_the_clock_starts():
  functions = toy.make_epoch_functions(loop='host')
  with helpers.compilations_as_seconds(epoch_loop, pace):
    first = next(toy.run_epochs(functions, toy.init_state()))
  assert first.compile_s >= 1 > first.train_s
  # A fold has 33 examples and 5 steps; the steps of the compilation are undone.
  assert first.state.step == 5


def test_a_long_compilation_is_shown(monkeypatch):
  shown = []
  show = lambda bar, what: shown.append(what) or contextlib.nullcontext()
  monkeypatch.setattr(epoch_loop.bars, 'say_if_slow', show)
  functions = toy.make_epoch_functions(loop='host')
  assert len([*toy.run_epochs(functions, toy.init_state())]) > 1
  assert shown == ['compiling']


def test_an_epoch_can_leave_out_its_remainder():
  (result,) = toy.run_epochs(
    toy.make_epoch_functions(),
    toy.init_state(),
    drop_remainder=True,
    phases=toy.make_phases(epochs=1, folds=0),
    key=jax.random.key(0),
  )
  assert result.sums['count'] == 48
  assert result.state.step == 6


def _batches(examples, order):
  """Yields batches of examples on the host, as a reader of a disk does."""
  examples = jax.device_get(examples)
  for start in range(0, len(order), toy.BATCH_SIZE):
    index = order[start : start + toy.BATCH_SIZE]
    yield jax.tree.map(lambda array, i=index: array[i], examples)


@pytest.mark.parametrize('done_epochs', [0, 3])
def test_examples_that_are_read_from_disk_give_the_same_result(done_epochs):
  functions = toy.make_epoch_functions(loop='host')
  *_, expected = toy.run_epochs(functions, toy.init_state())
  reader = ExampleReader(lambda order: _batches(toy.examples(), order))
  epochs = toy.run_epochs(
    functions, toy.init_state(), source=ExampleSource(reader)
  )
  state = toy.init_state()
  for _ in range(done_epochs):
    state = next(epochs).state
  *_, result = toy.run_epochs(
    functions,
    state,
    source=ExampleSource(reader),
    done_epochs=done_epochs,
  )
  np.testing.assert_allclose(
    result.state.params['w'], expected.state.params['w'], rtol=1e-5
  )
  for name, total in expected.sums.items():
    np.testing.assert_allclose(result.sums[name], total, rtol=1e-5)


def test_each_epoch_opens_its_reader_once():
  """The first epoch's reader serves the compilation, too."""
  opened = []

  def batches(order):
    opened.append(len(order))
    return _batches(toy.examples(), order)

  results = toy.run_epochs(
    toy.make_epoch_functions(),
    toy.init_state(),
    source=ExampleSource(ExampleReader(batches)),
    phases=toy.make_phases(epochs=2, folds=0),
  )
  assert [int(result.sums['count']) for result in results] == [50, 50]
  assert opened == [56, 56]


@pytest.mark.parametrize('num_seeds', [None, 2])
def test_an_epoch_learns_from_the_teacher_of_its_own_views(num_seeds):
  """The loss of an epoch uses the teacher's logits of that epoch's views."""
  asked = []

  def view_logits(views):
    asked.append(views)
    return np.stack([views, -views, 0 * views], axis=1).astype(np.float32)

  def train_step(state, batch, key, hyperparameters):
    first = batch.teacher_logits[:, 0]
    total = jnp.sum(first * batch.mask * (1 + batch.labels))
    count = jnp.sum(batch.mask)
    return state, {'loss': total, 'correct': count, 'count': count}

  functions = toy.make_epoch_functions(
    train_step,
    pipeline=Pipeline(preprocessing.unit, toy.recording_augmentation([])),
    sum_names=step.SUM_NAMES,
    num_seeds=num_seeds,
  )
  key, state = jax.random.key(0), toy.init_state(optax.identity())
  if num_seeds:
    key = jax.random.split(key, num_seeds)
    state = jax.tree.map(lambda leaf: jnp.stack([leaf] * num_seeds), state)
  examples = toy.examples()._replace(teacher_logits=None)
  results = [
    result.sums
    for result in toy.run_epochs(
      functions,
      state,
      source=ExampleSource(examples, epoch_view_logits=view_logits),
      phases=toy.make_phases(epochs=2, folds=0),
      key=key,
    )
  ]
  expected = [
    np.sum(views.astype(np.float64) * (1 + np.asarray(examples.labels)))
    for views in asked
  ]
  assert len({views.tobytes() for views in asked}) == 2 * (num_seeds or 1)
  np.testing.assert_allclose(
    np.ravel([sums['loss'] for sums in results]), expected, rtol=1e-5
  )


def test_a_run_is_reproducible_and_another_key_differs():
  functions = toy.make_epoch_functions()
  last_state = lambda **options: [
    r.state for r in toy.run_epochs(functions, toy.init_state(), **options)
  ][-1]
  first, second = last_state(), last_state()
  toy.assert_equal(first, second)
  other = last_state(key=jax.random.key(8))
  assert (other.params['w'] != first.params['w']).any()


@pytest.mark.parametrize('done_epochs', [1, 2, 5, 7])
def test_resume_is_exact(done_epochs):
  """All epochs at once equal some, a restart, and the rest."""
  functions = toy.make_epoch_functions()
  whole = [
    (r.epoch, toy.copy(r.state))
    for r in toy.run_epochs(functions, toy.init_state())
  ]
  assert [index for index, _ in whole] == list(range(8))
  epochs = toy.run_epochs(functions, toy.init_state())
  for _ in range(done_epochs):
    saved = next(epochs).state
  saved = jax.tree.map(np.asarray, saved)  # as a checkpoint holds it
  functions = toy.make_epoch_functions()  # a new process compiles anew
  rest = [
    (r.epoch, toy.copy(r.state))
    for r in toy.run_epochs(
      functions, jax.tree.map(jnp.asarray, saved), done_epochs=done_epochs
    )
  ]
  assert [index for index, _ in rest] == list(range(done_epochs, 8))
  toy.assert_equal(rest[-1][1], whole[-1][1])


@pytest.mark.parametrize('done_epochs', [0, 3])
def test_an_interrupted_epoch_resumes_exactly(done_epochs, monkeypatch):
  monkeypatch.setattr(pace, 'CALL_S', 0.0)  # One step a call.
  functions = toy.make_epoch_functions()
  *_, whole = toy.run_epochs(functions, toy.init_state())
  whole = toy.copy(whole.state), whole.sums
  saved = []
  for _ in toy.run_epochs(
    functions,
    toy.init_state(),
    save_mid_epoch=lambda position: saved.append(
      position._replace(
        state=toy.copy(position.state), totals=toy.copy(position.totals)
      )
    ),
    save_every_s=0.0,
  ):
    pass
  position = next(p for p in saved if p.epoch == done_epochs)
  assert position.step_in_epoch > 0 and position.train_s > 0
  functions = toy.make_epoch_functions()
  results = list(
    toy.run_epochs(
      functions, toy.init_state(), done_epochs=done_epochs, mid_epoch=position
    )
  )
  assert [result.epoch for result in results] == list(range(done_epochs, 8))
  assert results[0].train_s > position.train_s
  toy.assert_equal(results[-1].state, whole[0])
  for name, total in whole[1].items():
    np.testing.assert_array_equal(results[-1].sums[name], total)


def test_hyperparameters_follow_the_epoch_over_all_phases():
  seen = []

  def hyperparameters_of_epoch(index):
    seen.append(index)
    return toy.HYPERPARAMETERS._replace(
      learning_rate=jnp.float32(0 if index < 7 else 1)
    )

  state = toy.init_state()
  before = np.asarray(state.params['w'])
  results = [
    np.asarray(r.state.params['w'])
    for r in toy.run_epochs(
      toy.make_epoch_functions(),
      state,
      hyperparameters_of_epoch=hyperparameters_of_epoch,
    )
  ]
  assert set(seen) == set(range(8))
  np.testing.assert_array_equal(results[6], before)
  assert (results[7] != before).any()


def test_the_optimizer_state_is_kept_unless_it_is_reset():
  functions, resets = toy.make_epoch_functions(), []

  def reset(state):
    resets.append(int(state.step))
    return step.reset_optimizer(state, toy.OPTIMIZER)

  states = lambda **options: [
    toy.copy(r.state)
    for r in toy.run_epochs(functions, toy.init_state(), **options)
  ]
  carried, restarted = states(), states(reset_optimizer=reset)
  # Folds of 33 and 34 examples: 5 steps per epoch, two epochs per fold.
  assert resets == [10, 20, 30]
  toy.assert_equal(carried[1], restarted[1])
  assert (carried[2].params['w'] != restarted[2].params['w']).any()


def test_the_step_is_traced_once_for_all_epochs_subsets_and_rates():
  traces, train_step = [], toy.make_step()

  def counted(*args):
    traces.append(1)
    return train_step(*args)

  functions = toy.make_epoch_functions(counted)
  hyperparameters_of_epoch = lambda index: toy.HYPERPARAMETERS._replace(
    learning_rate=jnp.float32(index / 10)
  )
  run = lambda state: list(
    toy.run_epochs(
      functions, state, hyperparameters_of_epoch=hyperparameters_of_epoch
    )
  )
  results = run(toy.init_state())
  assert len(results) == 8
  # The loop traces its body once for the types, and once for the compilation.
  first = len(traces)
  assert first <= 2
  run(toy.copy(results[-1].state))
  assert len(traces) == first


def test_seeds_side_by_side_equal_seeds_one_by_one():
  single, several = (
    toy.make_epoch_functions(),
    toy.make_epoch_functions(num_seeds=2),
  )
  states = [toy.init_state(seed=seed) for seed in (0, 1)]
  keys = jnp.stack([jax.random.key(seed) for seed in (0, 1)])
  run = lambda functions, state, key: [
    (toy.copy(r.state), r.sums)
    for r in toy.run_epochs(functions, state, key=key)
  ][-1]
  one_by_one = [
    run(single, toy.copy(s), k) for s, k in zip(states, keys, strict=True)
  ]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
  together, sums = run(several, stacked, keys)
  for i, (state, single_sums) in enumerate(one_by_one):
    np.testing.assert_allclose(
      together.params['w'][i], state.params['w'], rtol=1e-5
    )
    np.testing.assert_allclose(sums['loss'][i], single_sums['loss'], rtol=1e-5)


def test_the_loss_falls():
  losses = [
    r.sums['loss'] / r.sums['count']
    for r in toy.run_epochs(toy.make_epoch_functions(), toy.init_state())
  ]
  assert losses[-1] < 0.5 * losses[0]
