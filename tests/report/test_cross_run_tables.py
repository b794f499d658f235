"""Tables over all published runs."""

from kd_jax.report import cross_run_tables
from tests.report import example_records


def test_cifar_runs_stand_beside_the_paper_with_their_last_epochs(record):
  example_records.as_cifar_run(record)
  table = cross_run_tables.cifar_table({'cifar-a': record})
  assert example_records.rows(table)[0] == [
    'a', 'h50', '2', '96.50 ± 0.71', '80.50 ± 0.71', '96.0', '+0.5', '2 ± 1',
    '40.0 (20.0–80.0)', '–', '315.3',
  ]  # fmt: skip
  del record['benchmark']
  table = cross_run_tables.cifar_table({'cifar-a': record})
  assert '| – |' in table.replace('  ', '')
  other = record | {'config': {'data': {'name': 'mnist'}}}
  assert len(cross_run_tables.cifar_table({'b': other}).splitlines()) == 2


def test_teachers_stand_beside_the_student_h300_of_their_run(record):
  record['config']['teacher'] = {'model': {'dropout_rate': 0.5}, 'seed': 3}
  record['students'].append(example_records.student('h300', 0, 0.971))
  without = record | {'students': [example_records.student('h50', 0, 0.9)]}
  table = cross_run_tables.teachers_table({'a-run': record, 'other': without})
  assert example_records.rows(table) == [
    ['a-run', '0.5', '3', '97.80', '97.10']
  ]
