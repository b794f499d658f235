"""Tables over all published runs. Each function returns Markdown."""

import functools
import statistics
from collections.abc import Callable, Mapping

from kd_jax.report import (
  at_a_glance,
  fields,
  inference_tables,
  markdown,
  methods_overview,
  pretrained_teachers,
  seed_statistics,
  tables,
)
from kd_jax.report.fields import Record
from kd_jax.runtime import run_records


def teachers_table(results: dict[str, Record]) -> str:
  """Returns the accuracy of each run's teacher and of its student `h300`.

  Args:
    results: the records of runs by name; runs without `h300` are left out.
  """
  lines = []
  for name, record in results.items():
    students = run_records.by_row(record).get('h300')
    if not students:
      continue
    config = record['config']['teacher']
    teacher = fields.test_metric([record['teacher']], 'accuracy')
    student = fields.test_metric(students, 'accuracy')
    lines.append(
      (
        name,
        f'{config["model"]["dropout_rate"]:g}',
        str(config['seed']),
        markdown.mean_sd(teacher, 2, scale=100),
        markdown.mean_sd(student, 2, scale=100),
      )
    )
  headers = ('run', 'dropout', 'teacher seed', 'teacher %', 'h300 %')
  return markdown.table(headers, lines)


def table1_reproduction(results: dict[str, Record], *, protocol: str) -> str:
  """Returns whether each row of Table 1 reproduces, over seeds and teachers.

  The criterion is that the paper's figure lies within the 95 % prediction
  interval of one more student. If there are several teachers, it is the student
  of one more teacher.

  Args:
    results: the records by name. 'mnist-table1-PROTOCOL' and the runs that
      differ from it in their teacher's seed alone are used.
    protocol: 'as_coded' or 'as_written'.
  """
  lines = table1_lines(results, protocol)
  return markdown.table_of_lines(lines)


def table1_lines(
  results: Mapping[str, Record], protocol: str
) -> list[dict[str, str]]:
  """Returns the lines of `table1_reproduction`, by column header."""
  name = f'mnist-table1-{protocol}'
  runs = [
    record
    for run, record in results.items()
    if run == name or run.startswith(f'{name}-teacher_seed')
  ]
  by_row: dict[str, list[list[float]]] = {}
  for record in runs:
    for row, students in fields.networks(record).items():
      by_row.setdefault(row, []).append(fields.accuracies_percent(students))
  lines = []
  for row, groups in by_row.items():
    paper = fields.paper_value(runs[0], row, 'accuracy')
    if paper is None:
      continue
    values = [accuracy for group in groups for accuracy in group]
    if len(groups) > 1 and len(groups[0]) > 1:
      predicted = seed_statistics.nested_prediction_interval(groups)
    else:
      predicted = seed_statistics.prediction_interval(values)
    counts = {'teachers': str(len(groups)), 'students': str(len(values))}
    if row == 'teacher':
      counts['students'] = markdown.NONE
    cells = tables.reproduction_cells(values, predicted, paper)
    lines.append({'row': row} | counts | cells)
  return lines


def table2_runs(results: dict[str, Record]) -> dict[str, Record]:
  """Returns the runs on CIFAR-10 that have figures from the paper's Table 2."""
  return {
    run: record
    for run, record in results.items()
    if record.get('students')
    and record['config']['data']['name'] == 'cifar10'
    and fields.paper_values(record)
  }


def cifar_table(results: dict[str, Record]) -> str:
  """Returns every row of every CIFAR-10 run beside the paper's Table 2.

  The runs differ in how they interpret Table 2, which leaves details open.

  Args:
    results: the records of runs by name; `table2_runs` selects among them.
  """
  lines = [
    _cifar_cells(run, record, row)
    for run, record in table2_runs(results).items()
    for row in run_records.by_row(record)
  ]
  headers = (
    'run',
    'row',
    'seeds',
    'accuracy %',
    'mean of last 5 epochs %',
    'paper %',
    'difference',
    'training s',
    'ratio, batch 1',
    'ratio, batch 100',
    'paper ratio',
  )
  return markdown.table(headers, lines)


def _cifar_cells(run: str, record: Record, row: str) -> list[str]:
  """Returns one row's cells of `cifar_table`."""
  students = run_records.by_row(record)[row]
  accuracies = fields.accuracies(students)
  last_epochs = [
    statistics.fmean(student['test_accuracy_by_epoch'][-5:])
    for student in students
    if student.get('test_accuracy_by_epoch')
  ]
  paper = fields.paper_value(record, row, 'accuracy')
  difference = markdown.NONE
  if paper is not None:
    difference = f'{statistics.fmean(accuracies) * 100 - paper:+.1f}'
  train_s = fields.values(students, 'time', 'train_s')
  batches = fields.network_timing(record, row).get('batches', {})
  paper_ratio = fields.paper_value(record, row, 'inference_ratio')
  return [
    run.removeprefix('cifar-'),
    row,
    str(len(students)),
    markdown.mean_sd(accuracies, 2, scale=100),
    markdown.mean_sd(last_epochs, 2, scale=100),
    markdown.number(paper, 1),
    difference,
    markdown.mean_sd(train_s, 0),
    markdown.quartiles(batches.get('1', {}).get('ratio'), 1),
    markdown.quartiles(batches.get('100', {}).get('ratio'), 1),
    markdown.number(paper_ratio, 1),
  ]


# By the kind that a document's marker names.
TABLES: dict[str, Callable[[dict[str, Record]], str]] = {
  'teachers': teachers_table,
  'cifar': cifar_table,
  'at_a_glance': at_a_glance.table,
  'methods_overview': methods_overview.table,
  'pretrained_teachers': pretrained_teachers.table,
  **{
    f'table1_reproduction_{protocol}': functools.partial(
      table1_reproduction, protocol=protocol
    )
    for protocol in ('as_coded', 'as_written')
  },
  **{
    f'inference_{machine}': functools.partial(
      inference_tables.inference_table, machine=machine
    )
    for machine in inference_tables.MACHINES
  },
}
