"""Tables of one record.

Also tests `kd_jax/report/fields.py`.
"""

import pytest

from kd_jax.report import run_report, tables
from tests.report import example_records


def test_accuracy_is_a_mean_with_its_standard_deviation(record):
  table = tables.accuracy_table(record)
  h50 = example_records.cells(table, 'h50')
  assert h50[1:5] == ['2', '96.50 ± 0.71', '95.97', '+0.53']
  assert h50[5] == '35 ± 7'
  hard = example_records.cells(table, 'h50_hard')
  assert hard[1:5] == ['1', '95.00', '–', '–']
  teacher = example_records.cells(table, 'teacher')
  assert teacher[2:5] == ['97.80', '97.41', '+0.39']


def test_cost_has_ratios_with_their_quartiles(record):
  cells = example_records.cells(tables.cost_table(record), 'h50')
  assert cells == [
    'h50', '2.5 ± 0.7', '1.0 ± 0.0', '31.0', '39,760', '39,700',
    '40.0 (20.0–80.0)', '7.0 (3.5–14.0)',
    '9.0 (4.5–18.0)', '315.3',
  ]  # fmt: skip


def test_cost_has_no_ratios_without_a_teacher_network(record):
  record['benchmark']['reference'] = 'h50'
  cells = example_records.cells(tables.cost_table(record), 'h50')
  assert cells[4:] == ['39,760', '39,700', '315.3']
  assert 'ratio, ' not in tables.cost_table(record)


def test_accuracy_is_given_after_each_phase(record):
  cells = example_records.cells(tables.phases_table(record), 'h50')
  assert cells == ['h50', '86.50 ± 0.71', '96.50 ± 0.71', '95.97']


def test_unknown_values_are_dashes(record):
  del record['teacher']['test']
  for student in record['students'][:2]:
    del student['test']['teacher_agreement']
  accuracy = tables.accuracy_table(record)
  assert example_records.cells(accuracy, 'teacher')[2] == '–'
  assert example_records.cells(accuracy, 'h50')[-2] == '–'


def test_columns_without_a_value_are_left_out(record):
  del record['benchmark']
  for student in record['students'] + [record['teacher']]:
    del student['test']['teacher_agreement']
    student['time']['fold_loop_s'] = 0.0
  assert 'agreement' not in tables.accuracy_table(record)
  header = tables.cost_table(record).partition('\n')[0]
  assert 'fold loop' not in header and 'MAC' not in header


def test_the_time_of_a_teacher_that_came_with_the_project_is_marked(record):
  (train_s,) = {record['teacher']['time']['train_s']}
  assert '†' not in tables.cost_table(record)
  record['teacher']['source'] = 'mnist-conv_net'
  cells = example_records.cells(tables.cost_table(record), 'teacher')
  assert cells[1] == f'{train_s:.1f} †'


def test_a_stored_teacher_has_a_line_for_each_scaling_and_split():
  metrics = {
    'accuracy': 0.9, 'errors': 1000, 'nll': 0.3, 'ece': 0.01, 'brier': 0.14,
  }  # fmt: skip
  manifest = {'accuracy': {'symmetric': {'test': metrics}}}
  table = tables.pretrained_table(manifest)
  assert example_records.cells(table, 'symmetric') == [
    'symmetric', 'test', '90.00', '1000', '0.3000', '0.0100', '0.1400',
  ]  # fmt: skip


@pytest.mark.parametrize(
  'section',
  [
    {'paper': {}},
    {'data': {'name': 'fashion_mnist'}},
    # The other data set of the paper.
    {'data': {'name': 'cifar10'}},
    {'data': {'name': 'mnist', 'train_examples': 1024}},
    {'data': {'name': 'mnist', 'holdout_examples': 1000}},
    {'teacher': {'logits': 'logits.npz'}},
    {'teacher': {'module': 'mine:teacher'}},
    {'student': {'kind': 'mine:student'}},
  ],
)
def test_data_without_figures_of_the_paper_has_no_columns_for_them(
  record, section
):
  """The paper's figures are not shown beside other images or networks."""
  record['config'] |= section
  assert 'paper' not in tables.accuracy_table(record)
  assert 'difference' not in tables.accuracy_table(record)
  assert 'paper' not in tables.cost_table(record)
  assert 'paper' not in tables.phases_table(record)
  assert 'paper %' not in run_report.render(record)


@pytest.mark.parametrize(
  ('arguments', 'has_figures'),
  [
    ('h50,seeds=5 --config.benchmark.cold_calls=3', True),
    ('h50,method=response --config.teacher.seed=1', True),
    ('h50 --config.distill.temperature=2', False),
    ('h50 --noconfig.train.drop_remainder', False),
    ('h50,seeds=2,method=hint', False),
    ('h50,epochs=3', False),
    ('ideal_best,epochs=3', True),
  ],
)
def test_students_that_a_command_changes_have_no_figures_of_the_paper(
  record, arguments, has_figures
):
  record['command'] = f'launch.py --config=configs/mnist.py:{arguments}'
  assert ('paper %' in tables.accuracy_table(record)) is has_figures
