"""Tables of paired differences between the rows of a run.

Rows of a run share their seeds, so that differences are paired by seed. The
p-values of a table's tests are corrected by Holm's method, and 'significant'
says whether a difference is not 0 at 5 %.
"""

from collections.abc import Mapping, Sequence

from kd_jax.report import fields, markdown, seed_statistics
from kd_jax.report.fields import Record
from kd_jax.runtime import errors, run_records

_GAIN = 'gain over labels'


def controls_table(record: Record) -> str:
  """Returns what the teacher adds to each row that has a control.

  The control of a row is the same network on the same examples and schedule,
  trained on labels alone. Rows that are one training have one line.

  Args:
    record: the run.
  """
  return _table(_distinct_rows(record), control_pairs(record), _GAIN)


def control_pairs(record: Record) -> list[tuple[str, str]]:
  """Returns each row that has a control, with its control."""
  if 'rows' not in record['config']:
    return []
  rows = _distinct_rows(record)
  return [
    (row, control)
    for control in rows
    if fields.learns_from(record, control) == 'labels'
    for row in rows
    if row != control
    and fields.learns_from(record, row) != 'labels'
    and _is_control(record, row, control)
  ]


def control_gains(
  record: Record,
) -> dict[tuple[str, str], seed_statistics.Estimate]:
  """Returns what the teacher adds (percentage points), by row and control."""
  rows = _distinct_rows(record)
  return {
    (row, control): seed_statistics.paired_difference(
      _by_seed(rows[row]), _by_seed(rows[control])
    )
    for row, control in control_pairs(record)
  }


def differences_table(record: Record, reference: str = '') -> str:
  """Returns the difference of each row from one row.

  Args:
    record: the run.
    reference: the row with which the others are compared.
  Raises:
    UserError: if the run has no row of this name.
  """
  rows = _distinct_rows(record)
  if reference not in rows:
    raise errors.UserError(
      f'differences:{reference}: unknown row {reference!r}; expected '
      f'differences:ROW with one of {", ".join(rows)}'
    )
  pairs = [(row, reference) for row in rows if row != reference]
  return _table(rows, pairs, 'difference')


def _distinct_rows(record: Record) -> dict[str, list[Record]]:
  """Returns the rows, without those that repeat another row's training."""
  return {
    row: students
    for row, students in run_records.by_row(record).items()
    if students[0].get('same_as', row) == row
  }


def _is_control(record: Record, row: str, control: str) -> bool:
  """Returns whether two rows differ in their loss alone."""
  overrides = record['config']['rows']
  return all(
    overrides[row].get(section) == overrides[control].get(section)
    for section in ('student', 'train', 'optim', 'data')
  )


def _table(
  rows: Mapping[str, Sequence[Record]],
  pairs: Sequence[tuple[str, str]],
  header: str,
) -> str:
  """Returns a table with a line for each pair of a row and its control."""
  found = [
    seed_statistics.paired_difference(
      _by_seed(rows[row]), _by_seed(rows[other])
    )
    for row, other in pairs
  ]
  corrected = seed_statistics.holm([difference.p for difference in found])
  return markdown.table_of_lines(
    [
      {'row': row, 'control': other}
      | _cells(difference, p, f'{header}, points')
      for (row, other), difference, p in zip(
        pairs, found, corrected, strict=True
      )
    ]
  )


def _cells(
  difference: seed_statistics.Estimate, p: float, header: str
) -> dict[str, str]:
  """Returns the cells of one difference, by column header."""
  cells = {'seeds': str(difference.n), header: f'{difference.mean:+.2f}'}
  if difference.n == 1:
    interval, p_text, verdict = markdown.NONE, markdown.NONE, 'one seed'
  else:
    cells[header] += f' ± {difference.sd:.2f}'
    interval = f'{difference.low:+.2f} to {difference.high:+.2f}'
    p_text = '< 0.001' if p < 0.001 else f'{p:.3f}'
    verdict = 'yes' if p < seed_statistics.ALPHA else 'no'
  return cells | {
    '95 % interval': interval,
    'p (Holm)': p_text,
    'significant': verdict,
  }


def _by_seed(students: Sequence[Record]) -> dict[int, float]:
  """Returns the test accuracy (%) of each seed."""
  return {
    student['seed']: 100 * student['test']['accuracy'] for student in students
  }
