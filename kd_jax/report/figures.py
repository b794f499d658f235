"""Figures as PNG files: colors, titles and labels that all plots share.

A figure is solid white, so that it reads alike on light and dark pages. Its
colors are those of Okabe and Ito, which color-blind readers can tell apart.
"""

import contextlib
import math
import os
import pathlib
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kd_jax.runtime import errors

Axes = Any  # matplotlib.axes.Axes; matplotlib is imported only to draw.
BLUE, VERMILION, GREEN = '#0072B2', '#D55E00', '#009E73'
# Okabe and Ito 2008, Color universal design; black in place of their yellow,
# which is hard to see on white.
COLORS = (BLUE, VERMILION, GREEN, '#CC79A7', '#E69F00', '#56B4E9', '#000000')
_MARKERS = ('o', 's', '^', 'D', 'v')
_LINES = ('-', '--', ':', '-.')
GRAY = '#707070'  # For the teacher, the paper and what is not compared.
PALE = '#C8C8C8'
_INCHES = (8, 5)  # Width and height of most figures.
_TITLE_COLUMNS = 86  # Characters of a title's line on a figure of that width.
_LABEL_POINTS = 11.0  # Least distance between the lines of two labels.
# The share of a figure's height that its axes have, at least.
_AXES_SHARE = 0.75
_RC: Any = {
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'grid.color': '#E4E4E4',
  'axes.axisbelow': True,
  'axes.titlesize': 10,
  'axes.titlelocation': 'left',
  'legend.frameon': False,
}


class Style(NamedTuple):
  """The color, marker and line style of a series in a plot."""

  color: str
  marker: str
  line: str


class Label(NamedTuple):
  """A label of a series: its text, where the series ends, and its color."""

  x: float
  y: float
  text: str
  color: str = 'black'


def style(index: int) -> Style:
  """Returns the style of a series, by its index: 7 colors, then line styles."""
  again, hue = divmod(index, len(COLORS))
  return Style(
    COLORS[hue], _MARKERS[again % len(_MARKERS)], _LINES[again % len(_LINES)]
  )


@contextlib.contextmanager
def figure(
  path: pathlib.Path, inches: tuple[float, float] = _INCHES
) -> Iterator[Axes]:
  """Yields axes to draw on, and writes the figure to a PNG file.

  Logarithmic axes get plain numbers as labels. The file is replaced atomically.

  Args:
    path: the file.
    inches: width and height.
  """
  with canvas(path, inches) as fig:
    yield fig.add_subplot()


@contextlib.contextmanager
def canvas(path: pathlib.Path, inches: tuple[float, float]) -> Iterator[Any]:
  """Yields a matplotlib figure without axes, and writes it to a PNG file.

  Logarithmic axes get plain numbers as labels. The file is replaced atomically.

  Args:
    path: the file.
    inches: width and height.
  """
  # Imported here because the import takes a second and a run draws at its end.
  import matplotlib
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  with matplotlib.rc_context(_RC), warnings.catch_warnings():
    # Names in scripts that the font lacks are drawn as boxes.
    warnings.filterwarnings('ignore', message='Glyph .* missing from')
    fig = Figure(figsize=inches, layout='constrained')
    FigureCanvasAgg(fig)
    yield fig
    for axes in fig.axes:
      for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == 'log':
          _use_plain_numbers(axis)
    temporary = path.with_name(f'.{path.name}')
    try:
      with errors.name_file(path):
        fig.savefig(temporary, dpi=120, format='png', facecolor='white')
    except OSError:
      temporary.unlink(missing_ok=True)  # It would fill a full disk further.
      raise
  os.replace(temporary, path)


def title(fig: Any, text: str) -> None:
  """Writes a title over a whole figure, in as many lines as it needs."""
  columns = int(_TITLE_COLUMNS * fig.get_figwidth() / _INCHES[0])
  fig.suptitle(
    textwrap.fill(text, columns).replace('$', r'\$'),
    x=0.01,
    ha='left',
    fontsize=12,
  )


