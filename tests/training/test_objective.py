"""Objectives: weights by name, masks and schedules.

Also tests `kd_jax/training/method_terms.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import losses, methods
from kd_jax.training import method_terms
from kd_jax.training import objective as objectives
from kd_jax.training.batch import Batch, Mixture, Targets
from kd_jax.training.hyperparameters import Hyperparameters

LOGITS = jnp.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0], [5.0, 0.0, 1.0]])
BATCH = Batch(
  images=None,
  labels=jnp.array([0, 1, 2]),
  mask=jnp.ones(3),
  teacher_logits=jnp.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0], [1.0, 1.0, 1.0]]),
)
ONES = jnp.ones(3)


def _weights(ce_weight, kd_weight, temperature=2.0):
  return Hyperparameters(0.1, ce_weight, kd_weight, temperature)


def _terms(objective, logits, batch, weights):
  """Returns an objective's terms for a student without features."""
  return objective.terms(
    method_terms.TermInputs(
      method_terms.NO_METHOD_PARAMS,
      method_terms.StudentOutputs(logits, {}),
      batch,
      weights,
    )
  )


def test_the_loss_is_the_weighted_sum_of_ce_and_kl():
  ce = jnp.mean(losses.cross_entropy(LOGITS, BATCH.labels))
  kd = jnp.mean(losses.kl(LOGITS, BATCH.teacher_logits, temperature=2.0))
  objective = objectives.make_objective({'kl': {}}, method_terms.MethodSetup())
  for ce_weight, kd_weight in ((1, 0), (0, 1), (0.3, 0.9)):
    weights = _weights(ce_weight, kd_weight)
    terms = _terms(objective, LOGITS, BATCH, weights)
    loss, means = objectives.combine(terms, weights, ONES)
    np.testing.assert_allclose(loss, ce_weight * ce + kd_weight * kd, rtol=1e-6)
    np.testing.assert_allclose(means['ce'], ce, rtol=1e-6)
    np.testing.assert_allclose(means['kl'], kd, rtol=1e-6)


def test_a_mask_is_a_subset_even_where_the_rest_is_not_finite():
  objective = objectives.make_objective({'kl': {}}, method_terms.MethodSetup())
  weights = _weights(0.5, 0.5)
  subset = jax.tree.map(lambda array: array[:2], BATCH)
  expected, _ = objectives.combine(
    _terms(objective, LOGITS[:2], subset, weights),
    weights,
    jnp.ones(2),
  )
  terms = _terms(objective, LOGITS, BATCH, weights)
  terms['kl'] = terms['kl'].at[2].set(jnp.nan)
  loss, _ = objectives.combine(terms, weights, jnp.array([1.0, 1.0, 0.0]))
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_padding_of_the_teacher_that_is_not_finite_leaves_gradients_finite():
  """Padding may have labels outside the classes."""
  shapes = {'map': (2, 2, 4)}
  names = ('squared_error', 'vid', 'quantized', 'adversarial_features')
  setup = method_terms.MethodSetup(
    num_classes=3,
    student_shapes=shapes,
    teacher_shapes=shapes,
    feature_levels=15,
    image_range=(jnp.zeros(()), jnp.ones(())),
    init_peer=lambda key: {},
    peer_fn=lambda params, images, key: images,
    unroll=False,
  )
  objective = objectives.make_objective(
    {
      name: methods.split_options(methods.METHODS[name].options)[1]
      for name in names
    },
    setup,
  )
  maps = jax.random.normal(jax.random.key(0), (3, 2, 2, 4))
  mask = jnp.array([1.0, 1.0, 0.0])
  weights = _weights(1.0, 1.0)

  @jax.jit
  def gradients(padding):
    spoil = lambda x: x.at[2].set(padding)
    batch = BATCH._replace(
      labels=BATCH.labels.at[2].set(-1),
      mask=mask,
      teacher_logits=spoil(BATCH.teacher_logits),
      teacher_features={'map': spoil(maps), 'map_rounded': spoil(7 * maps)},
    )

    def loss(logits, features, params, terms_fn):
      student = method_terms.StudentOutputs(logits, {'map': features})
      terms = terms_fn(method_terms.TermInputs(params, student, batch, weights))
      return sum(objectives.mean_terms(terms, mask).values())

    arguments = LOGITS, maps + 1, objective.init(jax.random.key(1))
    return [
      jax.grad(loss, argnums=(0, 1, 2))(*arguments, terms_fn)
      for terms_fn in (objective.terms, objective.discriminator_terms)
    ]

  spoiled, clean = gradients(jnp.nan), gradients(0.0)
  jax.tree.map(np.testing.assert_array_equal, spoiled, clean)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(spoiled))
  assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(spoiled))


