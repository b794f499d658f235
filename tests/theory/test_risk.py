"""Exact risks: the lemmas hold, up to rounding, on random populations."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_jax.theory import risk
from tests.theory import random_populations

SETTINGS = settings(max_examples=200, deadline=None)
POPULATIONS = st.builds(
  random_populations.draw,
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
  bayes = risk.distilled_variance(
    population, population.label_probabilities, losses, n
  )
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
  terms = risk.lemma2_terms(population, teacher, losses, n)
  tolerance = 1 + 1e-12
  assert terms.squared_error <= terms.bound * tolerance + 1e-15
  # By Jensen's inequality.
  loose_bound = terms.variance + terms.constant**2 * terms.squared_distance
  assert terms.bound <= loose_bound * tolerance + 1e-15
  assert abs(terms.bias) <= terms.constant * terms.distance * tolerance + 1e-15


@SETTINGS
@given(POPULATIONS, st.integers(1, 1000), st.integers(1, 5), st.integers(0, 99))
def test_lemma_2_holds_on_average_over_teachers(drawn, n, num_teachers, seed):
  population, _, losses = drawn
  teachers = np.random.default_rng(seed).dirichlet(
    np.ones(losses.shape[1]), (num_teachers, losses.shape[0])
  )
  terms = risk.average_lemma2_terms(population, teachers, losses, n)
  assert terms.squared_error <= terms.bound * (1 + 1e-12) + 1e-15
  # Squared bias and variance add up to the mean squared distance.
  distances = [
    risk.lemma2_terms(population, teacher, losses, n).squared_distance
    for teacher in teachers
  ]
  np.testing.assert_allclose(
    terms.teacher_bias + terms.teacher_variance, np.mean(distances), atol=1e-12
  )


def test_variances_equal_those_over_all_possible_samples():
  """Enumerates every sample of two examples and uses no formula."""
  population, teacher, losses = random_populations.draw(0, 3, 2, 1.0)
  labels = population.label_probabilities
  examples = [
    (x, y, population.example_probabilities[x] * labels[x, y])
    for x in range(3)
    for y in range(2)
  ]
  contributions = {
    'empirical': lambda x, y: losses[x, y],
    'bayes': lambda x, y: labels[x] @ losses[x],
    'teacher': lambda x, y: teacher[x] @ losses[x],
  }
  moments = {}
  for name, contribution in contributions.items():
    outcomes = [
      (
        (contribution(x1, y1) + contribution(x2, y2)) / 2,
        probability1 * probability2,
      )
      for (x1, y1, probability1), (x2, y2, probability2) in itertools.product(
        examples, repeat=2
      )
    ]
    mean = sum(value * probability for value, probability in outcomes)
    moments[name] = (
      mean,
      sum(probability * (value - mean) ** 2 for value, probability in outcomes),
    )
  true_risk = risk.population_risk(population, losses)
  terms = risk.lemma2_terms(population, teacher, losses, 2)
  expected = {
    'empirical': (true_risk, risk.empirical_variance(population, losses, 2)),
    'bayes': (
      true_risk,
      risk.distilled_variance(population, labels, losses, 2),
    ),
    'teacher': (true_risk + terms.bias, terms.variance),
  }
  for name, (mean, variance) in expected.items():
    assert moments[name] == pytest.approx((mean, variance), rel=1e-12), name
  mean, variance = moments['teacher']
  assert terms.squared_error == pytest.approx(
    variance + (mean - true_risk) ** 2
  )


def test_label_variance_is_0_if_losses_do_not_depend_on_the_label():
  population = risk.Population(
    np.array([0.3, 0.7]), np.array([[1.0, 0, 0], [0, 0.4, 0.6]])
  )
  # The losses of labels with positive probability are equal for each example.
  constant = np.array([[2.0, 9.0, 5.0], [7.0, 1.0, 1.0]])
  assert risk.label_variance(population, constant, 1) == 0
  other = np.array([[2.0, 9.0, 5.0], [7.0, 1.0, 1.1]])
  assert risk.label_variance(population, other, 1) == pytest.approx(
    0.7 * 0.4 * 0.6 * 0.1**2
  )