def label_ends(axes: Axes, labels: Sequence[Label]) -> None:
  """Writes labels of series right of the axes, without overlap.

  A thin line joins a label and the end of its series. The limits and scales of
  the axes have to be set before.

  Args:
    axes: the axes.
    labels: the labels.
  """
  if not labels:
    return
  axes.get_xlim(), axes.get_ylim()  # Brings the limits up to date.
  axes.autoscale(enable=False)
  to_axes = (axes.transScale + axes.transLimits).transform
  ordered = sorted(labels, key=lambda label: to_axes((label.x, label.y))[1])
  wanted = [float(to_axes((label.x, label.y))[1]) for label in ordered]
  rows = axes.get_gridspec().nrows
  points = 72 * axes.figure.get_figheight() * _AXES_SHARE / rows
  places = spread(wanted, _LABEL_POINTS / points)
  for label, y in zip(ordered, places, strict=True):
    axes.annotate(
      label.text.replace('$', r'\$'),
      (label.x, label.y),
      xytext=(1.03, y),
      textcoords='axes fraction',
      color=label.color,
      fontsize=9,
      va='center',
      annotation_clip=False,
      arrowprops={
        'arrowstyle': '-', 'color': label.color, 'lw': 0.5, 'alpha': 0.6,
        'shrinkA': 0, 'shrinkB': 3,
      },
    )  # fmt: skip


def spread(wanted: Sequence[float], distance: float) -> list[float]:
  """Moves sorted places apart, as far up as down.

  Args:
    wanted: places in [0, 1], in rising order.
    distance: the least distance between two places; less if there is no room.
  Returns:
    The places, in rising order, in [0, 1].
  """
  distance = min(distance, 1 / max(len(wanted) - 1, 1))
  places = [min(max(place, 0.0), 1.0) for place in wanted]
  up = _push_up(places, distance)
  down = [1 - y for y in _push_up([1 - y for y in places[::-1]], distance)]
  # A mean of two sequences keeps the distance that both of them keep.
  return [(a + b) / 2 for a, b in zip(up, down[::-1], strict=True)]


def _push_up(places: Sequence[float], distance: float) -> list[float]:
  """Moves sorted places up until they are apart, and below 1 again."""
  pushed: list[float] = []
  for place in places:
    pushed.append(max(place, pushed[-1] + distance) if pushed else place)
  ceiling = 1.0
  for i in reversed(range(len(pushed))):
    pushed[i] = min(pushed[i], ceiling)
    ceiling = pushed[i] - distance
  return pushed


def close_grid(grid: Sequence[Axes], used: int, columns: int) -> None:
  """Hides the unused axes of a grid with a shared x axis.

  Args:
    grid: the axes, row by row.
    used: the number of axes that show something.
    columns: the columns of the grid.
  """
  for axes in grid[used:]:
    axes.set_axis_off()
  for axes in grid[max(used - columns, 0) : used]:  # The lowest of each column.
    axes.tick_params(labelbottom=True)


def _use_plain_numbers(axis: Any) -> None:
  """Labels a logarithmic axis 1, 10, 100 ..., with 2 and 5 on a short axis."""
  from matplotlib import ticker

  low, high = sorted(axis.get_view_interval())
  decades = math.log10(high / low)
  if axis.axes.get_gridspec().ncols > 2:  # A narrow panel has fewer labels.
    decades *= 2
  subs = (1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,)
  axis.set_major_locator(ticker.LogLocator(subs=subs, numticks=6))
  axis.set_major_formatter(ticker.FuncFormatter(_plain))
  axis.set_minor_locator(ticker.NullLocator())


def _plain(value: float, _: int) -> str:
  """Returns 300, 3k, 3M or, for small numbers, powers of ten."""
  for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e4, 'k')):
    if value >= size:
      scale = 1e3 if unit == 'k' else size
      return f'{value / scale:g}{unit}'
  return f'{value:,.10g}' if value >= 9e-5 else f'{value:.0e}'
