"""Bayes' teacher: what students learn from labels, p*, and other teachers."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from kd_jax.theory import (
  gaussian_students,
  gaussians,
  rank_correlations,
  tables_and_curves,
)

# Draws of a teacher's noise, for the teacher's mean over the noise.
_NUM_DRAWS = 50
# Targets whose students are plotted.
_PLOTTED_TARGETS = (
  'labels',
  'p*',
  'temperature 0.25',
  'temperature 4',
  '30 % uniform',
  'noise of 1',
)


class _Scores(NamedTuple):
  """The quality of S students of one kind of targets.

  Attributes:
    divergence: [S] float64, nats; the mean KL divergence from p*.
    accuracy: [S] float64; the expected accuracy, in [0, 1].
  """

  divergence: np.ndarray
  accuracy: np.ndarray


# Scores by the number N of training examples and by the name of the targets.
_ScoresBySize = Mapping[int, Mapping[str, _Scores]]


def run_bayes_teacher(config: ConfigDict) -> tables_and_curves.Results:
  """Trains students on labels, on p*, and on the outputs of graded teachers.

  Temperatures and mixtures with the uniform distribution keep the decisions of
  a teacher, and so its accuracy. Errors of the logits reduce the accuracy:
  noise, which is independent for each example, and a fixed error, which is a
  function of the example. Temperatures are crossed with errors. The quality of
  a student is its mean KL divergence from p*, its risk beyond the least
  possible risk, or its error rate.

  Args:
    config: a config of configs/theory.py:bayes_teacher.
  Reference: Menon et al. 2021, arXiv:2005.10419.
  """
  rng = np.random.default_rng(config.seed)
  task = gaussians.Gaussians(
    config.separation * rng.normal(size=(config.num_classes, config.dimension))
  )
  test_examples, _ = task.draw(rng, config.test_examples)
  log_posterior = task.log_posterior(test_examples)
  noise = rng.normal(size=(_NUM_DRAWS, *log_posterior.shape))
  grades = {
    name: gaussians.grade_teacher(log_posterior, teacher)
    for name, teacher in gaussians.graded_teachers(
      log_posterior,
      noise,
      gaussians.fixed_error(test_examples, config.num_classes),
    ).items()
  }
  scores = {}
  for n in config.num_examples:
    students = gaussian_students.train_students(
      config, task, rng, n, test_examples
    )
    scores[n] = {
      name: _score(log_posterior, log_probabilities)
      for name, log_probabilities in students.items()
    }
  return {
    'tables': {
      f'Means over {config.num_students} students': _students_table(
        config.num_examples, scores, grades
      ),
      f'Rank correlation over {len(grades)} teachers': _correlations_table(
        scores, grades
      ),
      'Rank correlation with the distance, minus that with the error rate': (
        _differences_table(scores, grades)
      ),
    },
    'curves': {
      'students': _plot_students(config.num_examples, scores),
      'teachers': _plot_teachers(max(config.num_examples), scores, grades),
    },
  }


def _score(log_posterior: np.ndarray, students: np.ndarray) -> _Scores:
  """Scores students by their log-probabilities [S, N, K]."""
  divergences = np.sum(
    np.exp(log_posterior) * (log_posterior - students), axis=-1
  )
  correct = gaussians.correct_probabilities(log_posterior, students)
  return _Scores(
    divergence=divergences.mean(axis=-1), accuracy=correct.mean(axis=(-2, -1))
  )


def _students_table(
  num_examples: Sequence[int],
  scores: _ScoresBySize,
  grades: Mapping[str, gaussians.Grade],
) -> dict[str, Any]:
  """Returns the scores of all students for the smallest and the largest N."""
  sizes = (num_examples[0], num_examples[-1])
  rows = []
  for name in scores[sizes[0]]:
    row = [name, *grades.get(name, (None, None, None))]
    for n in sizes:
      divergence, accuracy = scores[n][name]
      row += [divergence.mean(), _standard_error(divergence), accuracy.mean()]
    rows.append(row)
  columns = [
    'taught by',
    'its accuracy',
    'its E‖p_t - p*‖^2',
    'its E‖E p_t - p*‖^2',
    *(
      f'{column}, N = {n:,}'
      for n in sizes
      for column in ('KL from p*', 'standard error', 'accuracy')
    ),
  ]
  return tables_and_curves.make_table(columns, rows)


def _correlations_table(
  scores: _ScoresBySize, grades: Mapping[str, gaussians.Grade]
) -> dict[str, Any]:
  """Returns how the quality of students follows the quality of teachers."""
  distances, distances_of_mean, errors = _teacher_properties(grades)
  rows = []
  for name, quality in _student_properties(scores, grades):
    row: list[Any] = [name]
    for values in (distances, distances_of_mean, errors):
      row += rank_correlations.rank_correlation(quality, values)
    rows.append(row)
  columns = _with_bounds(
    "students'",
    "with the teacher's E‖p_t - p*‖^2",
    'with its E‖E p_t - p*‖^2',
    'with its error rate',
  )
  return tables_and_curves.make_table(columns, rows)


def _differences_table(
  scores: _ScoresBySize, grades: Mapping[str, gaussians.Grade]
) -> dict[str, Any]:
  """Returns whether students follow the distance more than the error rate."""
  distances, distances_of_mean, errors = _teacher_properties(grades)
  rows = []
  for name, quality in _student_properties(scores, grades):
    row: list[Any] = [name]
    for values in (distances, distances_of_mean):
      row += rank_correlations.difference(quality, values, errors)
    rows.append(row)
  columns = _with_bounds("students'", 'E‖p_t - p*‖^2', 'E‖E p_t - p*‖^2')
  return tables_and_curves.make_table(columns, rows)


def _with_bounds(name: str, *columns: str) -> list[str]:
  """Returns columns, each with those of its 95 % interval."""
  bounds = ((column, f'{column}: from', f'{column}: to') for column in columns)
  return [name, *itertools.chain(*bounds)]


def _teacher_properties(
  grades: Mapping[str, gaussians.Grade],
) -> tuple[list[float], list[float], list[float]]:
  """Returns the teachers' distances, distances of the mean, and error rates."""
  return (
    [grade.squared_distance for grade in grades.values()],
    [grade.squared_distance_of_mean for grade in grades.values()],
    [1 - grade.accuracy for grade in grades.values()],
  )


