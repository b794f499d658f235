"""Tables of one record."""

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
  assert cells[4:] == ['39,760', '39,700', '–', '–', '–', '315.3']


def test_accuracy_is_given_after_each_phase(record):
  cells = example_records.cells(tables.phases_table(record), 'h50')
  assert cells == ['h50', '86.50 ± 0.71', '96.50 ± 0.71', '95.97']


def test_unknown_values_are_dashes(record):
  del record['benchmark'], record['teacher']['test']
  for student in record['students']:
    del student['test']['teacher_agreement']
  accuracy, cost = tables.accuracy_table(record), tables.cost_table(record)
  assert example_records.cells(accuracy, 'teacher')[2] == '–'
  assert example_records.cells(accuracy, 'h50')[-2] == '–'
  assert example_records.cells(cost, 'h50')[-2] == '–'


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
