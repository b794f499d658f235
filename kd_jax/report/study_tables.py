"""Tables of a run that studies methods, their weights or missing classes.

Each `*_table` function returns a Markdown table.
"""

import math
import statistics
from collections.abc import Mapping, Sequence

from kd_jax.report import fields, markdown, seed_statistics
from kd_jax.report.fields import Record
from kd_jax.runtime import run_records


def methods_table(record: Record) -> str:
  """Returns rows that differ in their method, the most accurate row first.

  The column 'difference from ROW' is the difference in accuracy (percentage
  points) from the reference row, `config.benchmark.steps_against`, paired by
  seed. 'told apart' says whether the difference is not 0, by a paired t test at
  5 %, corrected for the number of rows by Holm's method. The last column is the
  time of a training step relative to the reference row.
  """
  reference = record['config']['benchmark']['steps_against']
  step_times = fields.benchmark(record).get('steps_against', {})
  rows = run_records.by_row(record)
  mean = {
    name: statistics.fmean(fields.accuracies(students))
    for name, students in rows.items()
  }
  names = sorted(rows, key=mean.__getitem__, reverse=True)
  differences = _difference_cells(rows, names, reference)
  return markdown.table_of_lines(
    [
      {'row': name, 'seeds': str(len(rows[name]))}
      | _accuracy_cell(rows[name])
      | differences[name]
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


def _difference_cells(
  rows: Mapping[str, Sequence[Record]], names: Sequence[str], reference: str
) -> dict[str, dict[str, str]]:
  """Returns each row's difference from the reference row, by column header.

  Args:
    rows: each row's students.
    names: the rows to compare.
    reference: the reference row; the cells are empty if `rows` lacks it.
  """
  differences = {}
  if reference in rows:
    control = _accuracy_by_seed(rows[reference])
    differences = {
      name: seed_statistics.paired_difference(
        _accuracy_by_seed(rows[name]), control
      )
      for name in names
      if name != reference
    }
  corrected = seed_statistics.holm([d.p for d in differences.values()])
  verdicts = dict(zip(differences, corrected, strict=True))
  cells = {}
  for name in names:
    difference, told_apart = markdown.NONE, markdown.NONE
    if name in differences:
      found = differences[name]
      difference = f'{found.mean:+.2f}'
      if found.n > 1:
        difference += f' ± {found.sd:.2f}'
        is_different = verdicts[name] < seed_statistics.ALPHA
        told_apart = 'yes' if is_different else 'no'
    cells[name] = {
      f'difference from {reference}': difference,
      'told apart': told_apart,
    }
  return cells


def _accuracy_by_seed(students: Sequence[Record]) -> dict[int, float]:
  """Returns the test accuracy (%) of each seed."""
  return {
    student['seed']: 100 * student['test']['accuracy'] for student in students
  }


def _grid_accuracies(record: Record) -> dict[str, dict[int, list[float]]]:
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
    for method, accuracies in _grid_accuracies(record).items()
  }


def grid_table(record: Record) -> str:
  """Returns each method's accuracy (%) at each weight; the best is bold."""
  grid, best = _grid_accuracies(record), best_weights(record)
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
  return (record['config']['paper'].get(row) or {}).get('errors', markdown.NONE)


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
