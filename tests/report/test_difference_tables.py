"""Tables of paired differences between the rows of a run."""

import pytest

from kd_jax.report import difference_tables, publish
from kd_jax.runtime import errors
from tests.report import example_records


def _row(hidden, kd_weight, batch_size=32):
  return {
    'distill': {'kd_weight': kd_weight},
    'student': {'hidden': [hidden]},
    'train': {'batch_size': batch_size},
  }


@pytest.fixture(name='study')
def _study(record):
  """A run of a taught row, its control, and a row without a control."""
  accuracies = {
    'h50': (0.972, 0.974, 0.973),
    'h50_hard': (0.962, 0.965, 0.962),
    'h50_b64': (0.95, 0.95, 0.95),
    'h50_again': (0.972, 0.974, 0.973),
    'h300_hard': (0.98,),
  }
  record['config']['rows'] = {
    'h50': _row(50, 1.0),
    'h50_hard': _row(50, 0.0),
    'h50_b64': _row(50, 1.0, batch_size=64),
    'h50_again': _row(50, 1.0),
    'h300_hard': _row(300, 0.0),
  }
  record['students'] = [
    example_records.student(row, seed, accuracy)
    for row, values in accuracies.items()
    for seed, accuracy in enumerate(values)
  ]
  for student in record['students']:
    if student['row'] == 'h50_again':
      student['same_as'] = 'h50'
  return record


def _cells(table):
  header, _, *lines = (
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in table.splitlines()
  )
  return [dict(zip(header, line, strict=True)) for line in lines]


def test_a_gain_is_that_over_the_same_training_on_labels(study):
  (line,) = _cells(difference_tables.controls_table(study))
  assert (line['row'], line['control']) == ('h50', 'h50_hard')
  assert line['seeds'] == '3'
  # Gains of 1.0, 0.9 and 1.1 points; t(2) at 97.5 % is 4.303.
  assert line['gain over labels, points'] == '+1.00 ± 0.10'
  assert line['95 % interval'] == '+0.75 to +1.25'
  assert line['significant'] == 'yes'


def test_differences_from_a_row_are_corrected_for_their_number(study):
  lines = _cells(difference_tables.differences_table(study, 'h50'))
  assert [line['row'] for line in lines] == ['h50_hard', 'h50_b64', 'h300_hard']
  hard, b64, single = lines
  # The t tests give 0.0033 and 0.0006; of two, Holm's method doubles the least.
  assert hard['p (Holm)'] == '0.003'
  assert b64['p (Holm)'] == '0.001'
  assert single['significant'] == 'one seed'
  assert single['95 % interval'] == '–'


def test_one_differences_marker_is_one_table(study):
  marker = '<!-- table: a differences:{} -->\n<!-- end of table -->'
  filled = publish.fill_tables(marker.format('h50'), {'a': study})
  assert difference_tables.differences_table(study, 'h50') in filled
  with pytest.raises(errors.UserError, match="unknown row 'x'; expected diff"):
    publish.fill_tables(marker.format('x'), {'a': study})
  with pytest.raises(errors.UserError, match="unknown kind 'accuracy:h50'"):
    text = marker.format('h50').replace('differences', 'accuracy')
    publish.fill_tables(text, {'a': study})
