"""Dot plots with a line for each row of a run."""

import copy

from matplotlib.figure import Figure

from kd_jax.report import row_plots
from tests.report import example_records


def test_the_title_of_costs_compares_the_best_row_with_the_teacher(record):
  assert row_plots.cost_title(record) == (
    'h50 has the best mean accuracy, 96.5 %, 1.3 points below the teacher, '
    'and 40.0 times its speed'
  )
  del record['benchmark'], record['teacher']['test']
  record['students'][2]['test']['accuracy'] = 0.965
  record['students'][1] = record['students'][0]
  record['students'][0]['test']['accuracy'] = 0.965
  assert row_plots.cost_title(record) == (
    'h50 (one training with 1 other rows) has the best mean accuracy, 96.5 %'
  )


def test_costs_have_a_panel_for_each_quantity(record):
  figure = Figure()
  row_plots.draw_cost(figure, record)
  labels = [axes.get_xlabel().split('\n')[0] for axes in figure.axes]
  assert labels == [
    'test accuracy, %', 'parameters', 'training, s', 'inference speed,',
  ]  # fmt: skip
  # h50_hard is below h50, whose size is the same, by its accuracy.
  names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
  assert names == ['h50_hard', 'h50']
  crosses = [
    line.get_xydata().tolist()
    for line in figure.axes[0].get_lines()
    if line.get_marker() == 'x'
  ]
  assert crosses == [[[95.97, 1]]]


def _compared(record, accuracies):
  """Returns a run of rows with some accuracies, by seed, compared with 'a'."""
  record['config'] |= {'benchmark': {'steps_against': 'a'}}
  record['students'] = [
    example_records.student(row, seed, accuracy)
    for row, sample in accuracies.items()
    for seed, accuracy in enumerate(sample)
  ]
  return record


def test_rows_that_a_test_tells_apart_are_counted_and_colored(record):
  run = _compared(
    record,
    {
      'a': [0.90, 0.91, 0.90],
      'b': [0.95, 0.961, 0.95],
      'c': [0.80, 0.811, 0.80],
      'd': [0.90, 0.93, 0.89],
    },
  )
  assert row_plots.rows_title(run) == (
    '2 of 3 rows are significantly different from a: 1 better, 1 worse (n = 3, '
    'paired t tests, Holm)'
  )
  figure = Figure()
  row_plots.draw_by_accuracy(figure, run)
  markers = [dot.lines[0].get_marker() for dot in figure.axes[0].containers]
  assert markers == ['v', 'D', 'o', '^']
  run = _compared(record, {'a': [0.9, 0.8], 'b': [0.8, 0.9]})
  assert row_plots.rows_title(run).startswith(
    'No row is significantly different from a (n'
  )


def test_the_title_of_biases_names_the_row_that_a_bias_helps_most():
  student = {
    'test': {'errors': 100},
    'bias': {
      'by': {
        'labels': {'test': {'errors': 50}},
        'teacher': {'test': {'errors': 60}},
      }
    },
  }
  better = copy.deepcopy(student)
  better['test']['errors'] = 2000
  assert row_plots.bias_title({'a': [student], 'b': [better, better]}) == (
    'A bias chosen by labels reduces the errors of b most, from 2,000 to 50'
  )


def test_an_axis_says_how_many_seeds_there_are():
  assert row_plots.accuracy_label([[1], [2]]) == 'test accuracy, % (one seed)'
  assert row_plots.accuracy_label([[1, 2], [2]]) == (
    'test accuracy, % (mean ± sd over seeds, n = 1 to 2)'
  )
