"""Tables of a run that studies methods, their weights or missing classes.

Each `*_table` function returns a Markdown table.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from kd_jax.report import fields, markdown, seed_statistics
from kd_jax.report.fields import Record
from kd_jax.runtime import run_records


def methods_table(record: Record) -> str:
  """Returns rows that differ in their method, the most accurate row first.

  The column 'difference from ROW' is the difference in accuracy (percentage
  points) from the reference row, `config.benchmark.steps_against`, paired by
  seed. 'significant' says whether the difference is not 0, by a paired t test
  at 5 %, corrected for the number of rows by Holm's method. The last column is
  the time of a training step relative to the reference row.
  """
  reference = record['config']['benchmark']['steps_against']
  step_times = fields.benchmark(record).get('steps_against', {})
  rows = run_records.by_row(record)
  mean = {
    name: statistics.fmean(fields.accuracies(students))
    for name, students in rows.items()
  }
  names = sorted(rows, key=mean.__getitem__, reverse=True)
  comparisons = compare_rows(record, reference)
  return markdown.table_of_lines(
    [
      {'row': name, 'seeds': str(len(rows[name]))}
      | _accuracy_cell(rows[name])
      | _difference_cells(comparisons.get(name), reference)
      | _method_cells(rows[name])
      | {
        f'step time / {reference}': markdown.quartiles(
          step_times.get(name, {}).get('ratio'), 2
        )
      }
      for name in names
    ]
  )


def _accuracy_cell(students: Sequence[Record]) -> dict[str, str]:
  accuracies = fields.accuracies(students)
  return {'accuracy %': markdown.mean_sd(accuracies, 2, scale=100)}


def _method_cells(students: Sequence[Record]) -> dict[str, str]:
  """Returns a row's other metrics of `methods_table`, by column header."""

  def cell(metric: str, digits: int, scale: float = 1.0) -> str:
    values = fields.test_metric(students, metric)
    return markdown.mean_sd(values, digits, scale=scale)

  attacked = fields.values(students, 'robust', 'accuracy')
  return {
    'NLL': cell('nll', 4),
    'ECE': cell('ece', 4),
    'agreement %': cell('teacher_agreement', 2, 100),
    'attacked %': markdown.mean_sd(attacked, 2, scale=100),
  }


class Comparison(NamedTuple):
  """A row's difference in accuracy from a reference row.

  Attributes:
    estimate: the difference (percentage points), paired by seed.
    p: p-value of the paired test, corrected for the number of rows (Holm).
  """

  estimate: seed_statistics.Estimate
  p: float

  @property
  def is_significant(self) -> bool:
    """Whether the two rows differ, by a test at 5 %."""
    return self.p < seed_statistics.ALPHA


def compare_rows(record: Record, reference: str) -> dict[str, Comparison]:
  """Compares each row of a run with one of its rows.

  Args:
    record: a run.
    reference: the row to compare with.
  Returns:
    The comparisons by row, without the reference; {} if the run lacks it.
  """
  rows = run_records.by_row(record)
  if reference not in rows:
    return {}
  control = _accuracy_by_seed(rows[reference])
  estimates = {
    name: seed_statistics.paired_difference(
      _accuracy_by_seed(students), control
    )
    for name, students in rows.items()
    if name != reference
  }
  corrected = seed_statistics.holm([found.p for found in estimates.values()])
  return {
    name: Comparison(estimate, p)
    for (name, estimate), p in zip(estimates.items(), corrected, strict=True)
  }


def _difference_cells(
  comparison: Comparison | None, reference: str
) -> dict[str, str]:
  """Returns a row's difference from the reference row, by column header.

  Args:
    comparison: the difference; None for the reference row itself.
    reference: the reference row.
  """
  difference, significant = markdown.NONE, markdown.NONE
  if comparison is not None:
    found = comparison.estimate
    difference = f'{found.mean:+.2f}'
    if found.n > 1:
      difference += f' ± {found.sd:.2f}'
      significant = 'yes' if comparison.is_significant else 'no'
  return {
    f'difference from {reference}': difference,
    'significant': significant,
  }


def _accuracy_by_seed(students: Sequence[Record]) -> dict[int, float]:
  """Returns the test accuracy (%) of each seed."""
  return {
    student['seed']: 100 * student['test']['accuracy'] for student in students
  }


