"""The plots that a run has data for."""

from kd_jax.report import plots
from tests.report import example_records


def test_a_plot_without_data_is_not_drawn(record):
  assert 'accuracy_examples' not in plots.names(record)
  record['benchmark']['reference'] = 'h50'
  assert 'accuracy_cost' in plots.names(record)
  assert set(plots.names(record | {'students': []})) == {
    'learning_curves', 'reliability',
  }  # fmt: skip


def test_accuracy_against_examples_needs_four_training_sets(record):
  three = example_records.with_training_sets(record, 3)
  assert 'accuracy_examples' not in plots.names(three)
  four = example_records.with_training_sets(record, 4)
  assert 'accuracy_examples' in plots.names(four)
