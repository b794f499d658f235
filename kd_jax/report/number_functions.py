"""Functions that numbers in documents call; see inline_numbers.py.

A network is named 'RECORD/ROW'; 'RECORD/teacher' is a run's teacher. A metric
is the keys to it in a student's record, joined by dots, such as 'test.nll' or,
for an entry of a list, 'by_class.errors.3'.
Accuracies and agreements are in percent. The metric 'last_epochs' is the mean
test accuracy over a student's last five epochs, 'last_epochs_sd' their standard
deviation, and 'best_epoch' the highest test accuracy of any epoch.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd_jax.report import (
  cross_run_tables,
  fields,
  markdown,
  seed_statistics,
  tables,
  training_costs,
)
from kd_jax.report.fields import Record
from kd_jax.runtime import errors

Results = Mapping[str, Record]

_ACCURACY = 'test.accuracy'
_PERCENT = {'accuracy', 'teacher_agreement', 'test_accuracy_after'}


def value(results: Results, name: str, *keys: str | int) -> Any:
  """Returns the entry of a record below some keys.

  Args:
    results: the records by name.
    name: a record's name.
    *keys: keys of objects, and indices of lists.
  """
  return _entry(_record(results, name), keys)


def quartiles(
  results: Results, name: str, *keys: str | int, digits: int = 2
) -> str:
  """Returns 'median (lower quartile–upper quartile)' of an entry."""
  return markdown.quartiles(value(results, name, *keys), digits)


def n(results: Results, network: str) -> int:
  """Returns a network's number of seeds."""
  return len(_students(results, network))


def mean(results: Results, network: str, metric: str = _ACCURACY) -> float:
  """Returns the mean of a metric over a network's seeds."""
  return statistics.fmean(_by_seed(results, network, metric).values())


def sd(results: Results, network: str, metric: str = _ACCURACY) -> float:
  """Returns the standard deviation of a metric over a network's seeds."""
  return statistics.stdev(_by_seed(results, network, metric).values())


def seed(
  results: Results, network: str, number: int, metric: str = _ACCURACY
) -> float:
  """Returns a metric of one seed of a network."""
  return _by_seed(results, network, metric)[number]


def mean_sd(
  results: Results, network: str, metric: str = _ACCURACY, digits: int = 2
) -> str:
  """Returns 'mean ± standard deviation' of a metric over a network's seeds."""
  values = _by_seed(results, network, metric)
  return markdown.mean_sd([*values.values()], digits)


def interval(
  results: Results, network: str, metric: str = _ACCURACY, digits: int = 1
) -> str:
  """Returns the 95 % confidence interval of a metric's mean, 'low to high'."""
  found = seed_statistics.estimate(
    [*_by_seed(results, network, metric).values()]
  )
  return f'{found.low:.{digits}f} to {found.high:.{digits}f}'


def predicted(
  results: Results, network: str, metric: str = _ACCURACY, digits: int = 1
) -> str:
  """Returns the 95 % prediction interval of one more seed, 'low to high'."""
  found = seed_statistics.prediction_interval(
    [*_by_seed(results, network, metric).values()]
  )
  return f'{found.low:.{digits}f} to {found.high:.{digits}f}'


def gain(
  results: Results,
  network: str,
  control: str,
  metric: str = _ACCURACY,
  digits: int = 1,
) -> str:
  """Returns how much better a network is than its control, paired by seed.

  Returns:
    A text such as '+0.5 ± 1.1 (n = 5, 95 % interval -0.9 to +1.9)'.
  """
  found = _difference(results, network, control, metric)
  if found.n == 1:
    return f'{found.mean:+.{digits}f} (n = 1)'
  return (
    f'{found.mean:+.{digits}f} ± {found.sd:.{digits}f} (n = {found.n}, 95 % '
    f'interval {found.low:+.{digits}f} to {found.high:+.{digits}f})'
  )


def mean_gain(
  results: Results, network: str, control: str, metric: str = _ACCURACY
) -> float:
  """Returns the mean of `gain`."""
  return _difference(results, network, control, metric).mean