def grid_accuracies(record: Record) -> dict[str, dict[int, list[float]]]:
  """Returns the accuracies of a grid of weights, by method and percent.

  The rows of a grid are named METHOD_PERCENT, where PERCENT is the weight in
  percent of the method's default weight.
  """
  grid: dict[str, dict[int, list[float]]] = {}
  for row, students in run_records.by_row(record).items():
    method, _, percent = row.rpartition('_')
    accuracies = fields.accuracies(students)
    grid.setdefault(method, {})[int(percent)] = accuracies
  return grid


def _best_percent(accuracies: dict[int, list[float]]) -> int:
  """Returns the percent with the highest mean accuracy.

  If several percents have the highest mean, returns the one nearest to 100 on
  a logarithmic scale.
  """

  def rank(percent: int) -> tuple[float, float]:
    distance = abs(math.log(percent / 100))
    return statistics.fmean(accuracies[percent]), -distance

  return max(accuracies, key=rank)


def best_weights(record: Record) -> dict[str, int]:
  """Returns each method's weight with the highest accuracy in a grid.

  Args:
    record: a run whose rows are named METHOD_PERCENT.
  Returns:
    Percent of the method's default weight, by method. If several weights have
    the highest accuracy, the weight nearest to the default.
  """
  return {
    method: _best_percent(accuracies)
    for method, accuracies in grid_accuracies(record).items()
  }


def grid_table(record: Record) -> str:
  """Returns each method's accuracy (%) at each weight; the best is bold."""
  grid, best = grid_accuracies(record), best_weights(record)
  percents = sorted({percent for method in grid.values() for percent in method})
  lines = []
  for method, accuracies in grid.items():
    cells = [
      markdown.mean_sd(accuracies.get(percent, []), 2, scale=100)
      for percent in percents
    ]
    chosen = percents.index(best[method])
    cells[chosen] = f'**{cells[chosen]}**'
    lines.append((method, *cells))
  headers = ('method', *(f'{part / 100:g} of the weight' for part in percents))
  return markdown.table(headers, lines)


def missing_classes_table(record: Record) -> str:
  """Returns test errors of students whose training set lacks classes.

  Errors are given as trained, and with a bias added to the logits of the
  missing classes, chosen by the labels or by the teacher. Parentheses hold the
  errors on test images of the missing classes.
  """
  lines = [
    (name, *_missing_classes_cells(students), _paper_errors(record, name))
    for name, students in run_records.by_row(record).items()
  ]
  headers = (
    'row',
    'seeds',
    'training examples',
    'test images of missing classes',
    'errors (missing classes)',
    'bias by labels',
    'errors (missing classes)',
    'bias by teacher',
    'errors (missing classes)',
    'Hinton et al.',
  )
  return markdown.table(headers, lines)


def _paper_errors(record: Record, row: str) -> str:
  """Returns the paper's errors of a row, a text such as '206 (133)'."""
  reported = fields.paper_values(record).get(row) or {}
  return reported.get('errors', markdown.NONE)


def _missing_classes_cells(students: Sequence[Record]) -> list[str]:
  """Returns a row's cells of `missing_classes_table`.

  Args:
    students: the row's seeds, which all have the same training set.
  """
  by_class = students[0]['by_class']
  missing = [c for c, count in enumerate(by_class['trained_on']) if count == 0]
  cells = [
    str(len(students)),
    str(sum(by_class['trained_on'])),
    str(sum(by_class['examples'][c] for c in missing)),
    _errors(students, missing),
  ]
  for chooser in ('labels', 'teacher'):
    biased = [s['bias']['by'][chooser] for s in students if 'bias' in s]
    biases = [result['bias'] for result in biased]
    cells += [markdown.mean_sd(biases, 2), _errors(biased, missing)]
  return cells


def _errors(results: Sequence[Record], missing: Sequence[int]) -> str:
  """Returns test errors and, in parentheses, those on the missing classes.

  Args:
    results: the 'test' and 'by_class' metrics of each seed.
    missing: the classes without training examples.
  """
  if not results:
    return markdown.NONE
  text = markdown.mean_sd([result['test']['errors'] for result in results], 0)
  if not missing:
    return text
  on_missing = [
    sum(result['by_class']['errors'][c] for c in missing) for result in results
  ]
  return f'{text} ({markdown.mean_sd(on_missing, 0)})'
