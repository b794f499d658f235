"""Sampled risks: means and variances agree with the exact values."""

import jax

from kd_jax.theory import risk, sampled_risks
from tests.theory import random_populations


def test_samples_agree_with_exact_means_and_variances():
  population, teacher, losses = random_populations.draw(1, 5, 3, 1.0)
  labels = population.label_probabilities
  true_risk = risk.population_risk(population, losses)
  sampled = sampled_risks.sample_risks(
    jax.random.key(0),
    population,
    {
      'empirical': losses - true_risk,
      'bayes': risk.distilled_losses(labels, losses)[:, None] - true_risk,
      'teacher': risk.distilled_losses(teacher, losses)[:, None] - true_risk,
    },
    num_examples=50,
    num_samples=4000,
  )
  terms = risk.lemma2_terms(population, teacher, losses, 50)
  exact = {
    'empirical': (0, risk.empirical_variance(population, losses, 50)),
    'bayes': (
      0,
      risk.distilled_variance(population, labels, losses, 50),
    ),
    'teacher': (terms.bias, terms.variance),
  }
  for name, (mean, variance) in exact.items():
    found = sampled[name]
    assert abs(found.mean - mean) < 4 * found.mean_error, name
    assert abs(found.variance - variance) < 4 * found.variance_error, name
    assert found.variance_error < 0.1 * variance
  found = sampled['teacher']
  assert abs(found.squared_error - terms.squared_error) < (
    4 * found.squared_error_error
  )
