"""The plot at the top of README.md: what a teacher adds on few images."""

import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence

from kd_jax.report import at_a_glance, figures, markdown
from kd_jax.report.at_a_glance import Row
from kd_jax.report.fields import Record


def write(folder: os.PathLike, results: Mapping[str, Record]) -> None:
  """Writes at_a_glance.png.

  Args:
    folder: the folder for the file.
    results: the records by name. Without those of the comparison, nothing is
      written.
  """
  rows = at_a_glance.rows(results)
  if not rows:
    return
  path = pathlib.Path(folder) / 'at_a_glance.png'
  with figures.canvas(path, (8, 3.4)) as figure:
    _draw(figure.add_subplot(), rows)


def title(students: Sequence[Row]) -> str:
  """Returns the finding: by how much plain KD and the best method help.

  Args:
    students: the rows, from the one that learns from labels alone.
  """
  labels, plain, best, *_ = (
    statistics.fmean(row.accuracies) for row in students
  )
  return (
    f'On 5,000 images of CIFAR-10, plain KD adds {plain - labels:.0f} points, '
    f'and the method with the best mean {best - labels:.0f}'
  )


def _draw(axes: figures.Axes, rows: Sequence[Row]) -> None:
  teacher, *students = rows
  for height, row in enumerate(students):
    mean = statistics.fmean(row.accuracies)
    axes.barh(
      height,
      mean,
      height=0.62,
      color=figures.BLUE if height else figures.GRAY,
    )
    text = (
      f'{markdown.mean_sd(row.accuracies, 1)} % (n = {len(row.accuracies)}), '
      f'{row.megabytes:.1f} MB'
    )
    axes.text(mean - 1, height, text, color='white', ha='right', va='center')
  (accuracy,) = teacher.accuracies
  axes.axvline(accuracy, color=figures.VERMILION, linestyle='--')
  axes.text(
    accuracy - 1,
    0,
    f'{teacher.label},\n{accuracy:.1f} %, {teacher.megabytes:.1f} MB',
    color=figures.VERMILION,
    ha='right',
    va='center',
  )
  axes.set_yticks(range(len(students)), [row.label for row in students])
  axes.set_xlim(0, 100)
  axes.set_xlabel('test accuracy, % (mean ± standard deviation over seeds)')
  axes.set_title(title(students), loc='left', fontsize=12, fontweight='bold')
  for side in ('top', 'right'):
    axes.spines[side].set_visible(False)
