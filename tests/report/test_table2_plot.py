"""The plot of all CIFAR-10 runs."""

import contextlib
import json

from kd_jax.report import figures, table2_plot
from tests.report import example_records


def test_a_run_without_timings_gets_the_ratios_of_its_networks(
  record, tmp_path, monkeypatch
):
  timed = example_records.as_cifar_run(record)
  untimed = json.loads(json.dumps(timed))
  del untimed['benchmark']
  untimed['config']['rows']['h50_hard']['student']['blocks'] = [2, 2]
  figure, drawn = figures.figure, []

  @contextlib.contextmanager
  def recording_figure(path):
    with figure(path) as axes:
      yield axes
      drawn.extend(
        (points.get_label(), points.lines[0].get_xydata().round(2).tolist())
        for points in axes.containers
      )

  monkeypatch.setattr(figures, 'figure', recording_figure)
  table2_plot.write(tmp_path, {'cifar-cpu': timed, 'cifar-gpu': untimed})
  # With min_blocks=1, blocks (1, 0) and (1, 1) are one network, so both rows of
  # the timed run have a ratio. No run timed blocks (2, 2).
  assert drawn == [
    ('cpu', [[40, 96.5], [40, 95]]),
    ('gpu', [[40, 96.5]]),
  ]
