"""Losses: values computed by hand, gradients, limits and invariants."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_jax import losses

# Logits whose softmax is (1/6, 2/6, 3/6) and (3/6, 2/6, 1/6).
STUDENT = jnp.log(jnp.array([[1.0, 2.0, 3.0]]))
TEACHER = jnp.log(jnp.array([[3.0, 2.0, 1.0]]))

DISTILLATION = {
  'kl': losses.kl,
  'reverse_kl': losses.reverse_kl,
  'jensen_shannon': losses.jensen_shannon,
}
PAIRWISE = DISTILLATION | {
  'squared_error': lambda s, t, temperature: losses.squared_error(s, t),
  'cross_entropy_with_probs': lambda s, t, temperature: (
    losses.cross_entropy_with_probs(
      s, jax.nn.softmax(t / temperature), temperature=temperature
    )
  ),
}


def _logits(seed: int, scale: float = 1.0, shape=(4, 5)) -> jax.Array:
  return scale * jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize('transform', [lambda fn: fn, jax.jit])
def test_values_equal_those_computed_by_hand(transform):
  log2, log3 = np.log(2), np.log(3)
  # KL((3,2,1)/6 || (1,2,3)/6) = (3 log 3 - log 3) / 6 = reverse KL.
  kl = transform(lambda s, t: losses.kl(s, t, temperature=1.0))
  np.testing.assert_allclose(kl(STUDENT, TEACHER), [log3 / 3], rtol=1e-6)
  reverse = transform(lambda s, t: losses.reverse_kl(s, t, temperature=1.0))
  np.testing.assert_allclose(reverse(STUDENT, TEACHER), [log3 / 3], rtol=1e-6)
  # The mixture is uniform: JS = log 3 - H((1,2,3)/6).
  entropy = np.log(6) - (2 * log2 + 3 * log3) / 6
  js = transform(lambda s, t: losses.jensen_shannon(s, t, temperature=1.0))
  np.testing.assert_allclose(js(STUDENT, TEACHER), [log3 - entropy], rtol=1e-5)
  ce = transform(lambda s, y: losses.cross_entropy(s, y))
  np.testing.assert_allclose(
    ce(STUDENT, jnp.array([1])), [np.log(3)], rtol=1e-6
  )
  soft = transform(lambda s, p: losses.cross_entropy_with_probs(s, p))
  np.testing.assert_allclose(
    soft(STUDENT, jnp.array([[0.5, 0.5, 0.0]])),
    [0.5 * np.log(6) + 0.5 * np.log(3)],
    rtol=1e-6,
  )
  # The centered differences are -1, 0 and 1: (1 + 0 + 1) / (2 * 3).
  square = transform(losses.squared_error)
  np.testing.assert_allclose(
    square(jnp.array([[4.0, 5.0, 6.0]]), jnp.array([[0.0, 0.0, 0.0]])),
    [1 / 3],
    rtol=1e-6,
  )


def test_temperature_scales_logits_and_loss():
  student, teacher = _logits(0), _logits(1)
  for loss in DISTILLATION.values():
    np.testing.assert_allclose(
      loss(student, teacher, temperature=3.0),
      9 * loss(student / 3, teacher / 3, temperature=1.0),
      rtol=1e-5,
    )


def test_cross_entropy_with_probs_softens_the_student_alone_and_has_no_factor():
  student, probs = _logits(0), jax.nn.softmax(_logits(1))
  np.testing.assert_allclose(
    losses.cross_entropy_with_probs(student, probs, temperature=3.0),
    losses.cross_entropy_with_probs(student / 3, probs),
    rtol=1e-6,
  )


def test_kl_is_cross_entropy_with_probs_minus_the_teachers_entropy():
  student, teacher = _logits(0), _logits(1)
  probs = jax.nn.softmax(teacher / 2)
  entropy = -jnp.sum(probs * jnp.log(probs), axis=-1)
  np.testing.assert_allclose(
    losses.kl(student, teacher, temperature=2.0),
    4
    * (
      losses.cross_entropy_with_probs(student, probs, temperature=2.0) - entropy
    ),
    rtol=1e-5,
  )


def test_kl_is_forward():
  # A teacher that excludes a class the student allows has a small forward KL.
  teacher = jnp.array([[0.0, 0.0, -50.0]])
  student = jnp.array([[0.0, 0.0, 0.0]])
  assert losses.kl(student, teacher, temperature=1.0) < 1
  assert losses.reverse_kl(student, teacher, temperature=1.0) > 10


@pytest.mark.parametrize('name', PAIRWISE)
def test_gradients_equal_finite_differences(name):
  student, teacher = _logits(2, shape=(2, 4)), _logits(3, shape=(2, 4))
  total = lambda s: jnp.sum(PAIRWISE[name](s, teacher, temperature=1.7))
  jax.test_util.check_grads(
    total, (student,), order=1, modes=['rev'], atol=2e-2, rtol=2e-2
  )


def test_kl_gradient_is_t_times_the_difference_of_probabilities():
  student, teacher = _logits(4), _logits(5)
  grad = jax.grad(lambda s: jnp.sum(losses.kl(s, teacher, temperature=5.0)))(
    student
  )
  expected = 5 * (jax.nn.softmax(student / 5) - jax.nn.softmax(teacher / 5))
  np.testing.assert_allclose(grad, expected, atol=1e-6)


@pytest.mark.parametrize('name', PAIRWISE)
def test_no_gradient_flows_into_the_teacher(name):
  student = _logits(6)
  grad = jax.grad(
    lambda t: jnp.sum(PAIRWISE[name](student, t, temperature=2.0))
  )(_logits(7))
  assert (grad == 0).all()


@pytest.mark.parametrize('name', [*DISTILLATION, 'squared_error'])
def test_only_equal_logits_have_no_loss(name):
  logits = _logits(8)
  loss = PAIRWISE[name]
  np.testing.assert_allclose(
    loss(logits, logits, temperature=2.0), 0, atol=1e-6
  )
  assert (loss(logits, _logits(9), temperature=2.0) > 1e-3).all()


@pytest.mark.parametrize('name', PAIRWISE)
def test_shifting_all_logits_changes_nothing(name):
  student, teacher = _logits(10), _logits(11)
  loss = PAIRWISE[name]
  np.testing.assert_allclose(
    loss(student + 7.0, teacher - 3.0, temperature=2.0),
    loss(student, teacher, temperature=2.0),
    rtol=1e-4,
    atol=1e-5,
  )


def test_kl_tends_to_the_squared_error():
  student, teacher = _logits(12), _logits(13)
  np.testing.assert_allclose(
    losses.kl(student, teacher, temperature=60.0),
    losses.squared_error(student, teacher),
    rtol=0.03,
  )
  # At a low temperature they differ, so the comparison above can fail.
  assert not np.allclose(
    losses.kl(student, teacher, temperature=1.0),
    losses.squared_error(student, teacher),
    rtol=0.1,
  )


def test_a_uniform_teacher_is_label_smoothing():
  logits, labels = _logits(14), jnp.array([0, 1, 2, 3])
  uniform = jnp.full((4, 5), 0.2)
  smoothed = losses.cross_entropy(logits, labels, label_smoothing=0.3)
  mixed = 0.7 * losses.cross_entropy(
    logits, labels
  ) + 0.3 * losses.cross_entropy_with_probs(logits, uniform)
  np.testing.assert_allclose(smoothed, mixed, rtol=1e-6)


def test_jensen_shannon_symmetry_and_limits():
  student, teacher = _logits(15), _logits(16)
  js = losses.jensen_shannon
  np.testing.assert_allclose(
    js(student, teacher, beta=0.5), js(teacher, student, beta=0.5), rtol=1e-5
  )
  np.testing.assert_allclose(
    js(student, teacher, beta=0.3), js(teacher, student, beta=0.7), rtol=1e-5
  )
  np.testing.assert_allclose(
    js(student, teacher, beta=1e-3) / 1e-3,
    losses.kl(student, teacher),
    rtol=0.02,
  )


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('name', PAIRWISE)
def test_finite_for_extreme_logits(name, dtype):
  student = jnp.array([[1e4, -1e4, 0.0], [0.0, 0.0, 1e4]], dtype)
  teacher = jnp.array([[-1e4, 1e4, 0.0], [0.0, 0.0, 1e4]], dtype)
  loss = lambda s: PAIRWISE[name](s, teacher, temperature=1.0)
  value = loss(student)
  grad = jax.grad(lambda s: jnp.sum(loss(s)))(student)
  assert value.dtype == jnp.float32
  assert grad.dtype == dtype
  assert jnp.isfinite(value).all()
  assert jnp.isfinite(grad.astype(jnp.float32)).all()


def test_cross_entropy_is_finite_for_extreme_logits():
  logits, labels = jnp.array([[1e4, -1e4]]), jnp.array([1])
  for smoothing in (0.0, 0.1):
    loss = lambda x, e=smoothing: losses.cross_entropy(
      x, labels, label_smoothing=e
    )[0]
    assert jnp.isfinite(loss(logits))
    assert jnp.isfinite(jax.grad(loss)(logits)).all()


@given(
  st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6),
  st.floats(0.5, 20, width=32),
)
@settings(max_examples=50, deadline=None)
def test_divergences_are_not_negative(values, temperature):
  student, teacher = jnp.array([values[:3]]), jnp.array([values[3:]])
  for loss in DISTILLATION.values():
    value = loss(student, teacher, temperature=temperature)
    assert value >= -1e-4 * temperature**2


@given(st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6))
@settings(max_examples=50, deadline=None)
def test_jensen_shannon_is_bounded(values):
  student, teacher = jnp.array([values[:3]]), jnp.array([values[3:]])
  value = losses.jensen_shannon(student, teacher, temperature=2.0)
  assert value <= 4 * np.log(2) * (1 + 1e-5)


@pytest.mark.parametrize('name', PAIRWISE)
def test_different_shapes_are_refused(name):
  with pytest.raises(ValueError, match='shapes differ'):
    PAIRWISE[name](jnp.zeros((2, 3)), jnp.zeros((2, 4)), temperature=1.0)
  with pytest.raises(ValueError, match=r'\[B, K\]'):
    PAIRWISE[name](jnp.zeros((3,)), jnp.zeros((3,)), temperature=1.0)


def test_labels_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match='labels'):
    losses.cross_entropy(jnp.zeros((2, 3)), jnp.zeros((3,), jnp.int32))


@pytest.mark.parametrize('temperature', [1.0, 3.0])
def test_losses_equal_optaxs(temperature):
  student, teacher = _logits(0, 3.0), _logits(1, 3.0)
  labels = jnp.array([0, 4, 2, 2])
  log_p = lambda logits: jax.nn.log_softmax(logits / temperature)
  ours_and_optaxs = [
    (
      lambda s: losses.cross_entropy(s, labels),
      lambda s: optax.softmax_cross_entropy_with_integer_labels(s, labels),
    ),
    (
      lambda s: losses.cross_entropy(s, labels, label_smoothing=0.1),
      lambda s: optax.softmax_cross_entropy(
        s, optax.smooth_labels(jax.nn.one_hot(labels, 5), 0.1)
      ),
    ),
    (
      lambda s: losses.cross_entropy_with_probs(s, jax.nn.softmax(teacher)),
      lambda s: optax.softmax_cross_entropy(s, jax.nn.softmax(teacher)),
    ),
    (
      lambda s: losses.kl(s, teacher, temperature=temperature),
      lambda s: (
        temperature**2
        * optax.losses.kl_divergence_with_log_targets(log_p(s), log_p(teacher))
      ),
    ),
    (
      lambda s: losses.reverse_kl(s, teacher, temperature=temperature),
      lambda s: (
        temperature**2
        * optax.losses.kl_divergence_with_log_targets(log_p(teacher), log_p(s))
      ),
    ),
  ]
  for pair in ours_and_optaxs:
    (ours, our_gradient), (optaxs, their_gradient) = (
      jax.jit(lambda s, fn=fn: (fn(s), jax.grad(lambda s: fn(s).sum())(s)))(
        student
      )
      for fn in pair
    )
    np.testing.assert_allclose(ours, optaxs, rtol=1e-5)
    np.testing.assert_allclose(
      our_gradient, their_gradient, rtol=1e-4, atol=1e-6
    )
