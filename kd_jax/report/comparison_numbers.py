"""Numbers about studies and comparisons of methods; see inline_numbers.py.

A run's name stands for its record. A grid's rows are named METHOD_PERCENT.
"""

import statistics
from collections.abc import Callable
from typing import Any

from kd_jax.report import fields, markdown, methods_overview, study_tables
from kd_jax.report.number_functions import Results, cell, mean, value
from kd_jax.runtime import errors, run_records


def cell_interval(
  results: Results, name: str, table: str, row: int | str, column: str
) -> str:
  """Returns a cell with its interval: '0.83 (95 % interval 0.70 to 0.92)'.

  The interval's ends are in the columns 'COLUMN: from' and 'COLUMN: to'.
  """
  found, low, high = (
    cell(results, name, table, row, f'{column}{end}')
    for end in ('', ': from', ': to')
  )
  return f'{found:.2f} (95 % interval {low:.2f} to {high:.2f})'


def num_rows(results: Results, name: str) -> int:
  """Returns the number of a run's rows."""
  return len(run_records.by_row(value(results, name)))


def significant(results: Results, name: str, reference: str, sign: int) -> str:
  """Returns the rows that differ from a reference row, as text.

  Args:
    results: the records by name.
    name: a run.
    reference: the reference row.
    sign: 1 for rows with a higher accuracy, -1 for rows with a lower one.
  Returns:
    The rows that differ significantly from the reference row, by a paired t
    test at 5 %, corrected for the number of rows by Holm's method; 'no row' for
    none.
  """
  return _names(_significant(results, name, reference, sign)) or 'no row'


def num_significant(
  results: Results, name: str, reference: str, sign: int
) -> int:
  """Returns the number of rows that `significant` names."""
  return len(_significant(results, name, reference, sign))


def difference(results: Results, name: str, row: str, reference: str) -> str:
  """Returns a row's difference in accuracy from another, and the verdict.

  Returns:
    A text such as '+4.6 (95 % interval 3.3 to 6.0, corrected p = 0.10)'.
  """
  found = _comparison(results, name, row, reference)
  estimate = found.estimate
  p = 'p < 0.01' if found.p < 0.01 else f'p = {found.p:.2f}'
  return (
    f'{estimate.mean:+.1f} points (95 % interval {estimate.low:+.1f} to '
    f'{estimate.high:+.1f}, corrected {p})'
  )


def corrected_p(results: Results, name: str, row: str, reference: str) -> float:
  """Returns the p-value of `difference`, corrected by Holm's method."""
  return _comparison(results, name, row, reference).p


def num_methods(results: Results, name: str) -> int:
  """Returns the number of methods that a run's config declares."""
  return len(methods_overview.methods(value(results, name)))


def step_times(results: Results, name: str, *rows: str) -> str:
  """Returns the time of rows' training steps / that of the reference row.

  Returns:
    '1.62' for one row; 'LEAST to LARGEST' of the medians for several.
  """
  steps = value(results, name, 'benchmark', 'steps_against')
  return _range([steps[row]['ratio']['median'] for row in rows])


def mean_range(results: Results, name: str, *rows: str, digits: int = 1) -> str:
  """Returns the range of rows' mean accuracies (%), 'LEAST to LARGEST'."""
  return _range([mean(results, f'{name}/{row}') for row in rows], digits)


def network_ratio(
  results: Results, name: str, row: str, other: str, field: str
) -> float:
  """Returns a field of a row's network, relative to another row's network.

  Args:
    results: the records by name.
    name: a run with timings.
    row: a row.
    other: the row to compare with.
    field: 'parameters' or 'macs'.
  """
  record = value(results, name)
  mine, others = (fields.network_timing(record, r)[field] for r in (row, other))
  return mine / others


def call_ratio(
  results: Results, name: str, row: str, other: str, batch: int
) -> float:
  """Returns the median time of a row's call, relative to another row's."""
  record = value(results, name)
  mine, others = (
    fields.network_timing(record, r)['batches'][str(batch)]['call_s']['median']
    for r in (row, other)
  )
  return mine / others