def _student_properties(
  scores: _ScoresBySize, grades: Mapping[str, gaussians.Grade]
) -> Iterator[tuple[str, list[float]]]:
  """Yields the students' mean divergences and error rates, by teacher."""
  for n, by_name in scores.items():
    yield (
      f'KL from p*, N = {n:,}',
      [by_name[name].divergence.mean() for name in grades],
    )
  for n, by_name in scores.items():
    yield (
      f'error rate, N = {n:,}',
      [1 - by_name[name].accuracy.mean() for name in grades],
    )


def _plot_students(
  num_examples: Sequence[int], scores: _ScoresBySize
) -> dict[str, Any]:
  """Returns a plot of divergences; error bars are two standard errors."""
  lines = {}
  for name in _PLOTTED_TARGETS:
    divergences = [scores[n][name].divergence for n in num_examples]
    lines[name] = tables_and_curves.make_line(
      num_examples,
      [divergence.mean() for divergence in divergences],
      [2 * _standard_error(divergence) for divergence in divergences],
    )
  return {
    'title': 'students of labels, of p* and of other teachers',
    'x_label': 'training examples N',
    'y_label': 'mean KL divergence from p*',
    'lines': lines,
  }


def _plot_teachers(
  n: int, scores: _ScoresBySize, grades: Mapping[str, gaussians.Grade]
) -> dict[str, Any]:
  """Returns a plot of students' divergences over their teachers' distances."""
  lines = {}
  for kind in (*gaussians.ERROR_KINDS, 'temperature'):
    names = [name for name in grades if name.startswith(kind)]
    divergences = [scores[n][name].divergence for name in names]
    lines[f'{kind} alone' if kind == 'temperature' else kind] = (
      tables_and_curves.make_line(
        [grades[name].squared_distance_of_mean for name in names],
        [divergence.mean() for divergence in divergences],
        [2 * _standard_error(divergence) for divergence in divergences],
        points=True,
      )
    )
  return {
    'title': f'students of graded teachers, N = {n:,}',
    'x_label': "E‖E p_t - p*‖^2 of the teacher's mean over its noise",
    'y_label': 'mean KL divergence from p*',
    'lines': lines,
  }


def _standard_error(values: np.ndarray) -> float:
  return float(np.std(values, ddof=1) / np.sqrt(len(values)))
