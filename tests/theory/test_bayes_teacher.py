"""Bayes' teacher: its students, the grades of teachers, rank correlation."""

import pytest

from kd_jax.theory import bayes_teacher
from tests.theory import result_tables


def test_students_of_bayes_teacher_are_better_than_those_of_labels(
  bayes_teacher_results,
):
  students = result_tables.columns(bayes_teacher_results, 'Means over')
  for n in ('30', '300'):
    divergence = dict(
      zip(students['taught by'], students[f'KL from p*, N = {n}'], strict=True)
    )
    assert divergence['p*'] == min(divergence.values())
    assert divergence['p*'] < 0.5 * divergence['labels']


def test_teachers_differ_in_accuracy_and_distance(bayes_teacher_results):
  students = result_tables.columns(bayes_teacher_results, 'Means over')
  grades = {
    name: grade
    for name, *grade in zip(
      students['taught by'],
      students['its accuracy'],
      students['its E‖p_t - p*‖^2'],
      students['its E‖E p_t - p*‖^2'],
      strict=True,
    )
  }
  assert grades['p*'][1:] == [0, 0]
  # A temperature changes no decision. Noise does, and cancels in the mean.
  assert grades['temperature 4'][0] == grades['p*'][0]
  assert grades['temperature 4'][1] == pytest.approx(grades['temperature 4'][2])
  assert grades['noise of 2'][0] < grades['p*'][0]
  assert grades['noise of 2'][2] < 0.3 * grades['noise of 2'][1]


def test_rank_correlation_gives_equal_values_the_mean_of_their_ranks():
  correlation = bayes_teacher.rank_correlation
  assert correlation([1, 2, 3], [10, 20, 40]) == pytest.approx(1)
  assert correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
  # The ranks are 0, 1.5, 1.5, 3 and 0, 1, 2, 3.
  assert correlation([0, 5, 5, 9], [1, 2, 3, 4]) == pytest.approx(0.9487, 1e-3)
