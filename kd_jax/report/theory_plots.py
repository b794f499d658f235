"""Plots of the curves of theory."""

import os
import pathlib

from kd_jax.report import figures
from kd_jax.report.fields import Record


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
      for i, (label, line) in enumerate(plot['lines'].items()):
        axes.errorbar(
          line['x'],
          line['y'],
          line['error'],
          fmt='o' if line['points'] else '-',
          capsize=3,
          color=figures.color(i),
          label=label,
        )
      axes.set_xscale('log')
      axes.set_yscale('log')
      axes.set_title(plot['title'])
      axes.set_xlabel(plot['x_label'])
      axes.set_ylabel(plot['y_label'])
      axes.legend()
      axes.grid(alpha=0.3)
  return names
