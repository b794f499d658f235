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
  axes = Figure().add_subplot()
  accuracy_plots.draw_against_examples(
    axes, example_records.with_training_sets(record, 2)
  )
  lines = {
    container.get_label(): container.lines[0].get_xydata().tolist()
    for container in axes.containers
  }
  assert lines == {
    'with KD': [[10, pytest.approx(90.5)], [20, pytest.approx(90.5)]],
    'labels alone': [[10, pytest.approx(80.5)], [20, pytest.approx(80.5)]],
  }
