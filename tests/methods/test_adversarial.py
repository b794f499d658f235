"""Attacks, and opponents that learn in the same step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references

from configs import base
from kd_jax import losses, models
from kd_jax.methods import adversarial, attacks
from kd_jax.training import build, objectives, optimizers, steps

RANGE = (jnp.zeros((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1)))


def _linear(weights):
  return lambda images: images.reshape(images.shape[0], -1) @ weights


def _images(seed=0, batch=5):
  rng = np.random.default_rng(seed)
  images = jnp.asarray(rng.uniform(size=(batch, 3, 3, 1)), 'float32')
  weights = jnp.asarray(rng.normal(size=(9, 4)), 'float32')
  return images, jnp.arange(batch) % 4, weights


@pytest.mark.parametrize('unroll', [False, True])
def test_an_attack_stays_near_and_in_range_and_raises_the_loss(unroll):
  images, labels, weights = _images()
  attacked = attacks.pgd(
    _linear(weights), images, labels, RANGE, jax.random.key(0),
    epsilon=0.1, step_size=0.03, num_steps=10, unroll=unroll,
  )  # fmt: skip
  assert np.all(np.abs(attacked - images) <= 0.1 + 1e-6)
  assert np.all((attacked >= 0) & (attacked <= 1))
  before, after = (
    losses.cross_entropy(_linear(weights)(x), labels)
    for x in (images, attacked)
  )
  assert np.all(after > before)


def test_of_two_classes_of_a_linear_network_an_attack_finds_the_worst_point():
  images, labels, weights = _images()
  labels, weights = labels % 2, weights[:, :2]
  attacked = attacks.pgd(
    _linear(weights), images, labels, RANGE, jax.random.key(0),
    epsilon=0.1, step_size=0.05, num_steps=10,
  )  # fmt: skip
  # Against the label: the other class's weights less the label's.
  signs = np.where(np.asarray(labels) == 0, 1, -1)[:, None]
  direction = signs * np.sign(weights[:, 1] - weights[:, 0])[None]
  expected = np.clip(images + 0.1 * direction.reshape(images.shape), 0, 1)
  np.testing.assert_allclose(attacked, expected, atol=1e-5)


def test_an_attack_is_in_shares_of_the_range():
  images, labels, weights = _images()
  wide = (RANGE[0] * 4 - 2, RANGE[1] * 4 - 2)  # -2 to 2
  settings = dict(epsilon=0.1, step_size=0.05, num_steps=10)
  attack = lambda fn, x, image_range: attacks.pgd(
    fn, x, labels, image_range, jax.random.key(0), **settings
  )
  narrow = attack(_linear(weights), images, RANGE)
  scaled = attack(lambda x: _linear(weights)((x + 2) / 4), images * 4 - 2, wide)
  np.testing.assert_allclose((scaled + 2) / 4, narrow, atol=1e-5)


def _step(method, options=None):
  section = base.mlp((16,))
  module = build.model(section, 4)
  task = build.task(section, section, 'unit', 4, (3, 3, 1))
  objective = objectives.make_objective({method: options or {}}, task=task)
  optimizer = optimizers.make_optimizer(
    'sgd', momentum=0.0, nesterov=False, weight_decay=0.0
  )
  variables = build.init_variables(module, (3, 3, 1), jax.random.key(0))
  state = steps.init_state(
    variables, optimizer, objective.init(jax.random.key(1))
  )
  step = steps.make_train_step(
    build.apply_fn(module), objective, optimizer, lambda step: 1.0
  )
  images, labels, _ = _images(batch=8)
  rng = np.random.default_rng(1)
  batch = {
    'images': images,
    'labels': labels,
    'mask': jnp.ones(8),
    'teacher_logits': jnp.asarray(rng.normal(size=(8, 4)), 'float32'),
    'teacher_features': {
      'hidden0': jnp.asarray(rng.uniform(size=(8, 16)), 'float32')
    },
  }
  return jax.jit(step), state, batch


def _settings(rate, **options):
  return steps.Settings(rate, objectives.Weights(0.0, 1.0, 2.0, options))


def _run(step, state, batch, settings, count=60):
  """Returns the state after these steps, and the means of the last one."""
  for _ in range(count):
    state, sums = step(state, batch, jax.random.key(0), settings)
  return state, {name: value / 8 for name, value in sums.items()}


@pytest.mark.parametrize(
  'method, options',
  [('adversarial_logits', {}), ('adversarial_features', {'doubt': 0.0})],
)
def test_an_opponent_learns_to_tell_and_the_student_to_deceive(method, options):
  step, state, batch = _step(method)
  run = functools.partial(_run, step, batch=batch)

  # A student that stands still is told from the teacher.
  still, sums = run(state, settings=_settings(0.0, **{method: options}))
  assert sums[f'{method}_rival'] < 0.5 * 2 * np.log(2)
  jax.tree.map(np.testing.assert_array_equal, state.params, still.params)
  # Against an opponent that stands still, it learns to be taken for it.
  frozen = objectives.Weights(
    0.0, 1.0, 2.0, {method: {'weight': 1.0, 'rival_rate': 0.0}}
  )
  frozen = steps.Settings(0.05, frozen)
  after, sums = run(still, settings=frozen, count=30)
  jax.tree.map(
    np.testing.assert_array_equal, still.learned.rivals, after.learned.rivals
  )
  _, first = run(still, settings=frozen, count=1)
  assert sums[method] < first[method]


@pytest.mark.parametrize(
  'method', ['adversarial_logits', 'adversarial_features']
)
def test_in_a_step_the_opponent_learns_first_and_then_the_student(method):
  step, state, batch = _step(method)
  run = functools.partial(_run, step, batch=batch, count=1)
  rates = lambda student, rival: steps.Settings(
    student, objectives.Weights(0.0, 1.0, 2.0, {method: {'rival_rate': rival}})
  )
  both, _ = run(state, settings=rates(0.1, 0.05))
  told, _ = run(state, settings=rates(0.0, 0.05))
  after, _ = run(told, settings=rates(0.1, 0.0))
  for own, expected in (
    (both.learned.rivals, told.learned.rivals),
    (both.params, after.params),
    (both.learned.adapters, after.learned.adapters),
  ):
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
      own,
      expected,
    )
  # Not against what the opponent was before.
  before, _ = run(state, settings=rates(0.1, 0.0))
  different = jax.tree.map(
    lambda a, b: np.abs(a - b).max() > 1e-4, both.params, before.params
  )
  assert any(jax.tree.leaves(different))


def test_an_opponent_in_doubt_leaves_the_student_something_to_learn_from():
  losses = {}
  for doubt in (0.0, 1.0):
    step, state, batch = _step('adversarial_features')
    settings = _settings(0.0, adversarial_features={'doubt': doubt})
    _, sums = _run(step, state, batch, settings, count=300)
    losses[doubt] = sums['adversarial_features']
  assert losses[0.0] > 3
  # Of a student that is told apart, half is taken for the teacher's.
  assert losses[1.0] == pytest.approx(np.log(2), rel=0.1)


def test_a_peer_learns_beside_the_student_and_another_network_than_it():
  step, state, batch = _step('mutual')
  peer = state.learned.adapters['mutual']
  assert jax.tree.structure(peer) == jax.tree.structure(state.params)
  different = jax.tree.map(lambda a, b: (a != b).any(), peer, state.params)
  assert any(jax.tree.leaves(different))
  settings = steps.Settings(0.2, objectives.Weights(1.0, 1.0, 1.0))
  first = None
  for _ in range(80):
    state, sums = step(state, batch, jax.random.key(0), settings)
    first = first or sums
  assert sums['ce'] < 0.7 * first['ce']
  assert sums['mutual_peer'] < 0.7 * first['mutual_peer']


def test_a_peer_learns_from_labels_as_the_student_whatever_the_methods_weight():
  step, state, batch = _step('mutual')
  for kd_weight in (0.0, 1e-6):
    settings = steps.Settings(
      0.2, objectives.Weights(1.0, kd_weight, 1.0, {'mutual': {'weight': 0.3}})
    )
    # From where the student starts, it goes where the student goes.
    twins = state._replace(
      learned=state.learned._replace(adapters={'mutual': state.params}),
    )
    twins, sums = step(twins, batch, jax.random.key(0), settings)
    assert sums['mutual_peer'] == pytest.approx(float(sums['ce']), rel=1e-6)
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
      twins.learned.adapters['mutual'],
      twins.params,
    )


def test_a_robust_student_answers_as_the_teacher_where_it_is_attacked():
  step, state, batch = _step('ard', {'num_steps': 3})
  first = None
  for i in range(80):
    state, sums = step(state, batch, jax.random.key(i), _settings(rate=0.2))
    first = first or sums
  assert sums['ard'] < 0.5 * first['ard']


def test_a_robust_students_loss_is_kl_at_the_worst_images():
  images, labels, weights = _images()
  labels, weights = labels % 2, weights[:, :2]
  teacher = jnp.asarray(np.random.default_rng(1).normal(size=(5, 2)), 'float32')
  loss = adversarial.ard(
    _linear(weights), images, RANGE, teacher, labels, jax.random.key(0), False,
    temperature=3.0, epsilon=0.1, step_size=0.05, num_steps=10,
  )  # fmt: skip
  signs = np.where(np.asarray(labels) == 0, 1, -1)[:, None]
  direction = signs * np.sign(weights[:, 1] - weights[:, 0])[None]
  worst = np.clip(images + 0.1 * direction.reshape(images.shape), 0, 1)
  student = np.float64(worst.reshape(5, -1)) @ np.float64(weights)
  np.testing.assert_allclose(
    loss,
    references.kl(student, np.float64(teacher), temperature=3.0),
    rtol=1e-4,
  )


def test_without_an_attack_robust_distillation_is_kl():
  _, state, batch = _step('ard')
  module = models.MLP(hidden=(16,), num_classes=4)
  logits, _ = module.apply(state.variables, batch['images'], train=True)
  loss = adversarial.ard(
    lambda x: module.apply(state.variables, x, train=True)[0],
    batch['images'],
    RANGE,
    batch['teacher_logits'],
    batch['labels'],
    jax.random.key(0),
    False,
    temperature=2.0,
    epsilon=0.0,
  )
  np.testing.assert_allclose(
    loss,
    losses.kl(logits, batch['teacher_logits'], temperature=2.0),
    rtol=1e-5,
  )
