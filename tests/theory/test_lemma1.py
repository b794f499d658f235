"""Lemma 1: the exact variances, and the variances of samples.

Also tests `kd_jax/theory/tables_and_curves.py`.
"""

import pytest

from tests.theory import result_tables


def test_the_difference_of_variances_is_the_label_variance(lemma1_results):
  exact = result_tables.columns(lemma1_results, 'Exact')
  assert len(exact['risk R']) == 12
  assert max(exact['residual']) < 1e-12
  by_row = dict(
    zip(exact['population, predictor'], exact['Bayes / empirical'], strict=True)
  )
  assert by_row['deterministic, random'] == pytest.approx(1)
  assert 0 < by_row['mixture, bayes'] < 0.1
  # A constant loss has no variance, and so no ratio of variances.
  assert by_row['uniform, indifferent'] is None


def test_samples_agree_with_the_exact_variances(lemma1_results):
  sampled = result_tables.columns(lemma1_results, 'Samples')
  slopes = [
    slope
    for column in ('slope, empirical', 'slope, Bayes')
    for slope in sampled[column]
    if slope is not None
  ]
  assert len(slopes) == 10
  assert slopes == pytest.approx([-1] * 10, abs=0.15)
  for moment in ('mean', 'variance'):
    furthest = sampled[f'furthest {moment}, standard errors']
    assert max(value for value in furthest if value is not None) < 5
