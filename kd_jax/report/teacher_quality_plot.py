"""The plot of a teacher's accuracy against the gain of the paper's student."""

import os
import pathlib
import statistics
from collections.abc import Iterable
from typing import NamedTuple

from kd_jax.report import fields, figures, row_plots, seed_statistics
from kd_jax.report.fields import Record
from kd_jax.report.figures import Axes
from kd_jax.runtime import run_records


class _Examples(NamedTuple):
  """The rows of one training set.

  Attributes:
    subset: the value of `train.subset`.
    kd: the rows with a KD loss, which are one training.
    labels: the rows on labels alone, which are one training.
  """

  subset: str
  kd: tuple[str, ...]
  labels: tuple[str, ...]


# By the name in the plot. The two reduced sets are readings of the paper.
_EXAMPLES = {
  'the full set': _Examples('all', ('ideal', 'blocks_1111'), ('ideal_no_kd',)),
  'the reduced set': _Examples(
    'block5000',
    ('ideal_reduced', 'block5000'),
    ('ideal_reduced_no_kd', 'block5000_no_kd'),
  ),
  'the first 500 of each class': _Examples(
    'first500',
    ('ideal_reduced', 'first500'),
    ('ideal_reduced_no_kd', 'first500_no_kd'),
  ),
}
# The fields of Table 2's trainings, as coded.
_AS_CODED = {
  'train': {'epochs': 10, 'batch_size': 100, 'augmentation': 'none'},
  'optim': {'learning_rate': 0.1, 'schedule': 'constant'},
  'distill': {'method': 'kl', 'temperature': 4.0, 'kd_warmup_epochs': 10},
  'student': {'stem_stride': 1, 'strides': [1, 2, 2, 2]},
  'data': {'holdout_examples': 0, 'scaling': 'symmetric'},
}


def write(folder: os.PathLike, results: dict[str, Record]) -> None:
  """Writes teacher_quality.png: students of teachers of several accuracies.

  Args:
    folder: the folder for the file.
    results: the records by name. If no student has an identified teacher,
      nothing is written.
  """
  runs = [record for record in results.values() if _is_as_coded(record)]
  if not any(students_by_teacher(runs, examples) for examples in _EXAMPLES):
    return
  with figures.figure(pathlib.Path(folder) / 'teacher_quality.png') as axes:
    for i, (color, examples) in enumerate(
      zip(figures.COLORS, _EXAMPLES, strict=False)
    ):
      by_teacher = students_by_teacher(runs, examples)
      if not by_teacher:
        continue
      _draw(
        axes,
        {teacher: found.kd for teacher, found in by_teacher.items()},
        color=color,
        left=i > 1,  # The two reduced sets have much the same accuracies.
      )
      labels = _labels(runs, examples)
      if len(labels) > 1:
        _draw_control(axes, labels, examples, color=color)
    axes.margins(x=0.16)
    axes.set_xlabel("teacher's test accuracy on the inputs that it is fed, %")
    axes.set_ylabel("student's test accuracy, % (mean, 95 % interval)")
    figures.title(axes.figure, title(runs))


def title(runs: Iterable[Record]) -> str:
  """Returns a sentence about the gain of KD over labels on each training set.

  Teachers with one student are left out.

  Args:
    runs: records of Table 2's trainings.
  """
  gains = []
  for examples in _EXAMPLES:
    found = [
      students
      for students in students_by_teacher(runs, examples).values()
      if min(len(students.kd), len(students.labels)) > 1
    ]
    if found:
      means = [
        statistics.fmean(kd) - statistics.fmean(labels) for kd, labels in found
      ]
      n = row_plots.seeds_text(
        [sample for students in found for sample in students]
      )
      span = ' to '.join(
        dict.fromkeys([f'{f(means):+.1f}' for f in (min, max)])
      )
      gains.append(f'{span} points on {examples} ({n})')
  if not gains:
    return "The student's accuracy by its teacher's accuracy"
  return f'KD against labels alone, by teacher: {"; ".join(gains)}'


class _Students(NamedTuple):
  """The accuracies (%) of the students of a teacher, and of labels alone."""

  kd: list[float]
  labels: list[float]


