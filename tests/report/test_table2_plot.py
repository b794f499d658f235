"""The plot of all CIFAR-10 runs."""

import contextlib
import json

import numpy as np
import pytest

from kd_jax.report import figures, table2_plot
from tests.report import example_records


@pytest.fixture
def drawn(monkeypatch):
  """Returns a list that receives what each panel of a figure shows.

  A panel is its title, its runs, and pairs of ratio and accuracy (%).
  """
  canvas, panels = figures.canvas, []

  @contextlib.contextmanager
  def recording_canvas(path, inches):
    with canvas(path, inches) as figure:
      yield figure
      for left, right in zip(figure.axes[::2], figure.axes[1::2], strict=True):
        legend = left.get_legend()
        accuracies = [dot.lines[0].get_xdata()[0] for dot in left.containers]
        ratios = [
          line.get_xdata()[0]
          for line in right.get_lines()
          if line.get_marker() == 'o'
        ]
        panels.append(
          (
            legend.get_title().get_text(),
            [text.get_text() for text in legend.get_texts()],
            np.stack([ratios, accuracies], 1).round(2).tolist(),
          )
        )

  monkeypatch.setattr(figures, 'canvas', recording_canvas)
  return panels


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
    ('cpu', ['cifar-cpu (n = 1 to 2)'], [[40, 96.5], [40, 95]]),
    ('gpu', ['cifar-gpu (n = 2)'], [[40, 96.5]]),
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
    ('old', ['cifar-old (n = 1 to 2)'], [[40, 96.5], [40, 95]]),
    ('new', ['cifar-new (n = 2)'], [[40, 96.5]]),
  ]


def test_runs_of_one_experiment_share_a_panel(record, tmp_path, drawn):
  timed = example_records.as_cifar_run(record)
  table2_plot.write(
    tmp_path,
    {'cifar-table2-as_coded': timed, 'cifar-table2-as_coded-gpu': timed},
  )
  ((title, runs, points),) = drawn
  assert title == 'table2'
  assert runs == ['as_coded (n = 1 to 2)', 'gpu (n = 1 to 2)']
  assert len(points) == 4


def test_the_title_says_how_far_from_the_paper_a_run_is(record):
  rows = {
    'h50': table2_plot.Timed(record['students'][:2], {}),
    'h50_hard': table2_plot.Timed(record['students'][2:], {}),
  }
  paper = {'cifar-table2': {'h50': {'accuracy': 95.0}}}
  assert table2_plot.title({'cifar-table2': rows}, paper) == (
    "Mean accuracies of table2 lie 1.5 points from the paper's at the median, "
    'and 1.5 at most (rows beside the paper: 1; n = 1 to 2)'
  )
