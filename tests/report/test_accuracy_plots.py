"""The lines in plots of accuracy."""

import pytest
from matplotlib.figure import Figure

from kd_jax.report import accuracy_plots, plots
from tests.report import example_records


def test_rows_that_differ_only_in_temperature_are_a_line(record):
  rows = {
    f'units{units}_t{temperature:g}': {
      'student': {'hidden': [units]},
      'distill': {'temperature': temperature, 'kd_weight': 1.0},
    }
    for units in (30, 300)
    for temperature in (8.0, 1.0, 20.0, 4.0)
  }
  rows['hard'] = {
    'student': {'hidden': [300]},
    'distill': {'temperature': 20.0, 'kd_weight': 0.0},
  }
  record['config'] |= {
    'rows': rows,
    'distill': {'temperature': None, 'kd_weight': None, 'ce_weight': 1.0},
  }
  record['students'] = [
    example_records.student(row, 0, 0.9 + i / 100) for i, row in enumerate(rows)
  ]
  assert accuracy_plots.temperature_lines(record) == {
    'units30_t': [(1, [91]), (4, [93]), (8, [90]), (20, [92])],
    'units300_t': [(1, [95]), (4, [97]), (8, [94]), (20, [96])],
  }
  assert 'accuracy_temperature' in plots.names(record)


def test_accuracy_against_examples_has_lines_with_and_without_a_teacher(record):
  figure = Figure()
  accuracy_plots.draw_against_examples(
    figure, example_records.with_training_sets(record, 2)
  )
  (axes,) = figure.axes
  lines = [c.lines[0].get_xydata().tolist() for c in axes.containers]
  assert lines == [
    [[10, pytest.approx(90.5)], [20, pytest.approx(90.5)]],
    [[10, pytest.approx(80.5)], [20, pytest.approx(80.5)]],
  ]
  assert [text.get_text() for text in axes.texts] == ['labels alone', 'with KD']
  assert axes.get_ylabel() == 'test accuracy, % (mean ± sd over seeds, n = 2)'


def test_the_title_says_what_kd_adds():
  lines = {
    'with KD': [(500, [36.0, 38.0]), (1000, [50.0]), (2000, [70.0])],
    'labels alone': [(500, [35.0]), (1000, [51.0])],
  }
  assert accuracy_plots.gain_title(lines) == (
    'KD changes accuracy by -1.0 points (1,000 examples) to +2.0 points '
    '(500 examples) over labels alone'
  )
  del lines['labels alone']
  assert 'against the number' in accuracy_plots.gain_title(lines)


def test_the_title_says_how_far_accuracy_moves():
  lines = {'a': [(1, [90.0]), (2, [92.0, 93.0])]}
  assert accuracy_plots.range_title('The temperature', lines) == (
    'The temperature moves mean accuracy by 2.5 points'
  )
  lines['b'] = [(1, [80.0]), (2, [80.1])]
  assert accuracy_plots.range_title('The temperature', lines) == (
    'The temperature moves mean accuracy by 0.1 points (b) to 2.5 points (a)'
  )