def num_changed(results: Results, network: str, images: int) -> float:
  """Returns on how many images quantization changes the predicted class."""
  agreement = mean(
    results, network, f'{run_records.QUANTIZED}.trained_agreement'
  )
  return abs(round(images * (1 - agreement)))


def grid_best(results: Results, name: str, method: str) -> float:
  """Returns the accuracy (%) of a method at the best weight of a grid."""
  by_weight = study_tables.grid_accuracies(value(results, name))[method]
  return 100 * max(map(statistics.fmean, by_weight.values()))


def grid_weights(results: Results, name: str, count: int) -> str:
  """Returns the methods that have `count` weights in a grid, as text."""
  grid = study_tables.grid_accuracies(value(results, name))
  return _names([m for m, weights in grid.items() if len(weights) == count])


def num_grid_weights(results: Results, name: str, count: int) -> int:
  """Returns the number of methods that have `count` weights in a grid."""
  grid = study_tables.grid_accuracies(value(results, name))
  return sum(len(weights) == count for weights in grid.values())


def grid_at_end(
  results: Results, name: str, choose: Callable[..., int]
) -> list[str]:
  """Returns the methods whose best weight is the least, or the largest."""
  record = value(results, name)
  best = study_tables.best_weights(record)
  return [
    method
    for method, weights in study_tables.grid_accuracies(record).items()
    if best[method] == choose(weights) and len(weights) > 1
  ]


def grid_least(results: Results, name: str) -> str:
  """Returns the methods whose best weight is the least of a grid, as text."""
  return _names(grid_at_end(results, name, min))


def num_grid_least(results: Results, name: str) -> int:
  """Returns the number of methods that `grid_least` names."""
  return len(grid_at_end(results, name, min))


def grid_largest(results: Results, name: str) -> str:
  """Returns the methods whose best weight is the largest of a grid, as text."""
  return _names(grid_at_end(results, name, max))


def on_missing(
  results: Results, network: str, chooser: str = '', digits: int = 0
) -> str:
  """Returns test errors on the classes without training examples.

  Args:
    results: the records by name.
    network: RECORD/ROW.
    chooser: '' for the errors as trained; 'labels' or 'teacher' for those with
      the bias that these chose.
    digits: decimals.
  Returns:
    'mean ± standard deviation'.
  """
  name, _, row = network.partition('/')
  students = fields.networks(value(results, name))[row]
  counts = []
  for student in students:
    found = student['bias']['by'][chooser] if chooser else student
    trained_on = student['by_class']['trained_on']
    counts.append(
      sum(
        errors_in_class
        for errors_in_class, trained in zip(
          found['by_class']['errors'], trained_on, strict=True
        )
        if not trained
      )
    )
  return markdown.mean_sd(counts, digits)


def _comparison(
  results: Results, name: str, row: str, reference: str
) -> study_tables.Comparison:
  comparisons = study_tables.compare_rows(value(results, name), reference)
  if row not in comparisons:
    raise errors.UserError(
      f'{name} has no rows {row!r} and {reference!r} to compare'
    )
  return comparisons[row]


def _significant(
  results: Results, name: str, reference: str, sign: int
) -> list[str]:
  comparisons = study_tables.compare_rows(value(results, name), reference)
  return [
    row
    for row, found in comparisons.items()
    if found.is_significant and found.estimate.mean * sign > 0
  ]


def _names(names: list[str]) -> str:
  """Returns names in code, as '`a`, `b` and `c`'."""
  *start, end = (f'`{name}`' for name in names or [''])
  if not names:
    return ''
  return f'{", ".join(start)} and {end}' if start else end


def _range(values: list[float], digits: int = 2) -> str:
  ends = f'{min(values):.{digits}f}', f'{max(values):.{digits}f}'
  return ends[0] if len(values) == 1 else f'{ends[0]} to {ends[1]}'


FUNCTIONS: dict[str, Callable[..., Any]] = {
  function.__name__: function
  for function in (
    *(
      cell_interval,
      num_rows,
      num_methods,
      significant,
      num_significant,
      difference,
      corrected_p,
    ),
    *(
      step_times,
      grid_best,
      grid_weights,
      num_grid_weights,
      grid_least,
    ),
    *(num_grid_least, grid_largest, on_missing, mean_range),
    *(network_ratio, call_ratio, num_changed),
  )
}
