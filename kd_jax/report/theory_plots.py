"""Plots of the curves of theory."""

import os
import pathlib
from collections.abc import Mapping

from kd_jax.report import figures
from kd_jax.report.fields import Record
from kd_jax.report.figures import Axes

CAPTION = (
  'Lines: exact values or means. Markers: samples. Bars: two standard errors. '
  'Both axes are logarithmic.'
)


def write_curves(
  folder: os.PathLike, record: Record, prefix: str = ''
) -> list[str]:
  """Writes one PNG file for each plot of a record of theory.

  Args:
    folder: the folder for the files.
    record: the content of a run.json with 'results'.
    prefix: a prefix of the file names.
  Returns:
    The file names without '.png'.
  """
  names = []
  for name, plot in record['results']['curves'].items():
    names.append(f'{prefix}{name}')
    with figures.figure(pathlib.Path(folder) / f'{names[-1]}.png') as axes:
      _draw(axes, plot)
  return names


def _draw(axes: Axes, plot: Record) -> None:
  """Draws one plot of a record of theory."""
  labels = []
  for i, (label, line) in enumerate(plot['lines'].items()):
    style = figures.style(i)
    marker = ('o', 's', '^')[i % 3] if line['points'] else ''
    axes.errorbar(
      line['x'],
      line['y'],
      line['error'],
      linestyle='' if line['points'] else style.line,
      marker=marker,
      markersize=5,
      capsize=3,
      color=style.color,
    )
    end = max(zip(line['x'], line['y'], strict=True))
    text = f'{marker and _SHAPES[marker]}{label}'
    labels.append(figures.Label(*end, text, style.color))
  axes.set_xscale('log')
  axes.set_yscale('log')
  axes.set_xlabel(plot['x_label'])
  axes.set_ylabel(plot['y_label'])
  figures.label_ends(axes, labels)
  figures.title(axes.figure, curves_title(plot))


# What a label of points begins with.
_SHAPES = {'o': '● ', 's': '■ ', '^': '▲ '}


def curves_title(plot: Mapping) -> str:
  """Returns the title of a plot of theory, with the largest ratio of its lines.

  Args:
    plot: title, x_label, y_label and lines of a record's plot.
  """
  head = f'{plot["title"][:1].upper()}{plot["title"][1:]}'
  ends = {
    label: (line['x'][-1], line['y'][-1])
    for label, line in plot['lines'].items()
    if not line['points']
  }
  if len(ends) < 2 or len({x for x, _ in ends.values()}) > 1:
    return head
  low, high = (choose(ends, key=lambda k: ends[k][1]) for choose in (min, max))
  if 'exact' in ends and high != 'exact':
    low = 'exact'  # The line that the others are compared with.
  (x, least), (_, most) = ends[low], ends[high]
  noun = plot['x_label'].removesuffix(' N')
  ratio = most / least
  times = f'{ratio:,.0f}' if ratio >= 10 else f'{ratio:.1f}'
  return f'{head}: at {x:,.0f} {noun}, "{high}" is {times} times "{low}"'