def p_value(
  results: Results, network: str, control: str, metric: str = _ACCURACY
) -> float:
  """Returns the p-value of the two-sided test that `gain` is 0."""
  return _difference(results, network, control, metric).p


def p_value_unpaired(
  results: Results, network: str, other: str, metric: str = _ACCURACY
) -> float:
  """Returns the p-value of Welch's test that two networks' means are equal."""
  from scipy import stats

  samples = (
    [*_by_seed(results, name, metric).values()] for name in (network, other)
  )
  return float(stats.ttest_ind(*samples, equal_var=False).pvalue)


def paper(results: Results, network: str, field: str = 'accuracy') -> float:
  """Returns a figure that the paper prints for a network's row."""
  name, _, row = network.partition('/')
  found = fields.paper_value(_record(results, name), row, field)
  if found is None:
    raise errors.UserError(f'the paper has no {field!r} for {network!r}')
  return found


def cell(
  results: Results, name: str, table: str, row: int | str, column: str
) -> float | str:
  """Returns a cell of a table of theory.

  Args:
    results: the records by name.
    name: a record's name.
    table: the beginning of the table's title.
    row: index of the row, or the content of its first column.
    column: the column's heading.
  """
  tables = value(results, name, 'results', 'tables')
  title = next(title for title in tables if title.startswith(table))
  content = tables[title]
  if isinstance(row, str):
    row = [cells[0] for cells in content['rows']].index(row)
  return content['rows'][row][content['columns'].index(column)]


def minutes(results: Results, *names: str) -> float:
  """Returns how many minutes the trainings of runs took, each counted once.

  The time of a teacher that was trained before the run does not count.
  Trainings that ran side by side count each.

  Args:
    results: the records by name.
    *names: names of runs, or of results of theory.
  """
  return sum(
    training_costs.training_minutes(_record(results, name)) for name in names
  )


def ratio(results: Results, network: str, batch: int) -> float:
  """Returns the median of teacher time / network time at a batch size."""
  return _ratio(results, network, batch)['median']


def ratio_quartiles(
  results: Results, network: str, batch: int, digits: int = 1
) -> str:
  """Returns 'median (lower quartile–upper quartile)' of `ratio`."""
  return markdown.quartiles(_ratio(results, network, batch), digits)


def eager_ratio(results: Results, network: str, call: str) -> float:
  """Returns the median of teacher time / network time of an eager call.

  Args:
    results: the records by name.
    network: 'RECORD/ROW'.
    call: 'first' or 'second' call of a process, on 10,000 images.
  """
  name, _, row = network.partition('/')
  record = _record(results, name)
  timed = fields.benchmark(record)['cold_calls']
  return timed[fields.network_name(record, row)][f'{call}_call_ratio']['median']


def call_ms(results: Results, network: str, batch: int) -> float:
  """Returns the median milliseconds of a network's call at a batch size."""
  return 1000 * _timing(results, network, batch)['call_s']['median']


def work_ratio(results: Results, network: str) -> float:
  """Returns the multiply-accumulates of the teacher / those of a network."""
  name, _, row = network.partition('/')
  record = _record(results, name)
  macs = (
    fields.network_timing(record, timed)['macs'] for timed in ('teacher', row)
  )
  teacher, student = macs
  return teacher / student


def teacher_accuracy(results: Results, name: str, scaling: str) -> float:
  """Returns the test accuracy (%) of a stored teacher in an input scaling."""
  return 100 * value(results, name, 'accuracy', scaling, 'test', 'accuracy')


def rows_reproduced(results: Results, name: str) -> str:
  """Returns how many of a run's rows reproduce the paper, such as '7 of 9'."""
  return _count(tables.reproduction_lines(_record(results, name)))


def table1_reproduced(results: Results, protocol: str) -> str:
  """Returns how many rows of Table 1 reproduce, over all teachers."""
  return _count(cross_run_tables.table1_lines(results, protocol))


