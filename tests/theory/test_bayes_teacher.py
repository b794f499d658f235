"""Bayes' teacher: its students, and the grades of teachers.

Also tests `kd_jax/theory/gaussian_students.py` and
`kd_jax/theory/gaussians.py`.
"""

import pytest

from tests.theory import result_tables

pytestmark = pytest.mark.slow  # The students take five seconds.


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


def test_temperatures_are_crossed_with_errors(bayes_teacher_results):
  students = result_tables.columns(bayes_teacher_results, 'Means over')
  names = students['taught by'][1:]  # without labels
  assert len(names) == len(set(names)) == 7 * 5 + 2
  accuracy = dict(zip(names, students['its accuracy'][1:], strict=True))
  for error in ('noise of 2', 'fixed error of 2'):
    assert accuracy[error] == accuracy[f'{error}, temperature 4']
    assert accuracy[error] < accuracy['p*']


def test_a_fixed_error_stays_in_the_mean(bayes_teacher_results):
  students = result_tables.columns(bayes_teacher_results, 'Means over')
  row = students['taught by'].index('fixed error of 2')
  distance = students['its E‖p_t - p*‖^2'][row]
  assert students['its E‖E p_t - p*‖^2'][row] == distance > 0


def test_correlations_have_intervals_and_differences(bayes_teacher_results):
  table = result_tables.columns(
    bayes_teacher_results, 'Rank correlation over 37 teachers'
  )
  column = "with the teacher's E‖p_t - p*‖^2"
  sizes = ('30', '300')
  assert table["students'"] == [
    *(f'KL from p*, N = {n}' for n in sizes),
    *(f'error rate, N = {n}' for n in sizes),
  ]
  for low, value, high in zip(
    *(table[f'{column}{end}'] for end in (': from', '', ': to')), strict=True
  ):
    assert low < value < high
  differences = result_tables.columns(
    bayes_teacher_results, 'Rank correlation with the distance, minus'
  )
  assert differences['E‖p_t - p*‖^2'][0] == pytest.approx(
    table[column][0] - table['with its error rate'][0]
  )
