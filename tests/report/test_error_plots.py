"""The confusion matrix and the misclassified images of a run's report."""

import numpy as np
import pytest

from kd_jax.report import error_plots


def _arrays(num_classes=3, student=4, teacher=0, channels=1):
  confusion = 10 * np.eye(num_classes, dtype=int)
  confusion[1, 2] = 3
  arrays = {
    'name': 'h50 seed 0',
    'classes': ['c_$at', *map(str, range(1, num_classes))],
    'confusion': confusion,
    'both': 5,
  }
  for kind, count in (('student', student), ('teacher', teacher)):
    arrays |= {
      f'{kind}_count': count,
      f'{kind}_images': np.zeros((count, 4, 4, channels), np.uint8),
      f'{kind}_labels': np.zeros(count, int),
      f'{kind}_said': np.ones(count, int),
    }
  return arrays


@pytest.mark.parametrize(
  'arrays, plots',
  [
    (_arrays(), ['confusion', 'misclassified']),
    (_arrays(num_classes=30, teacher=9, channels=3), None),
    (_arrays(student=0), ['confusion']),
  ],
  ids=['gray', 'many_classes', 'no_mistake'],
)
def test_a_run_gets_the_plots_that_it_has_mistakes_for(arrays, plots, tmp_path):
  np.savez(tmp_path / error_plots.FILE, **arrays)
  captions = error_plots.write(tmp_path)
  assert [*captions] == (plots or ['confusion', 'misclassified'])
  assert {path.stem for path in tmp_path.glob('*.png')} == {*captions}


def test_the_caption_counts_the_mistakes(tmp_path):
  np.savez(tmp_path / error_plots.FILE, **_arrays(teacher=2))
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
  np.savez(path, **_arrays())
  path.write_bytes(path.read_bytes()[:100])
  assert error_plots.write(tmp_path) == {}