def table1_cell(
  results: Results, protocol: str, row: str, column: str = 'reproduced'
) -> str:
  """Returns a cell of the table `table1_reproduction`, over all teachers.

  Args:
    results: the records by name.
    protocol: 'as_coded' or 'as_written'.
    row: the row, or 'teacher'.
    column: the column's heading. 'reproduced' is 'yes', 'no', or why there is
      no verdict.
  """
  lines = cross_run_tables.table1_lines(results, protocol)
  return next(line[column] for line in lines if line['row'] == row)


def table1_teachers(results: Results, protocol: str) -> int:
  """Returns how many teachers taught the students of Table 1."""
  return int(cross_run_tables.table1_lines(results, protocol)[0]['teachers'])


def _count(lines: Sequence[Mapping[str, str]]) -> str:
  verdicts = [line['reproduced'] for line in lines if line['row'] != 'teacher']
  return f'{verdicts.count("yes")} of {len(verdicts)}'


def _ratio(results: Results, network: str, batch: int) -> Record:
  return _timing(results, network, batch)['ratio']


def _timing(results: Results, network: str, batch: int) -> Record:
  """Returns the timing of a network's calls at a batch size."""
  name, _, row = network.partition('/')
  timing = fields.network_timing(_record(results, name), row)
  if not timing:
    raise errors.UserError(f'{name} has no timings of {row!r}')
  return timing['batches'][str(batch)]


def _entry(record: Record, keys: Sequence[str | int]) -> Any:
  """Returns the entry of a record below some keys."""
  found: Any = record
  for key in keys:
    found = found[key]
  return found


def _record(results: Results, name: str) -> Record:
  if name not in results:
    raise errors.UserError(f'unknown record {name!r}')
  return results[name]


def _students(results: Results, network: str) -> list[Record]:
  """Returns a network's records, one for each seed."""
  name, _, row = network.partition('/')
  networks = fields.networks(_record(results, name))
  if row not in networks:
    raise errors.UserError(
      f'unknown network {network!r}; {name} has {", ".join(networks)}'
    )
  return networks[row]


def _by_seed(results: Results, network: str, metric: str) -> dict[int, float]:
  """Returns a metric of each seed of a network."""
  return {
    student.get('seed', 0): _metric(student, metric)
    for student in _students(results, network)
  }


def _metric(student: Record, metric: str) -> float:
  """Returns a number of a student's record; shares are in percent.

  Args:
    student: the record of a student.
    metric: 'last_epochs' or 'last_epochs_sd', the mean or the standard
      deviation of the test accuracy in the last five epochs; 'best_epoch', the
      highest test accuracy of an epoch; or the keys of an entry of the record,
      joined by dots.
  """
  if metric == 'last_epochs':
    return 100 * statistics.fmean(student['test_accuracy_by_epoch'][-5:])
  if metric == 'last_epochs_sd':
    return 100 * statistics.stdev(student['test_accuracy_by_epoch'][-5:])
  if metric == 'best_epoch':
    return 100 * max(student['test_accuracy_by_epoch'])
  keys = metric.split('.')
  found = _entry(student, [int(k) if k.isdigit() else k for k in keys])
  return 100 * found if _PERCENT & set(keys) else found


def _difference(
  results: Results, network: str, control: str, metric: str
) -> seed_statistics.Estimate:
  return seed_statistics.paired_difference(
    _by_seed(results, network, metric), _by_seed(results, control, metric)
  )


# The functions that an expression may call, by name.
FUNCTIONS: dict[str, Callable[..., Any]] = {
  function.__name__: function
  for function in (
    *(value, quartiles, n, mean, sd, seed, mean_sd, interval, predicted),
    *(gain, mean_gain, p_value, p_value_unpaired, paper, cell),
    *(minutes, ratio, ratio_quartiles, eager_ratio, call_ms),
    work_ratio,
    *(teacher_accuracy, rows_reproduced),
    *(table1_reproduced, table1_cell, table1_teachers),
  )
} | {
  'abs': lambda _, x: abs(x),
  'min': lambda _, *x: min(x),
  'max': lambda _, *x: max(x),
}