def test_an_objective_without_a_teacher_is_cross_entropy():
  objective = objectives.make_objective({}, method_terms.MethodSetup())
  weights = _weights(1.0, 5.0)
  batch = Batch(images=None, labels=BATCH.labels, mask=None)
  terms = _terms(objective, LOGITS, batch, weights)
  assert tuple(terms) == objective.names == ('ce',)
  loss, _ = objectives.combine(terms, weights, ONES)
  expected = jnp.mean(losses.cross_entropy(LOGITS, BATCH.labels))
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_mixed_targets_pull_as_the_mixture_of_the_two_teachers_does():
  objective = objectives.make_objective(
    {'kl': {}}, method_terms.MethodSetup(), mixed=True
  )
  partners = Targets(
    jnp.roll(BATCH.labels, 1), jnp.roll(BATCH.teacher_logits, 1, axis=0)
  )
  batch = BATCH._replace(mixture=Mixture(jnp.float32(0.3), partners))
  weights = _weights(0.4, 0.6)

  def mixed(logits):
    terms = _terms(objective, logits, batch, weights)
    return objectives.combine(terms, weights, ONES)[0]

  def on_mixture(logits):
    first, second = (
      jax.nn.softmax(b.teacher_logits / 2.0) for b in (BATCH, partners)
    )
    log_mixture = 2.0 * jnp.log(0.3 * first + 0.7 * second)
    labels = 0.3 * jax.nn.one_hot(BATCH.labels, 3)
    labels += 0.7 * jax.nn.one_hot(partners.labels, 3)
    ce = losses.cross_entropy_with_probs(logits, labels)
    kd = losses.kl(logits, log_mixture, temperature=2.0)
    return jnp.mean(0.4 * ce + 0.6 * kd)

  np.testing.assert_allclose(
    *(jax.jit(jax.grad(fn))(LOGITS) for fn in (mixed, on_mixture)), atol=1e-6
  )


@pytest.mark.parametrize(
  'name',
  [
    name
    for name, method in methods.METHODS.items()
    if 'temperature' in method.inputs
    and method.inputs
    <= {'student_logits', 'teacher_logits', 'labels', 'mask', 'temperature'}
  ],
)
def test_every_method_traces_its_temperature(name):
  objective = objectives.make_objective({name: {}}, method_terms.MethodSetup())
  traces = []

  @jax.jit
  def loss(temperature):
    traces.append(name)
    weights = _weights(0.0, 1.0, temperature)
    return objectives.combine(
      _terms(objective, LOGITS, BATCH, weights), weights, ONES
    )[0]

  values = [float(loss(jnp.float32(t))) for t in (1.0, 2.0, 4.0)]
  assert len(traces) == 1
  assert np.isfinite(values).all()
  assert len(set(values)) == 3


def _feature_terms(names, batch_features):
  """Returns the terms of methods on one layer's features, and a gradient.

  The gradient is that of the sum of all terms by the teacher's features.
  """
  setup = method_terms.MethodSetup(
    num_classes=3,
    student_shapes={'student': (2, 2, 4)},
    teacher_shapes={'teacher': (4, 4, 5)},
    feature_levels=3,
    image_range=(),
    init_peer=None,
    peer_fn=None,
    unroll=False,
  )
  objective = objectives.make_objective(
    {
      name: methods.split_options(methods.METHODS[name].options)[1]
      | {'layers': 'last'}
      for name in names
    },
    setup,
  )
  features = jax.random.uniform(jax.random.key(0), (3, 2, 2, 4))
  params = objective.init(jax.random.key(1))

  def terms(teacher_features):
    values = objective.terms(
      method_terms.TermInputs(
        params,
        method_terms.StudentOutputs(LOGITS, {'student': features}),
        BATCH._replace(teacher_features=teacher_features),
        _weights(0.0, 1.0),
      )
    )
    return sum(map(jnp.sum, values.values())), values

  gradient, values = jax.jit(jax.grad(terms, has_aux=True))(batch_features)
  return values, gradient


