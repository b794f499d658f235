"""Plots of benchmarks beside other systems."""

import pytest
from matplotlib.figure import Figure

from kd_jax.report import benchmark_plots
from tests.report import example_records


def test_the_roofline_has_the_limit_and_two_points_for_each_batch():
  figure = Figure()
  record = example_records.inference_record('x', macs=1_000_000)
  benchmark_plots.draw_roofline(
    figure, {'bench-avx2-inference-x': record}, 'avx2'
  )
  (axes,) = figure.axes
  limit, others, ours = axes.get_lines()
  assert len(others.get_xdata()) == 2
  # A batch of 1 needs 2 M operations on 4,800 bytes, where the limit is the
  # peak.
  assert ours.get_xdata()[0] == pytest.approx(2e6 / 4800)
  assert ours.get_ydata()[0] == pytest.approx(2e6 * 1000 / 1e9)
  assert max(limit.get_ydata()) == pytest.approx(100)
  assert limit.get_ydata()[0] == pytest.approx(min(100, 10 * 10))


def test_growth_is_drawn_relative_to_the_usual_value():
  figure = Figure()
  benchmark_plots.draw_growth(figure, example_records.growth_record())
  _, line = figure.axes[0].get_lines()
  assert list(line.get_xdata()) == [0.25, 1]
  assert list(line.get_ydata()) == [3, 1]


def test_the_title_of_the_roofline_compares_the_least_and_the_largest_batch():
  rates = {
    'a': [benchmark_plots.Rates(1, 1.0, 10.0, 20.0)],
    'b': [
      benchmark_plots.Rates(1, 1.0, 30.0, 10.0),
      benchmark_plots.Rates(1000, 9.0, 50.0, 40.0),
    ],
  }
  assert benchmark_plots.roofline_title(rates) == (
    'Rate of kd_jax over the fastest other system: 0.50 to 3.00 times at batch '
    '1, 0.50 to 1.25 times at batch 1 or 1,000'
  )


def test_the_title_of_growth_names_what_grows_faster_than_linear():
  costs = {
    ('a', 'examples'): [(0.5, 0.9), (1.0, 1.0), (4.0, 4.4)],
    ('b', 'seeds'): [(1.0, 1.0), (2.0, 3.0)],
  }
  assert benchmark_plots.growth_title(costs) == (
    'Furthest above linear (dotted): with 2 times the seeds, an epoch of b '
    'takes 3.0 times as long'
  )
