"""The lemmas, on populations of every kind, to rounding."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_jax.theory import risk

SETTINGS = settings(max_examples=1000, deadline=None)


def _draw(seed: int, num_x: int, num_classes: int, sharpness: float):
  """A population, a teacher and losses; sharp ones are near one label."""
  rng = np.random.default_rng(seed)
  chances = rng.dirichlet(np.full(num_x, sharpness))
  labels, teacher = rng.dirichlet(np.full(num_classes, sharpness), (2, num_x))
  losses = risk.cross_entropies(3 * rng.normal(size=(num_x, num_classes)))
  return risk.Population(chances, labels), teacher, losses


POPULATIONS = st.builds(
  _draw,
  st.integers(0, 2**32 - 1),
  st.integers(1, 6),
  st.integers(2, 5),
  st.sampled_from([0.05, 0.5, 5.0]),
)


@SETTINGS
@given(POPULATIONS, st.integers(1, 10_000))
def test_lemma_1_holds_with_its_exact_difference(drawn, n):
  population, _, losses = drawn
  empirical = risk.empirical_variance(population, losses, n)
  bayes = risk.distilled_variance(population, population.labels, losses, n)
  difference = risk.label_variance(population, losses, n)
  scale = np.max(np.square(losses)) / n
  assert difference >= 0
  np.testing.assert_allclose(
    empirical - bayes, difference, rtol=0, atol=1e-12 * max(scale, 1)
  )


@SETTINGS
@given(POPULATIONS, st.integers(1, 10_000))
def test_lemma_2_holds_for_every_teacher(drawn, n):
  population, teacher, losses = drawn
  own = risk.lemma2(population, teacher, losses, n)
  tolerance = 1 + 1e-12
  assert own.squared_error <= own.bound * tolerance + 1e-15
  assert own.bound <= own.loose_bound * tolerance + 1e-15
  assert abs(own.bias) <= own.constant * own.distance * tolerance + 1e-15


@SETTINGS
@given(POPULATIONS, st.integers(1, 1000), st.integers(1, 5), st.integers(0, 99))
def test_lemma_2_holds_on_average_over_teachers(drawn, n, num_teachers, seed):
  population, _, losses = drawn
  teachers = np.random.default_rng(seed).dirichlet(
    np.ones(losses.shape[1]), (num_teachers, losses.shape[0])
  )
  own = risk.random_teacher(population, teachers, losses, n)
  assert own.squared_error <= own.bound * (1 + 1e-12) + 1e-15
  # Bias and variance are the whole distance.
  distances = [
    risk.lemma2(population, teacher, losses, n).squared_distance
    for teacher in teachers
  ]
  np.testing.assert_allclose(
    own.teacher_bias + own.teacher_variance, np.mean(distances), atol=1e-12
  )


def test_variances_are_those_of_all_samples_there_are():
  """Every sample of two examples, with its chance: no formula at all."""
  population, teacher, losses = _draw(0, 3, 2, 1.0)
  pairs = [
    (x, y, population.chances[x] * population.labels[x, y])
    for x in range(3)
    for y in range(2)
  ]
  estimates = {
    'empirical': lambda x, y: losses[x, y],
    'bayes': lambda x, y: population.labels[x] @ losses[x],
    'teacher': lambda x, y: teacher[x] @ losses[x],
  }
  moments = {}
  for name, of in estimates.items():
    outcomes = [
      ((of(*a[:2]) + of(*b[:2])) / 2, a[2] * b[2])
      for a, b in itertools.product(pairs, repeat=2)
    ]
    mean = sum(value * chance for value, chance in outcomes)
    moments[name] = (
      mean,
      sum(chance * (value - mean) ** 2 for value, chance in outcomes),
    )
  true = risk.population_risk(population, losses)
  own = risk.lemma2(population, teacher, losses, 2)
  expected = {
    'empirical': (true, risk.empirical_variance(population, losses, 2)),
    'bayes': (
      true,
      risk.distilled_variance(population, population.labels, losses, 2),
    ),
    'teacher': (true + own.bias, own.variance),
  }
  for name, (mean, variance) in expected.items():
    assert moments[name] == pytest.approx((mean, variance), rel=1e-12), name
  mean, variance = moments['teacher']
  assert own.squared_error == pytest.approx(variance + (mean - true) ** 2)


def test_equality_is_where_losses_do_not_depend_on_the_label():
  chances, labels = np.array([0.3, 0.7]), np.array([[1.0, 0, 0], [0, 0.4, 0.6]])
  population = risk.Population(chances, labels)
  # Equal on what x can be; elsewhere anything.
  constant = np.array([[2.0, 9.0, 5.0], [7.0, 1.0, 1.0]])
  assert risk.label_variance(population, constant, 1) == 0
  other = np.array([[2.0, 9.0, 5.0], [7.0, 1.0, 1.1]])
  assert risk.label_variance(population, other, 1) == pytest.approx(
    0.7 * 0.4 * 0.6 * 0.1**2
  )


def test_samples_lie_on_the_exact_lines():
  population, teacher, losses = _draw(1, 5, 3, 1.0)
  true = risk.population_risk(population, losses)
  sampled = risk.sample_risks(
    jax.random.key(0),
    population,
    {
      'empirical': losses,
      'bayes': risk.distilled_losses(population.labels, losses)[:, None],
      'teacher': risk.distilled_losses(teacher, losses)[:, None],
    },
    true,
    num_examples=50,
    num_samples=4000,
  )
  own = risk.lemma2(population, teacher, losses, 50)
  exact = {
    'empirical': (true, risk.empirical_variance(population, losses, 50)),
    'bayes': (
      true,
      risk.distilled_variance(population, population.labels, losses, 50),
    ),
    'teacher': (true + own.bias, own.variance),
  }
  for name, (mean, variance) in exact.items():
    found = sampled[name]
    assert abs(found.mean - mean) < 4 * found.mean_error, name
    assert abs(found.variance - variance) < 4 * found.variance_error, name
    assert found.variance_error < 0.1 * variance
  found = sampled['teacher']
  assert abs(found.squared_error - own.squared_error) < (
    4 * found.squared_error_error
  )
