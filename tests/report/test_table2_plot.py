"""The plot of all CIFAR-10 runs."""

import contextlib
import json

import pytest

from kd_jax.report import figures, table2_plot
from tests.report import example_records


@pytest.fixture
def drawn(monkeypatch):
  """Returns a list that receives the label and the points of each drawn run."""
  figure, runs = figures.figure, []

  @contextlib.contextmanager
  def recording_figure(path):
    with figure(path) as axes:
      yield axes
      runs.extend(
        (points.get_label(), points.lines[0].get_xydata().round(2).tolist())
        for points in axes.containers
      )

  monkeypatch.setattr(figures, 'figure', recording_figure)
  return runs


def _untimed(record):
  """Returns a copy of a run without timings."""
  untimed = json.loads(json.dumps(record))
  del untimed['benchmark']
  return untimed


def test_a_run_without_timings_gets_the_ratios_of_its_networks(
  record, tmp_path, drawn
):
  timed = example_records.as_cifar_run(record)
  untimed = _untimed(timed)
  untimed['config']['rows']['h50_hard']['student']['blocks'] = [2, 2]
  table2_plot.write(tmp_path, {'cifar-cpu': timed, 'cifar-gpu': untimed})
  # With min_blocks=1, blocks (1, 0) and (1, 1) are one network, so both rows of
  # the timed run have a ratio. No run timed blocks (2, 2).
  assert drawn == [
    ('cpu', [[40, 96.5], [40, 95]]),
    ('gpu', [[40, 96.5]]),
  ]


@pytest.mark.parametrize('old_fields', [{}, {'arithmetic': 'float'}])
def test_old_and_new_records_of_one_network_share_a_ratio(
  record, tmp_path, drawn, old_fields
):
  """Older records call `quantization` 'arithmetic', or lack the field."""
  timed = example_records.as_cifar_run(record)
  untimed = _untimed(timed)
  timed['config']['student'] |= old_fields
  untimed['config']['student']['quantization'] = 'float'
  untimed['config']['rows']['h50_hard']['student']['quantization'] = 'int8'
  table2_plot.write(tmp_path, {'cifar-old': timed, 'cifar-new': untimed})
  # No run timed the 8-bit network of the new record.
  assert drawn == [
    ('old', [[40, 96.5], [40, 95]]),
    ('new', [[40, 96.5]]),
  ]
