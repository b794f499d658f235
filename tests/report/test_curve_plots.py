"""Learning curves and calibration."""

import pytest
from matplotlib.figure import Figure

from kd_jax.report import curve_plots
from tests.report import example_records


def _epochs(accuracies):
  """Returns records of epochs, from the accuracies by row and seed."""
  return [
    {'row': row, 'seed': seed, 'epoch': epoch, 'eval/accuracy': accuracy}
    for (row, seed), curve in accuracies.items()
    for epoch, accuracy in enumerate(curve)
  ]


def test_a_learning_curve_is_the_mean_over_the_seeds_of_a_run(record):
  epochs = _epochs(
    {('h50', 0): [0.5, 0.7], ('h50', 1): [0.7, 0.9], ('h50', 9): [0.1, 0.1]}
  )
  curves = curve_plots.learning_curves(record, epochs)
  assert curves == {'h50': (pytest.approx([60, 80]), 2)}
  assert curve_plots.curves_title(curves) == (
    'h50 ends at 80.0 % after 2 epochs (n = 2)'
  )
  assert 'none' in curve_plots.curves_title({})


def test_of_many_curves_the_highest_and_the_lowest_have_names(record):
  rows = [f'r{i}' for i in range(20)]
  record['students'] = [example_records.student(row, 0, 0.5) for row in rows]
  epochs = _epochs({(row, 0): [0.1, i / 100] for i, row in enumerate(rows)})
  figure = Figure()
  curve_plots.draw_learning_curves(figure, record, epochs)
  named = {text.get_text() for text in figure.axes[0].texts}
  assert named == {f'r{i}' for i in (*range(3), *range(16, 20))}
  title = figure.get_suptitle().replace('\n', ' ')
  assert title.startswith('r19 ends at 19.0 %')
  assert title.endswith('13 other rows are gray')


def test_networks_are_ordered_by_their_calibration_error(record):
  record['students'][2]['test']['ece'] = 0.2
  record['teacher']['test']['ece'] = 0.005
  figure = Figure()
  curve_plots.draw_reliability(figure, record)
  titles = [axes.get_title('left') or axes.get_title() for axes in figure.axes]
  assert [title.split('\n')[0] for title in titles] == [
    'h50_hard', 'h50', 'teacher',
  ]  # fmt: skip
  assert figure.get_suptitle().replace('\n', ' ') == (
    'Expected calibration error: h50_hard 0.200 (largest) to teacher 0.005 '
    '(least)'
  )
