"""Plots of accuracy against examples, temperature or a weight of the loss."""

import json
import os
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from kd_jax.report import fields, figures, row_plots
from kd_jax.report.fields import Record
from kd_jax.report.figures import Axes
from kd_jax.runtime import run_records

# A line of a plot: x and the accuracies (%) of its seeds, for each point.
Line = list[tuple[float, list[float]]]
# Lines with fewer points are not drawn, because a table shows them better.
MIN_POINTS = 4
_KD, _LABELS = 'with KD', 'labels alone'


def draw_against_examples(figure: Any, record: Record) -> None:
  """Draws accuracy against training examples, with and without the teacher."""
  lines = example_lines(record)
  axes = figure.add_subplot()
  axes.set_xscale('log')
  axes.set_xlabel('training examples')
  _draw_lines(axes, lines)
  figures.title(figure, gain_title(lines))


def example_lines(record: Record) -> dict[str, Line]:
  """Returns the lines with and without the teacher; x is training examples."""
  lines: dict[str, Line] = {}
  for name, students in run_records.by_row(record).items():
    kd_weight = fields.row_value(record, name, 'distill', 'kd_weight')
    examples = fields.training_examples(record, name, students[0])
    assert examples is not None  # See `has_enough_sizes`.
    lines.setdefault(_KD if kd_weight else _LABELS, []).append(
      (examples, fields.accuracies_percent(students))
    )
  return lines


def gain_title(lines: dict[str, Line]) -> str:
  """Returns a sentence about the gain of KD over labels, from both lines."""
  labels = dict(lines.get(_LABELS, []))
  gains = [
    (statistics.fmean(values) - statistics.fmean(labels[x]), x)
    for x, values in lines.get(_KD, [])
    if x in labels
  ]
  if not gains:
    return 'Test accuracy against the number of training examples'
  (least, at_least), (most, at_most) = min(gains), max(gains)
  return (
    f'KD changes accuracy by {least:+.1f} points ({at_least:,} examples) to '
    f'{most:+.1f} points ({at_most:,} examples) over labels alone'
  )


def has_enough_sizes(record: Record) -> bool:
  """Returns whether rows have enough numbers of training examples to draw."""
  sizes = {
    fields.training_examples(record, row, students[0])
    for row, students in run_records.by_row(record).items()
  }
  return len(sizes) >= MIN_POINTS and None not in sizes


def draw_against_kd_share(figure: Any, record: Record) -> None:
  """Draws accuracy against the share of the KD term in the loss."""
  lines = kd_share_lines(record)
  axes = figure.add_subplot()
  axes.set_xlabel('weight of the KD term / weight of both terms')
  _draw_lines(axes, lines)
  figures.title(figure, range_title('The weight of the KD term', lines))


def draw_against_temperature(figure: Any, record: Record) -> None:
  """Draws accuracy against the temperature of distillation."""
  lines = temperature_lines(record)
  axes = figure.add_subplot()
  axes.set_xscale('log')
  axes.set_xlabel('temperature of distillation')
  _draw_lines(axes, lines)
  figures.title(figure, range_title('The temperature', lines))


def range_title(what: str, lines: dict[str, Line]) -> str:
  """Returns a sentence about how far the mean accuracy moves along lines."""
  ranges = {}
  for label, points in lines.items():
    means = [statistics.fmean(values) for _, values in points]
    ranges[label] = max(means) - min(means)
  low, high = (choose(ranges, key=ranges.__getitem__) for choose in (min, max))
  if len(ranges) == 1:
    return f'{what} moves mean accuracy by {ranges[high]:.1f} points'
  return (
    f'{what} moves mean accuracy by {ranges[low]:.1f} points ({low}) to '
    f'{ranges[high]:.1f} points ({high})'
  )


def kd_share_lines(record: Record) -> dict[str, Line]:
  """Returns the lines of rows that differ only in the weights of the loss.

  x is kd_weight / (kd_weight + ce_weight).
  """
  return _lines(
    record,
    lambda d: d['kd_weight'] / (d['kd_weight'] + d['ce_weight']),
    ('kd_weight', 'ce_weight'),
  )


def temperature_lines(record: Record) -> dict[str, Line]:
  """Returns the lines of rows that differ only in the temperature, x."""
  return _lines(record, lambda d: d['temperature'], ('temperature',))


def _lines(
  record: Record,
  x_of_distill: Callable[[Record], float],
  varying: Sequence[str],
) -> dict[str, Line]:
  """Groups rows that differ only in some fields of `distill` into lines.

  Args:
    record: the run.
    x_of_distill: a function from a row's 'distill' section to x.
    varying: the fields of 'distill' in which the rows of a line may differ.
  Returns:
    The lines with at least `MIN_POINTS` different x, by the common prefix of
    their rows' names. The points of a line are sorted by x.
  """
  lines: dict[str, dict[str, tuple[float, list[float]]]] = {}
  for name, students in run_records.by_row(record).items():
    overrides = record['config'].get('rows', {}).get(name, {})
    distill = record['config'].get('distill', {}) | {
      key: value
      for key, value in overrides.get('distill', {}).items()
      if value is not None
    }
    if not all(field in distill for field in varying):
      continue
    fixed = {k: v for k, v in distill.items() if k not in varying}
    line = json.dumps([overrides | {'distill': None}, fixed], sort_keys=True)
    point = (x_of_distill(distill), fields.accuracies_percent(students))
    lines.setdefault(line, {})[name] = point
  return {
    os.path.commonprefix([*points]).rstrip('_'): sorted(points.values())
    for points in lines.values()
    if len({x for x, _ in points.values()}) >= MIN_POINTS
  }


def _draw_lines(axes: Axes, lines: dict[str, Line]) -> None:
  """Draws lines through the mean accuracies, with standard deviations."""
  labels = []
  for i, (label, points) in enumerate(lines.items()):
    means = [statistics.fmean(values) for _, values in points]
    style = figures.style(i)
    axes.errorbar(
      [x for x, _ in points],
      means,
      [fields.standard_deviation(values) for _, values in points],
      linestyle=style.line,
      marker=style.marker,
      capsize=3,
      color=style.color,
    )
    if label:  # The rows of a single line may have no common prefix.
      labels.append(figures.Label(points[-1][0], means[-1], label, style.color))
  samples = [values for points in lines.values() for _, values in points]
  axes.set_ylabel(row_plots.accuracy_label(samples))
  figures.label_ends(axes, labels)