def students_by_teacher(
  runs: Iterable[Record], examples: str
) -> dict[float, _Students]:
  """Returns the students' accuracies (%) by their teacher's accuracy (%).

  Runs of one teacher share their seeds, so that their students are no
  independent draws: the run with the most students counts, and of two such runs
  the one that has students on labels alone. Other runs are compared with the
  most students on labels alone of any run.

  Args:
    runs: records of Table 2's trainings.
    examples: the training set, a key of _EXAMPLES.
  """
  kind = _EXAMPLES[examples]
  found: dict[float, _Students] = {}
  for record in runs:
    accuracy = round(100 * record['teacher']['test']['accuracy'], 2)
    students = _Students(
      _accuracies(record, kind.kd, kind.subset),
      _accuracies(record, kind.labels, kind.subset),
    )
    if accuracy not in found or _counts(students) > _counts(found[accuracy]):
      found[accuracy] = students
  most_labels = _labels(runs, examples)
  return {
    teacher: students._replace(labels=students.labels or most_labels)
    for teacher, students in sorted(found.items())
    if students.kd
  }


def _counts(students: _Students) -> tuple[int, int]:
  return len(students.kd), len(students.labels)


def _accuracies(
  record: Record, rows: Iterable[str], subset: str
) -> list[float]:
  """Returns the accuracies (%) of the first of some rows that a run has.

  Args:
    record: a run.
    rows: names of rows.
    subset: the training set of the row; a row of another one is left out.
  """
  students = run_records.by_row(record)
  for row in rows:
    if row in students and _subset(record, row) == subset:
      return fields.accuracies_percent(students[row])
  return []


def _subset(record: Record, row: str) -> str:
  """Returns the `train.subset` of a row."""
  config = record['config']
  changed = (config.get('rows') or {}).get(row) or {}
  return (changed.get('train') or {}).get('subset') or config['train']['subset']


def _is_as_coded(record: Record) -> bool:
  """Returns whether a record is of Table 2's trainings of a ResNet-50."""
  if 'students' not in record or 'test' not in record.get('teacher', {}):
    return False
  config = record['config']
  if config['data']['name'] != 'cifar10':
    return False
  if config['teacher']['model'].get('block') != 'bottleneck':
    return False
  return all(
    config.get(section, {}).get(field) in (value, None)
    for section, expected in _AS_CODED.items()
    for field, value in expected.items()
  )


def _draw(
  axes: Axes, by_teacher: dict[float, list[float]], *, color: str, left: bool
) -> None:
  """Draws the mean accuracy of each teacher's students, with its interval.

  Args:
    axes: the axes.
    by_teacher: the students' accuracies by their teacher's.
    color: the color of the points.
    left: whether each label stands left of its point.
  """
  means = [seed_statistics.estimate(sample) for sample in by_teacher.values()]
  axes.errorbar(
    [*by_teacher],
    [mean.mean for mean in means],
    [mean.high - mean.mean for mean in means],
    fmt='o',
    capsize=3,
    color=color,
  )
  teachers = sorted(by_teacher)
  reach = max(by_teacher) - min(by_teacher)
  for accuracy, mean in zip(by_teacher, means, strict=True):
    # A label stands right of its point, unless another point is near there.
    near = any(0 < other - accuracy < 0.2 * reach for other in teachers)
    side = -1 if near or left else 1
    axes.annotate(
      f'KD, n = {mean.n}',
      (accuracy, mean.mean),
      xytext=(7 * side, 0),
      textcoords='offset points',
      ha='left' if side > 0 else 'right',
      va='center',
      fontsize=9,
      color=color,
    )


def _draw_control(
  axes: Axes, labels: list[float], examples: str, *, color: str
) -> None:
  """Draws the interval of the students on labels alone as a band."""
  mean = seed_statistics.estimate(labels)
  axes.axhspan(mean.low, mean.high, alpha=0.2, color=color)
  axes.annotate(
    f'labels alone, {examples} (n = {len(labels)})',
    (0.5, mean.mean),
    xycoords=('axes fraction', 'data'),
    ha='center',
    va='center',
    fontsize=9,
    color=color,
  )


def _labels(runs: Iterable[Record], examples: str) -> list[float]:
  """Returns the accuracies (%) of the most students on labels alone."""
  kind = _EXAMPLES[examples]
  return max(
    (_accuracies(record, kind.labels, kind.subset) for record in runs),
    key=len,
    default=[],
  )
