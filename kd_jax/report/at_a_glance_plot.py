"""The plot at the top of README.md: what a teacher adds on few images."""

import os
import pathlib
import statistics

from kd_jax.report import fields, figures, markdown
from kd_jax.report.fields import Record
from kd_jax.runtime import run_records

# The run, and its rows with their labels, from the bottom up.
_RUN = 'cifar-methods-as_coded'
_LABELS = 'labels'
_ROWS = {
  _LABELS: 'labels alone',
  'kl': 'the teacher\'s logits\n("kl", plain distillation)',
  'hint': 'one layer of features ("hint")',
  'review': 'all layers of features ("review")',
}
# Colors that color-blind people can tell apart (Okabe and Ito).
_GRAY, _BLUE, _ORANGE = '#777777', '#0072b2', '#d55e00'


def write(folder: os.PathLike, results: dict[str, Record]) -> None:
  """Writes at_a_glance.png.

  Args:
    folder: the folder for the file.
    results: the records by name. Without the run or one of its rows, nothing
      is written.
  """
  students = run_records.by_row(results.get(_RUN, {'students': []}))
  if not set(_ROWS) <= students.keys():
    return
  samples = {row: fields.accuracies_percent(students[row]) for row in _ROWS}
  teacher = 100 * results[_RUN]['teacher']['test']['accuracy']
  path = pathlib.Path(folder) / 'at_a_glance.png'
  with figures.canvas(path, (8, 3.4)) as figure:
    _draw(figure.add_subplot(), samples, teacher)


def title(samples: dict[str, list[float]]) -> str:
  """Returns the finding: by how much the teacher helps.

  Args:
    samples: accuracies (%) of the seeds of each row.
  """
  means = {row: statistics.fmean(values) for row, values in samples.items()}
  gains = [means[row] - means[_LABELS] for row in means if row != _LABELS]
  return (
    'On 5,000 images of CIFAR-10, a teacher adds '
    f'{min(gains):.0f} to {max(gains):.0f} points'
  )


def _draw(
  axes: figures.Axes, samples: dict[str, list[float]], teacher: float
) -> None:
  for height, values in enumerate(samples.values()):
    color = _BLUE if height else _GRAY
    axes.barh(height, statistics.fmean(values), height=0.62, color=color)
    text = f'{markdown.mean_sd(values, 1)} % (n = {len(values)})'
    axes.text(
      statistics.fmean(values) - 1,
      height,
      text,
      color='white',
      ha='right',
      va='center',
    )
  axes.axvline(teacher, color=_ORANGE, linestyle='--')
  axes.text(
    teacher - 1,
    0,
    f'its teacher,\n{teacher:.1f} %',
    color=_ORANGE,
    ha='right',
    va='center',
  )
  axes.set_yticks(range(len(samples)), [_ROWS[row] for row in samples])
  axes.set_xlim(0, 100)
  axes.set_xlabel('test accuracy, % (mean ± standard deviation over seeds)')
  axes.set_title(title(samples), loc='left', fontsize=12, fontweight='bold')
  for side in ('top', 'right'):
    axes.spines[side].set_visible(False)