@pytest.mark.parametrize(
  'name',
  [name for name, m in methods.METHODS.items() if m.uses_features],
)
def test_nothing_flows_into_the_teachers_features(name):
  features = jax.random.uniform(jax.random.key(2), (3, 4, 4, 5), maxval=3)
  layer = methods.stored_layer('teacher', methods.METHODS[name].uses_rounded)
  values, gradient = _feature_terms((name,), {layer: features})
  assert np.all(values[name] > 0)
  np.testing.assert_array_equal(gradient[layer], 0)


def test_some_methods_take_rounded_features_and_others_unrounded_ones():
  features = {
    'teacher': jax.random.uniform(jax.random.key(2), (3, 4, 4, 5)),
    'teacher_rounded': jnp.round(
      jax.random.uniform(jax.random.key(3), (3, 4, 4, 5), maxval=3)
    ),
  }
  values, _ = _feature_terms(('attention', 'quantized'), features)
  takes = {'teacher': 'attention', 'teacher_rounded': 'quantized'}
  for change, changed in takes.items():
    others, _ = _feature_terms(
      ('attention', 'quantized'),
      features | {change: features[change][::-1]},
    )
    for name in ('attention', 'quantized'):
      assert np.allclose(values[name], others[name]) == (name != changed)


def test_soft_cross_entropy_softens_both_and_leaves_out_t_squared():
  objective = objectives.make_objective(
    {'soft_cross_entropy': {}}, method_terms.MethodSetup()
  )
  terms = _terms(objective, LOGITS, BATCH, _weights(0.0, 1.0, 3.0))
  log_s = jax.nn.log_softmax(LOGITS / 3)
  probs = jax.nn.softmax(BATCH.teacher_logits / 3)
  np.testing.assert_allclose(
    terms['soft_cross_entropy'], -jnp.sum(probs * log_s, axis=-1), rtol=1e-6
  )


def test_warmup_of_the_papers_cifar_code():
  factors = [objectives.kd_warmup(e, warmup_epochs=10) for e in range(12)]
  np.testing.assert_allclose(factors, [*np.arange(10) / 10, 1, 1])
  assert objectives.kd_warmup(0, warmup_epochs=0) == 1


def test_unknown_losses_are_named():
  with pytest.raises(ValueError, match="'kk'.*'kl'"):
    objectives.make_objective({'kk': {}}, method_terms.MethodSetup())


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_an_example_without_a_label_has_no_cross_entropy(smoothing):
  objective = objectives.make_objective(
    {'kl': {}},
    method_terms.MethodSetup(),
    label_smoothing=smoothing,
    partly_labeled=True,
  )
  weights = _weights(1.0, 1.0)
  labels = jnp.array([0, -1, 2])

  def loss_fn(logits):
    terms = _terms(objective, logits, BATCH._replace(labels=labels), weights)
    return objectives.combine(terms, weights, ONES)

  (_, means), gradient = jax.value_and_grad(loss_fn, has_aux=True)(LOGITS)
  expected = losses.cross_entropy(
    LOGITS, BATCH.labels, label_smoothing=smoothing
  )
  # The mean is over all three examples.
  np.testing.assert_allclose(
    means['ce'], (expected[0] + expected[2]) / 3, rtol=1e-6
  )
  kl_alone = jax.grad(
    lambda x: losses.kl(x, BATCH.teacher_logits, temperature=2.0).mean()
  )(LOGITS)
  np.testing.assert_allclose(gradient[1], kl_alone[1], atol=1e-6)
  assert np.abs(gradient[0] - kl_alone[0]).max() > 0.1


@pytest.mark.parametrize(
  'fn, message',
  [
    (lambda student_logits: jnp.mean(student_logits), r'float32 \[\]; .*mean'),
    (lambda student_logits: 1.0, r'returned float; .* leave out the mean'),
    (
      lambda student_logits: student_logits[:, :2],
      r'float32 \[3, 2\]; .* \[3\]: average over all axes except the first',
    ),
    (lambda student_logits: student_logits[:2, 0], r'float32 \[2\]; .* \[3\]$'),
    (lambda labels: labels, r'int32 \[3\]; expected .* float \[3\]$'),
    (lambda student_logits: None, 'returned NoneType; expected'),
  ],
)
def test_a_method_returns_the_loss_of_each_example(monkeypatch, fn, message):
  monkeypatch.setitem(methods.METHODS, 'mine', methods.Method(fn))
  objective = objectives.make_objective(
    {'mine': {}}, method_terms.MethodSetup()
  )
  with pytest.raises(ValueError, match=f'the method mine .* {message}'):
    _terms(objective, LOGITS, BATCH, _weights(0.0, 1.0))
