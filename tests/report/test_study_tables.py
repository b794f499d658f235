"""Tables of runs that study methods and their weights."""

from kd_jax.report import plots, study_tables
from tests.report import example_records


def test_methods_are_sorted_and_compared_with_the_reference_row(record):
  record['config']['benchmark'] = {'steps_against': 'h50'}
  steps = {'h50_hard': example_records.batch_timing(1.1)}
  record['benchmark']['steps_against'] = steps
  table = study_tables.methods_table(record)
  rows = example_records.rows(table)
  assert [row[0] for row in rows] == ['h50', 'h50_hard']
  assert example_records.cells(table, 'h50')[1:5] == [
    '2', '96.50 ± 0.71', '–', '–',
  ]  # fmt: skip
  hard = example_records.cells(table, 'h50_hard')
  # The control has seed 0 alone: 95 % beside 96 %.
  assert hard[3:5] == ['-1.00', '–'] and hard[-1] == '1.10 (0.55–2.20)'
  assert 'accuracy_rows' in plots.names(record)
  record['config']['benchmark'] = {'steps_against': ''}
  assert 'accuracy_rows' not in plots.names(record)


def test_rows_are_significant_by_corrected_paired_tests():
  students = [
    example_records.student(row, seed, 0.9 + 0.01 * seed + gain)
    for row, gains in {
      'kl': (0, 0, 0),
      # t = 0.02 / (0.001 / sqrt(3)) = 34.6, p = 0.0008, times 2.
      'far': (0.019, 0.020, 0.021),
      # t = 0.002 / (0.001 / sqrt(3)) = 3.46, p = 0.07.
      'near': (0.001, 0.002, 0.003),
    }.items()
    for seed, gain in enumerate(gains)
  ]
  config = {'benchmark': {'steps_against': 'kl'}}
  table = study_tables.methods_table({'students': students, 'config': config})
  assert example_records.cells(table, 'far')[3:5] == ['+2.00 ± 0.10', 'yes']
  assert example_records.cells(table, 'near')[3:5] == ['+0.20 ± 0.10', 'no']
  assert example_records.cells(table, 'kl')[3:5] == ['–', '–']


def test_a_grid_marks_the_best_weight_of_each_method():
  students = [
    example_records.student(f'{name}_{percent}', seed, accuracy + 0.01 * seed)
    for name, percent, accuracy in (
      ('kl', 10, 0.5), ('kl', 100, 0.6), ('kl', 300, 0.6),
      ('dkd', 10, 0.9), ('dkd', 100, 0.8),
    )
    for seed in (0, 1)
  ]  # fmt: skip
  record = {'students': students}
  assert study_tables.best_weights(record) == {'kl': 100, 'dkd': 10}
  cells = example_records.cells(study_tables.grid_table(record), 'dkd')
  assert cells == ['dkd', '**90.50 ± 0.71**', '80.50 ± 0.71', '–']
