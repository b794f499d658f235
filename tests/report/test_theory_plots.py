"""Plots of the curves of theory."""

import pytest

from kd_jax.report import theory_plots


def _line(y, points=False):
  return {'x': [10, 1000], 'y': y, 'error': None, 'points': points}


@pytest.mark.parametrize(
  'lines, title',
  [
    (
      {'bound': _line([1, 50]), 'exact': _line([1, 0.1])},
      'Teacher: p*: at 1,000 examples, "bound" is 500 times "exact"',
    ),
    (
      {'a': _line([1, 3]), 'b': _line([1, 2]), 's': _line([9, 9], points=True)},
      'Teacher: p*: at 1,000 examples, "a" is 1.5 times "b"',
    ),
    ({'s': _line([9, 9], points=True)}, 'Teacher: p*'),
  ],
)
def test_the_title_compares_the_ends_of_lines(lines, title):
  plot = {'title': 'teacher: p*', 'x_label': 'examples N', 'lines': lines}
  assert theory_plots.curves_title(plot) == title
