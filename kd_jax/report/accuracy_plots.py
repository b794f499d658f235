"""Plots of accuracy against size, time, examples or a weight of the loss."""

import json
import os
import statistics
from collections.abc import Callable, Sequence

from kd_jax.report import fields, figures
from kd_jax.report.fields import Record
from kd_jax.report.figures import Axes
from kd_jax.runtime import run_records

# A line of a plot: x and the accuracies (%) of its seeds, for each point.
Line = list[tuple[float, list[float]]]
# Lines with fewer points are not drawn, because a table shows them better.
MIN_POINTS = 4


def draw_against_size(axes: Axes, record: Record) -> None:
  """Draws accuracy against the number of parameters."""
  _draw_rows(axes, record, lambda student: student['parameters'], None)
  axes.set_xlabel('parameters')


def draw_against_time(axes: Axes, record: Record) -> None:
  """Draws accuracy against training time.

  The time is that of the fold loop, as in the paper. For a training without
  folds, it is the whole training time.
  """

  def seconds(student: Record) -> float:
    time = student['time']
    return time['fold_loop_s'] or time['train_s']

  _draw_rows(axes, record, seconds, 'train_s')
  axes.set_xlabel(
    'training time, s (only the fold loop, if the training has folds)'
  )


def draw_against_inference(axes: Axes, record: Record) -> None:
  """Draws accuracy against the inference ratio at the largest batch."""
  size = str(fields.batch_sizes(record)[-1])

  def ratio(student: Record) -> float:
    network = fields.network_timing(record, student['row'])
    return network['batches'][size]['ratio']['median']

  _draw_rows(axes, record, ratio, 'inference_ratio')
  axes.set_xlabel(f'inference time, teacher / student, batches of {size}')


def _draw_rows(
  axes: Axes,
  record: Record,
  x_of_student: Callable[[Record], float],
  paper_x: str | None,
) -> None:
  """Draws each row's accuracy (mean, standard deviation) and the paper's.

  Args:
    axes: the axes to draw on.
    record: the run.
    x_of_student: a function from a student to x; a row's x is the mean.
    paper_x: the paper's figure for x; None draws the paper's accuracy at the
      row's x.
  """
  paper_figures = fields.paper_figures(record)
  for i, (name, students) in enumerate(run_records.by_row(record).items()):
    accuracies = fields.accuracies_percent(students)
    x = statistics.fmean(x_of_student(student) for student in students)
    axes.errorbar(
      x,
      statistics.fmean(accuracies),
      fields.standard_deviation(accuracies),
      color=figures.color(i),
      fmt='o',
      capsize=3,
      label=name,
    )
    paper = paper_figures.get(name)
    if paper and (paper_x is None or paper_x in paper):
      axes.plot(
        paper[paper_x] if paper_x else x,
        paper['accuracy'],
        marker='x',
        color=figures.color(i),
      )
  teacher = record['teacher'].get('test')
  if teacher:
    axes.axhline(100 * teacher['accuracy'], color='gray', linestyle='--')
  axes.set_xscale('log')
  axes.set_ylabel('test accuracy, %')
  crosses = ' crosses: the paper;' if paper_figures else ''
  axes.set_title(f'dots: ours;{crosses} dashes: our teacher')
  axes.legend(fontsize='small', ncols=2)
  axes.grid(alpha=0.3)


def draw_rows_by_accuracy(axes: Axes, record: Record) -> None:
  """Draws the accuracy of each row, the most accurate row on top.

  The reference row is orange and has a dashed vertical line.
  """
  accuracies = {
    name: fields.accuracies_percent(students)
    for name, students in run_records.by_row(record).items()
  }
  mean = {name: statistics.fmean(values) for name, values in accuracies.items()}
  order = sorted(mean, key=mean.__getitem__)
  reference = fields.reference_row(record)
  assert reference is not None  # `plots.PLOTS` asks for it.
  for y, name in enumerate(order):
    axes.errorbar(
      mean[name],
      y,
      xerr=fields.standard_deviation(accuracies[name]),
      color='C1' if name == reference else 'C0',
      fmt='o',
      capsize=3,
    )
  axes.axvline(mean[reference], color='C1', linestyle='--')
  axes.set_yticks(range(len(order)), order, fontsize='x-small')
  axes.set_xlabel('test accuracy, %')
  axes.grid(alpha=0.3)


def draw_against_examples(axes: Axes, record: Record) -> None:
  """Draws accuracy against training examples, with and without the teacher."""
  lines: dict[str, Line] = {}
  for name, students in run_records.by_row(record).items():
    kd_weight = fields.row_value(record, name, 'distill', 'kd_weight')
    examples = fields.training_examples(record, name, students[0])
    assert examples is not None  # See `has_enough_sizes`.
    lines.setdefault('with KD' if kd_weight else 'labels alone', []).append(
      (examples, fields.accuracies_percent(students))
    )
  _draw_lines(axes, lines)
  axes.set_xscale('log')
  axes.set_xlabel('training examples')


def has_enough_sizes(record: Record) -> bool:
  """Returns whether rows have enough numbers of training examples to draw."""
  sizes = {
    fields.training_examples(record, row, students[0])
    for row, students in run_records.by_row(record).items()
  }
  return len(sizes) >= MIN_POINTS and None not in sizes


def draw_against_kd_share(axes: Axes, record: Record) -> None:
  """Draws accuracy against the share of the KD term in the loss."""
  _draw_lines(axes, kd_share_lines(record))
  axes.set_xlabel('weight of the KD term / weight of both terms')


def draw_against_temperature(axes: Axes, record: Record) -> None:
  """Draws accuracy against the temperature of distillation."""
  _draw_lines(axes, temperature_lines(record))
  axes.set_xscale('log')
  axes.set_xlabel('temperature of distillation')


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
  for i, (label, points) in enumerate(lines.items()):
    axes.errorbar(
      [x for x, _ in points],
      [statistics.fmean(values) for _, values in points],
      [fields.standard_deviation(values) for _, values in points],
      fmt='o-',
      capsize=3,
      color=figures.color(2 * i),
      label=label,
    )
  axes.set_ylabel('accuracy, %')
  if any(lines):  # The rows of a single line may have no common prefix.
    axes.legend()
  axes.grid(alpha=0.3)
