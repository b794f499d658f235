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
  assert example_records.cells(table, 'h50')[1:4] == [
    '2', '96.50 ± 0.71', '+0.00',
  ]  # fmt: skip
  hard = example_records.cells(table, 'h50_hard')
  assert hard[3] == '-1.50' and hard[-1] == '1.10 (0.55–2.20)'
  assert 'accuracy_rows' in plots.names(record)
  record['config']['benchmark'] = {'steps_against': ''}
  assert 'accuracy_rows' not in plots.names(record)


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
