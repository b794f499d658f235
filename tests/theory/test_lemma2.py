"""Lemma 2: the bound holds for every teacher, and is tight for p*."""

import pytest

from tests.theory import result_tables


def test_the_bound_holds_for_every_teacher(lemma2_results):
  fixed = result_tables.columns(lemma2_results, 'One teacher')
  for column in ('E[D^2] / bound, N = 10', 'E[D^2] / bound, N = 10,000'):
    assert max(fixed[column]) <= 1 + 1e-12
  ratio = dict(
    zip(fixed['teacher'], fixed['E[D^2] / bound, N = 10,000'], strict=True)
  )
  assert ratio['p*'] == pytest.approx(1)  # The bound is tight.
  assert ratio['30 % uniform'] < 0.01
  assert max(fixed['furthest sample, standard errors']) < 5


def test_the_bound_holds_on_average_over_teachers(lemma2_results):
  average = result_tables.columns(lemma2_results, 'On average')
  assert max(average['E[D^2] / bound']) <= 1
  # Teachers that have seen more labels have less bias.
  assert average['E‖E p_t - p*‖^2'] == sorted(
    average['E‖E p_t - p*‖^2'], reverse=True
  )
