"""The confusion matrix and the misclassified images of a run's report."""

import os

import numpy as np
import pytest

from kd_jax.report import error_plots
from kd_jax.runtime import errors
from tests import helpers
from tests.report import example_records


@pytest.mark.parametrize(
  'arrays, plots',
  [
    (example_records.mistakes(), ['confusion', 'misclassified']),
    (example_records.mistakes(num_classes=30, teacher=9, channels=3), None),
    (example_records.mistakes(student=0), ['confusion']),
  ],
  ids=['gray', 'many_classes', 'no_mistake'],
)
def test_a_run_gets_the_plots_that_it_has_mistakes_for(arrays, plots, tmp_path):
  np.savez(tmp_path / error_plots.FILE, **arrays)
  captions = error_plots.write(tmp_path)
  assert [*captions] == (plots or ['confusion', 'misclassified'])
  assert {path.stem for path in tmp_path.glob('*.png')} == {*captions}


def test_the_caption_counts_the_mistakes(tmp_path):
  np.savez(tmp_path / error_plots.FILE, **example_records.mistakes(teacher=2))
  assert error_plots.write(tmp_path)['misclassified'].startswith(
    'h50 seed 0 alone is wrong on 4 test images, the teacher alone on 2, and '
    'both are wrong on 5.'
  )


def test_the_title_names_the_most_frequent_mistake():
  confusion = np.array([[9, 1, 0], [0, 7, 3], [0, 2, 8]])
  title = error_plots.confusion_title('h50', confusion, ['a', 'b', 'c'])
  assert title == 'h50: most often, b is taken for c (3 of 10)'
  title = error_plots.confusion_title('h50', np.eye(3, dtype=int), 'abc')
  assert title == 'h50 makes no mistake'


def test_without_a_sound_file_there_are_no_plots(tmp_path):
  assert error_plots.write(tmp_path) == {}
  path = tmp_path / error_plots.FILE
  np.savez(path, **example_records.mistakes())
  path.write_bytes(path.read_bytes()[:100])
  assert error_plots.write(tmp_path) == {}


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / error_plots.FILE)
  with helpers.time_limit(5):
    assert error_plots.write(tmp_path) == {}


def test_other_arrays_are_one_error_that_names_the_file(tmp_path):
  arrays = example_records.mistakes()
  del arrays['both']
  np.savez(tmp_path / error_plots.FILE, **arrays)
  with pytest.raises(errors.UserError, match='test_errors.npz holds no mistak'):
    error_plots.write(tmp_path)
