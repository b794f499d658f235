"""Plots of benchmarks beside other systems."""

import pytest
from matplotlib.figure import Figure

from kd_jax.report import benchmark_plots
from tests.report import example_records


def test_the_roofline_has_the_limit_and_two_points_for_each_batch():
  axes = Figure().add_subplot()
  record = example_records.inference_record('x', macs=1_000_000)
  benchmark_plots.draw_roofline(
    axes, {'bench-avx2-inference-x': record}, 'avx2'
  )
  *points, limit = axes.get_lines()
  assert len(points) == 4
  # A batch of 1 needs 2 M operations on 4,800 bytes, where the limit is the
  # peak.
  ours = points[0]
  assert ours.get_xdata()[0] == pytest.approx(2e6 / 4800)
  assert ours.get_ydata()[0] == pytest.approx(2e6 * 1000 / 1e9)
  assert max(limit.get_ydata()) == pytest.approx(100)
  assert limit.get_ydata()[0] == pytest.approx(min(100, 10 * 10))


def test_growth_is_drawn_relative_to_the_usual_value():
  axes = Figure().add_subplot()
  benchmark_plots.draw_growth(axes, example_records.growth_record())
  line = axes.get_lines()[0]
  assert list(line.get_xdata()) == [0.25, 1]
  assert list(line.get_ydata()) == [3, 1]
