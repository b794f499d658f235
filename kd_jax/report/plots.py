"""The plots of a run, and which of them a run has data for."""

import functools
import os
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kd_jax.report import accuracy_plots, error_plots, fields, figures
from kd_jax.report.fields import Record
from kd_jax.report.figures import Axes
from kd_jax.runtime import run_records

# The reliability diagram leaves out bins with fewer examples, whose accuracy
# is mostly noise.
_MIN_BIN = 20


def draw_bias_errors(axes: Axes, record: Record) -> None:
  """Draws errors of students that lack classes, as bars by kind of bias.

  The kinds are: as trained, a bias of the missing classes' logits chosen by the
  labels, and a bias chosen by the teacher.
  """
  rows = {
    name: students
    for name, students in run_records.by_row(record).items()
    if 'bias' in students[0]
  }
  bars = {
    'as trained': lambda s: s['test'],
    'bias chosen by labels': lambda s: s['bias']['by']['labels']['test'],
    'bias chosen by the teacher': lambda s: s['bias']['by']['teacher']['test'],
  }
  for i, (label, metrics) in enumerate(bars.items()):
    errors = [
      [metrics(student)['errors'] for student in students]
      for students in rows.values()
    ]
    axes.bar(
      [x + 0.25 * (i - 1) for x in range(len(rows))],
      [statistics.fmean(values) for values in errors],
      0.25,
      yerr=[fields.standard_deviation(values) for values in errors],
      capsize=3,
      color=figures.color(2 * i),
      label=label,
    )
  axes.set_xticks(range(len(rows)), rows)
  axes.set_yscale('log')
  axes.set_ylabel('test errors')
  axes.legend()
  axes.grid(axis='y', alpha=0.3)


def draw_learning_curves(
  axes: Axes, record: Record, epochs: Sequence[Record] = ()
) -> None:
  """Draws test accuracy after each epoch, one line for each seed.

  Args:
    axes: the axes to draw on.
    record: the run.
    epochs: the records of the run's metrics.jsonl.
  """
  rows = run_records.by_row(record) or {'teacher': [record['teacher']]}
  for i, (name, students) in enumerate(rows.items()):
    for student in students:
      curve = [
        (epoch['epoch'] + 1, 100 * epoch['eval/accuracy'])
        for epoch in epochs
        if (epoch['row'], epoch['seed']) == (name, student['seed'])
      ]
      if curve:
        axes.plot(
          *zip(*curve, strict=True),
          color=figures.color(i),
          alpha=0.8,
          label=name if student is students[0] else None,
        )
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set_xlabel('epoch (including the epochs of the fold loop)')
  axes.set_ylabel('test accuracy, %')
  axes.legend(fontsize='small', ncols=2)
  axes.grid(alpha=0.3)


def draw_reliability(axes: Axes, record: Record) -> None:
  """Draws accuracy against confidence for the first seed of each row."""
  axes.plot((0, 1), (0, 1), color='gray', linestyle='--')
  for i, (name, students) in enumerate(fields.networks(record).items()):
    bins = students[0].get('reliability')
    if bins is None:
      continue
    points = [
      (confidence, accuracy)
      for confidence, accuracy, count in zip(
        bins['confidence'], bins['accuracy'], bins['count'], strict=True
      )
      if count >= _MIN_BIN
    ]
    axes.plot(
      [confidence for confidence, _ in points],
      [accuracy for _, accuracy in points],
      marker='.',
      color=figures.color(i),
      label=name,
    )
  axes.set_title(f'first seed of each row; bins of {_MIN_BIN} examples or more')
  axes.set_xlabel('confidence')
  axes.set_ylabel('accuracy')
  axes.legend(fontsize='small', ncols=2)
  axes.grid(alpha=0.3)


def _has_students(record: Record) -> bool:
  return bool(run_records.by_row(record))


def _has_inference_ratios(record: Record) -> bool:
  reference = fields.benchmark(record).get('reference')
  return _has_students(record) and reference == 'teacher'


def _has_bias(record: Record) -> bool:
  rows = run_records.by_row(record).values()
  return any('bias' in students[0] for students in rows)


class Plot(NamedTuple):
  """A kind of plot.

  Attributes:
    draw: a function that draws a record on axes.
    has_data: whether a record has something to show in the plot.
    is_published: whether documents show the plot beside a run's tables.
  """

  draw: Callable[[Axes, Record], None]
  has_data: Callable[[Record], bool]
  is_published: bool = False


PLOTS = {
  'accuracy_size': Plot(accuracy_plots.draw_against_size, _has_students),
  'accuracy_time': Plot(accuracy_plots.draw_against_time, _has_students),
  'accuracy_inference': Plot(
    accuracy_plots.draw_against_inference, _has_inference_ratios
  ),
  'accuracy_examples': Plot(
    accuracy_plots.draw_against_examples,
    accuracy_plots.has_enough_sizes,
    is_published=True,
  ),
  'accuracy_rows': Plot(
    accuracy_plots.draw_rows_by_accuracy,
    lambda record: fields.reference_row(record) is not None,
    is_published=True,
  ),
  'accuracy_kd_share': Plot(
    accuracy_plots.draw_against_kd_share,
    lambda record: bool(accuracy_plots.kd_share_lines(record)),
    is_published=True,
  ),
  'accuracy_temperature': Plot(
    accuracy_plots.draw_against_temperature,
    lambda record: bool(accuracy_plots.temperature_lines(record)),
    is_published=True,
  ),
  'errors_bias': Plot(draw_bias_errors, _has_bias, is_published=True),
  'learning_curves': Plot(draw_learning_curves, lambda record: True),
  'reliability': Plot(draw_reliability, lambda record: True),
}


def names(record: Record) -> list[str]:
  """Returns the names of the plots that a run has data for."""
  return [name for name, plot in PLOTS.items() if plot.has_data(record)]


def write(
  folder: os.PathLike, record: Record, epochs: Sequence[Record]
) -> dict[str, str]:
  """Writes the plots of a run as PNG files.

  Args:
    folder: the run's folder.
    record: the content of the run's run.json.
    epochs: the records of the run's metrics.jsonl.
  Returns:
    The caption of each plot, or '', by the file's name without '.png'.
  """
  draw = {name: PLOTS[name].draw for name in names(record)}
  draw['learning_curves'] = functools.partial(
    draw_learning_curves, epochs=epochs
  )
  for name, draw_on in draw.items():
    with figures.figure(pathlib.Path(folder) / f'{name}.png') as axes:
      draw_on(axes, record)
  captions = error_plots.write(pathlib.Path(folder))
  return {name: '' for name in draw} | captions


def write_published(folder: os.PathLike, record: Record, prefix: str) -> None:
  """Writes the plots of a run that documents show.

  Args:
    folder: the folder for the PNG files.
    record: the content of the run's run.json.
    prefix: a prefix of the file names.
  """
  for name in names(record):
    if PLOTS[name].is_published:
      path = pathlib.Path(folder) / f'{prefix}{name}.png'
      with figures.figure(path) as axes:
        PLOTS[name].draw(axes, record)
