"""Figures as PNG files: one pair of axes each, with shared colors."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from kd_jax.runtime import errors

Axes = Any  # matplotlib.axes.Axes; matplotlib is imported only to draw.


def color(index: int) -> tuple[float, float, float, float]:
  """Returns the RGBA color of a figure's line, by the line's index."""
  import matplotlib

  return matplotlib.colormaps['tab20'](index % 20)


@contextlib.contextmanager
def figure(path: pathlib.Path) -> Iterator[Axes]:
  """Yields axes to draw on, and writes the figure to a PNG file.

  Logarithmic axes get plain numbers as labels. The file is replaced atomically.
  """
  with canvas(path, (8, 5)) as figure_of_axes:
    axes = figure_of_axes.add_subplot()
    yield axes
    for axis in (axes.xaxis, axes.yaxis):
      if axis.get_scale() == 'log':
        _use_plain_numbers(axis)


@contextlib.contextmanager
def canvas(path: pathlib.Path, inches: tuple[float, float]) -> Iterator[Any]:
  """Yields a matplotlib figure without axes, and writes it to a PNG file.

  The file is replaced atomically.

  Args:
    path: the file.
    inches: width and height.
  """
  # Imported here because the import takes a second and a run draws at its end.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  empty = Figure(figsize=inches, layout='constrained')
  FigureCanvasAgg(empty)
  yield empty
  temporary = path.with_name(f'.{path.name}')
  try:
    with errors.name_file(path):
      empty.savefig(temporary, dpi=120, format='png')
  except OSError:
    temporary.unlink(missing_ok=True)  # It would fill a full disk further.
    raise
  os.replace(temporary, path)


def _use_plain_numbers(axis: Any) -> None:
  """Labels a logarithmic axis 1, 2, 5, 10, ... instead of powers of ten."""
  from matplotlib import ticker

  axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f'{x:,.10g}'))
  axis.set_minor_locator(ticker.NullLocator())
