"""Metrics of a split as Python numbers, and biases on some classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.evaluation import evaluate


def test_errors_are_counted_by_class():
  logits = jnp.eye(3)[jnp.array([0, 1, 1, 2, 0])]
  labels = jnp.array([0, 1, 2, 2, 2])
  assert evaluate.by_class(logits, labels) == {
    'errors': [0, 0, 2],
    'examples': [1, 1, 3],
  }


@pytest.mark.parametrize('seed', range(20))
def test_no_bias_makes_fewer_errors_than_the_chosen_one(seed):
  rng = np.random.default_rng(seed)
  # The logits are rounded, so that several examples change at the same bias.
  logits = np.round(2 * rng.normal(size=(60, 5)), 1)
  labels = rng.integers(5, size=60)
  logits[np.arange(60), labels] += 1
  classes = [[3], [1, 4], [0, 1, 2, 3]][seed % 3]

  def errors_with(biases):
    add_bias = lambda bias: evaluate.add_bias(logits, classes, bias)
    biased = jax.vmap(add_bias)(jnp.asarray(biases))
    predicted = np.argmax(np.asarray(biased), axis=-1)
    return np.sum(predicted != labels[None], axis=-1)

  (chosen,) = errors_with([evaluate.choose_bias(logits, labels, classes)])
  # The number of errors changes at tenths; the grid lies halfway between them.
  grid = np.arange(-100, 100) / 10 + 0.05
  assert chosen == min(errors_with(grid))


def test_a_bias_is_the_middle_of_its_interval_and_finite():
  # A bias from 1 to 3 is right. Below, the first example is wrong; above, the
  # second is.
  logits = np.array([[1.0, 0.0], [3.0, 0.0]])
  assert evaluate.choose_bias(logits, np.array([1, 0]), [1]) == 2
  assert evaluate.choose_bias(logits, np.array([1, 1]), [1]) == 4
  assert evaluate.choose_bias(logits, np.array([0, 0]), [1]) == 0


def test_evaluate_returns_numbers_and_leaves_a_missing_teacher_out():
  logits = jnp.array([[2.0, 0.0], [0.0, 1.0]])
  labels = jnp.array([0, 0])
  values = evaluate.evaluate(logits, labels)
  assert values['accuracy'] == 0.5 and values['errors'] == 1
  assert 'teacher_agreement' not in values
  with_teacher = evaluate.evaluate(logits, labels, logits)
  assert with_teacher['teacher_agreement'] == 1
  assert with_teacher['teacher_kl'] == pytest.approx(0, abs=1e-6)
  assert all(type(v) in (int, float) for v in with_teacher.values())
