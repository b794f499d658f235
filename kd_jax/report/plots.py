"""The plots of a run, and which of them a run has data for."""

import functools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kd_jax.report import (
  accuracy_plots,
  curve_plots,
  error_plots,
  fields,
  figures,
  row_plots,
)
from kd_jax.report.fields import Record


def _bars(record: Record, *, ticks: bool = False) -> str:
  """Returns what the bars of a plot are, if its rows have several seeds."""
  if not fields.has_several_seeds(record):
    return ' One seed.'
  text = ' Bars: standard deviation over seeds'
  return f'{text}; small ticks: seeds.' if ticks else f'{text}.'


def _cost_caption(record: Record) -> str:
  parts = [
    'A line for each row, the largest network on top. Blue dots: our mean.'
    f'{_bars(record, ticks=True)}'
  ]
  if fields.paper_values(record):
    parts.append('Orange crosses: the paper, where it has a figure.')
  if 'test' in record['teacher']:
    parts.append("Dashed: this run's teacher.")
  if any(s['time']['fold_loop_s'] for s in record['students']):
    parts.append('The training time is that of the fold loop.')
  return ' '.join(parts)


class Plot(NamedTuple):
  """A kind of plot.

  Attributes:
    draw: a function that draws a record on a matplotlib figure.
    has_data: whether a record has something to show in the plot.
    caption: returns what is shown of a record, for the text below the plot.
    is_published: whether documents show the plot beside a run's tables.
    inches: the figure's width and height for a record.
  """

  draw: Callable[[Any, Record], None]
  has_data: Callable[[Record], bool]
  caption: Callable[[Record], str]
  is_published: bool = False
  inches: Callable[[Record], tuple[float, float]] = lambda _: (8, 5)


PLOTS = {
  'accuracy_cost': Plot(
    row_plots.draw_cost,
    row_plots.has_few_rows,
    _cost_caption,
    inches=row_plots.inches,
  ),
  'accuracy_examples': Plot(
    accuracy_plots.draw_against_examples,
    accuracy_plots.has_enough_sizes,
    lambda record: f'Dots: mean test accuracy.{_bars(record)}',
    is_published=True,
  ),
  'accuracy_rows': Plot(
    row_plots.draw_by_accuracy,
    lambda record: fields.reference_row(record) is not None,
    lambda record: (
      'A line for each row, in the order of the mean, which is no ranking.'
      f'{_bars(record, ticks=True)} Dashed: the mean of the reference row. '
      'Green triangles up: better by the test in the title; orange triangles '
      'down: worse; blue: not significant; black: the reference row.'
    ),
    is_published=True,
    inches=row_plots.inches,
  ),
  'accuracy_kd_share': Plot(
    accuracy_plots.draw_against_kd_share,
    lambda record: bool(accuracy_plots.kd_share_lines(record)),
    lambda record: (
      f'Rows that differ only in the weights of the loss.{_bars(record)}'
    ),
    is_published=True,
  ),
  'accuracy_temperature': Plot(
    accuracy_plots.draw_against_temperature,
    lambda record: bool(accuracy_plots.temperature_lines(record)),
    lambda record: f'Rows that differ only in the temperature.{_bars(record)}',
    is_published=True,
  ),
  'errors_bias': Plot(
    row_plots.draw_bias_errors,
    row_plots.has_bias,
    lambda record: (
      'Test errors as trained, and with a bias on the logits of the classes '
      f'that have no training images.{_bars(record, ticks=True)}'
    ),
    is_published=True,
    inches=row_plots.inches,
  ),
  'learning_curves': Plot(
    curve_plots.draw_learning_curves,
    lambda record: True,
    lambda record: (
      'Mean test accuracy over seeds after each epoch.'
      if fields.has_several_seeds(record)
      else 'Test accuracy after each epoch.'
    ),
  ),
  'reliability': Plot(
    curve_plots.draw_reliability,
    lambda record: True,
    lambda _: (
      'Accuracy of the test images of one confidence, for the first '
      f'seed of each network; bins of fewer than {curve_plots.MIN_BIN} images '
      'are left out. On the dashed line, confidence is right; below, it is too '
      'large. ECE: expected calibration error.'
    ),
    inches=curve_plots.reliability_inches,
  ),
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
    The caption of each plot, by the file's name without '.png'.
  """
  shown = {name: PLOTS[name] for name in names(record)}
  shown['learning_curves'] = shown['learning_curves']._replace(
    draw=functools.partial(curve_plots.draw_learning_curves, epochs=epochs)
  )
  for name, plot in shown.items():
    _draw(pathlib.Path(folder) / f'{name}.png', plot, record)
  captions = error_plots.write(pathlib.Path(folder))
  return {name: plot.caption(record) for name, plot in shown.items()} | captions


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
      _draw(path, PLOTS[name], record)


def _draw(path: pathlib.Path, plot: Plot, record: Record) -> None:
  """Writes one plot of a record as a PNG file."""
  with figures.canvas(path, plot.inches(record)) as figure:
    plot.draw(figure, record)
