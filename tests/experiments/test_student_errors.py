"""The mistakes that a run writes for its report."""

import os
import pathlib

import numpy as np
import pytest

from kd_jax.report import error_plots
from tests import helpers

FIELDS = {'data.train_examples': 128, 'data.test_examples': 40}


def test_a_run_writes_the_mistakes_of_its_best_student(tmp_path, generated):
  config = helpers.tiny_mnist('h50', FIELDS | {'train.folds': 0})
  record = helpers.run(config, tmp_path)
  (student,) = record['students']
  with np.load(tmp_path / 'run' / error_plots.FILE) as arrays:
    assert arrays['name'] == 'h50 seed 0'
    confusion = arrays['confusion']
    errors = student['test']['errors']
    assert confusion.sum() - np.trace(confusion) == errors
    np.testing.assert_array_equal(
      confusion.sum(axis=1), student['by_class']['examples']
    )
    # Those of the student alone, and those that it shares with the teacher.
    assert arrays['student_count'] + arrays['both'] == errors
    teacher_errors = record['teacher']['test']['errors']
    assert arrays['teacher_count'] + arrays['both'] == teacher_errors
    labels = np.asarray(generated.test.labels[:40])
    first = arrays['student_images'][0]
    (row,) = np.flatnonzero(
      (generated.test.images[:40] == first).all((1, 2, 3))
    )
    assert labels[row] == arrays['student_labels'][0]
    assert arrays['student_said'][0] != labels[row]


def _flip(path):
  """Gives one test image another class; the file is a sound array."""
  classes = np.load(path)
  classes[0] += 1
  np.save(path, classes)


def _replace_by_pipe(path):
  path.unlink()
  os.mkfifo(path)


@pytest.mark.faults
@pytest.mark.parametrize(
  'damage',
  [_flip, helpers.flip_middle_byte, pathlib.Path.unlink, _replace_by_pipe],
)
def test_other_predictions_than_the_students_are_not_shown(
  damage, tmp_path, caplog
):
  """Predictions of a student were changed: they are named and not shown."""
  config = helpers.tiny_mnist('h50', FIELDS | {'train.folds': 0})
  before = helpers.run(config, tmp_path)
  (decisions,) = tmp_path.glob('run/students/h50/seed-0/decisions.npy')
  damage(decisions)
  with helpers.time_limit(30):
    after = helpers.run(config, tmp_path)
  assert after['students'] == before['students']
  assert not (tmp_path / 'run' / error_plots.FILE).exists()
  assert 'decisions.npy is damaged or missing' in caplog.text
