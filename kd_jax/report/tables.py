"""Tables of one record: a run, results of theory, a stored teacher.

Each `*_table` function returns a Markdown table.
"""

import statistics
from collections.abc import Sequence

from kd_jax.report import fields, markdown, seed_statistics
from kd_jax.report.fields import Record
from kd_jax.runtime import run_records

_PAPER_COLUMNS = ('paper %', 'difference')


def accuracy_table(record: Record) -> str:
  """Returns the test metrics of the teacher and of each row.

  The columns 'paper %' and 'difference' compare the accuracy with the paper's;
  a run without figures of the paper has no such columns.
  If any network was attacked, or stored with quantized weights, the table has
  columns for these accuracies.
  """
  networks = fields.networks(record)
  trained = [student for row in networks.values() for student in row]
  has_attacks = any('robust' in student for student in trained)
  has_quantized = any(run_records.QUANTIZED in student for student in trained)
  lines = []
  for name, students in networks.items():
    line = _accuracy_cells(record, name, students)
    if has_attacks:
      attacked = fields.values(students, 'robust', 'accuracy')
      line['attacked %'] = markdown.mean_sd(attacked, 2, scale=100)
    if has_quantized:
      line |= _quantized_cells(students)
    lines.append(line)
  return markdown.table_of_lines(markdown.without_empty_columns(lines))


def _accuracy_cells(
  record: Record, name: str, students: Sequence[Record]
) -> dict[str, str]:
  """Returns a network's cells of `accuracy_table`, by column header."""

  def cell(metric: str, digits: int, scale: float = 1.0) -> str:
    values = fields.test_metric(students, metric)
    return markdown.mean_sd(values, digits, scale=scale)

  paper = fields.paper_value(record, name, 'accuracy')
  accuracies = fields.test_metric(students, 'accuracy')
  known = [100 * value for value in accuracies if value is not None]
  difference = markdown.NONE
  if paper is not None and known:
    difference = f'{statistics.fmean(known) - paper:+.2f}'
  cells = {
    'row': name,
    'seeds': str(len(students)),
    'accuracy %': cell('accuracy', 2, 100),
  }
  if fields.paper_values(record):
    cells |= {'paper %': markdown.number(paper, 2), 'difference': difference}
  return cells | {
    'errors': cell('errors', 0),
    'NLL': cell('nll', 4),
    'ECE': cell('ece', 4),
    'Brier': cell('brier', 4),
    'agreement %': cell('teacher_agreement', 2, 100),
    'KL to teacher': cell('teacher_kl', 4),
  }


def _quantized_cells(students: Sequence[Record]) -> dict[str, str]:
  """Returns the accuracy with quantized weights, and their relative size."""
  sizes = [
    student[run_records.QUANTIZED]['bytes'] / student['bytes']
    if run_records.QUANTIZED in student
    else None
    for student in students
  ]
  accuracies = fields.values(students, run_records.QUANTIZED, 'accuracy')
  return {
    'stored as integers %': markdown.mean_sd(accuracies, 2, scale=100),
    'size, % of float': markdown.mean_sd(sizes, 1, scale=100),
  }


def summary_table(record: Record) -> str:
  """Returns the accuracy of each row, and its speed beside the teacher's.

  'learns from' says whether a row learns from labels, the teacher or both. The
  ratio, teacher time / row time, is that of `fields.shown_batch_size`, as
  median (quartiles); a run that timed nothing has no column for it. A run
  without figures of the paper has no columns for these.
  """
  sizes = fields.batch_sizes(record)
  lines = []
  for name, students in fields.networks(record).items():
    cells = _accuracy_cells(record, name, students)
    line = {
      'row': name,
      'learns from': fields.learns_from(record, name) or markdown.NONE,
      'accuracy % (n)': f'{cells["accuracy %"]} ({len(students)})',
    }
    line |= {key: cells[key] for key in _PAPER_COLUMNS if key in cells}
    if sizes and fields.benchmark(record).get('reference') == 'teacher':
      timed = fields.network_timing(record, name).get('batches', {})
      ratio = timed.get(str(fields.shown_batch_size(record)), {}).get('ratio')
      line['ratio'] = markdown.quartiles(ratio, 1)
    lines.append(line)
  return markdown.table_of_lines(markdown.without_empty_columns(lines))


def reproduction_table(record: Record) -> str:
  """Returns whether each row reproduces the paper's accuracy.

  The criterion is that the paper's figure, which is one draw, lies within the
  95 % prediction interval of one more seed. Rows without a figure in the paper
  are left out.
  """
  return markdown.table_of_lines(reproduction_lines(record))


def reproduction_lines(record: Record) -> list[dict[str, str]]:
  """Returns the lines of `reproduction_table`, by column header."""
  lines = []
  for row, students in run_records.by_row(record).items():
    paper = fields.paper_value(record, row, 'accuracy')
    if paper is None:
      continue
    values = fields.accuracies_percent(students)
    predicted = seed_statistics.prediction_interval(values)
    cells = reproduction_cells(values, predicted, paper)
    lines.append({'row': row, 'seeds': str(len(values))} | cells)
  return lines


def reproduction_cells(
  values: Sequence[float], predicted: seed_statistics.Interval, paper: float
) -> dict[str, str]:
  """Returns a row's accuracy, prediction interval and verdict, by header.

  Args:
    values: the accuracies (%) of all students.
    predicted: the prediction interval (%) of one more student.
    paper: the paper's accuracy (%).
  """
  if len(values) < 2:
    interval, verdict = markdown.NONE, 'one seed: no verdict'
  else:
    interval = f'{predicted.low:.2f} to {predicted.high:.2f}'
    verdict = 'yes' if predicted.holds(paper) else 'no'
  return {
    'accuracy %': markdown.mean_sd(values, 2),
    '95 % prediction interval': interval,
    'paper %': markdown.number(paper, 2),
    'reproduced': verdict,
  }


def phases_table(record: Record) -> str:
  """Returns the test accuracy (%) after each phase of a training.

  A training that repeats the authors' fold loop has a phase for each fold, and
  a last phase, 'fit', on all its examples.
  """
  rows = run_records.by_row(record)
  phases = list(
    dict.fromkeys(
      phase
      for students in rows.values()
      for student in students
      for phase in student['test_accuracy_after']
    )
  )
  lines = []
  for name, students in rows.items():
    accuracies = (
      fields.values(students, 'test_accuracy_after', phase) for phase in phases
    )
    line = {'row': name} | {
      f'after {phase}': markdown.mean_sd(values, 2, scale=100)
      for phase, values in zip(phases, accuracies, strict=True)
    }
    if fields.paper_values(record):
      paper = fields.paper_value(record, name, 'accuracy')
      line['paper %'] = markdown.number(paper, 2)
    lines.append(line)
  return markdown.table_of_lines(lines)


def cost_table(record: Record) -> str:
  """Returns training time, size and inference ratios of each network.

  A ratio is teacher time / network time. Ratios are missing if the teacher is
  a file of outputs, because a file has no inference time.
  """
  lines = [
    {'row': name}
    | _training_cells(record, name, students)
    | _inference_cells(record, name)
    for name, students in fields.networks(record).items()
  ]
  return markdown.table_of_lines(markdown.without_empty_columns(lines))


def _training_cells(
  record: Record, name: str, students: Sequence[Record]
) -> dict[str, str]:
  """Returns a network's training times (s), by column header."""
  train_s = fields.values(students, 'time', 'train_s')
  fold_loop_s = fields.values(students, 'time', 'fold_loop_s')
  if not any(fold_loop_s):  # A training without folds.
    fold_loop_s = []
  cells = {
    'training s': markdown.mean_sd(train_s, 1) + _elsewhere(record, name),
    'of it fold loop s': markdown.mean_sd(fold_loop_s, 1),
  }
  if 'training' in fields.benchmark(record):
    live_s = _live_train_s(record, name, students)
    cells['with a live teacher s'] = markdown.mean_sd(live_s, 1)
  if fields.paper_values(record):
    paper_s = fields.paper_value(record, name, 'train_s')
    cells['paper s'] = markdown.number(paper_s, 1)
  return cells


def has_pretrained_teacher(record: Record) -> bool:
  """Returns whether the teacher came with the project or from the user."""
  section = record['config'].get('teacher', {})
  # 'shipped' is the field's name in older records.
  return bool(
    record['teacher'].get('source')
    or section.get('pretrained')
    or section.get('shipped')
  )


def _elsewhere(record: Record, name: str) -> str:
  """Returns a mark for a time that is none of the run's."""
  is_marked = (
    name == 'teacher'
    and 'time' in record['teacher']
    and has_pretrained_teacher(record)
  )
  return ' †' if is_marked else ''


def _live_train_s(
  record: Record, name: str, students: Sequence[Record]
) -> list[float | None]:
  """Returns each training's time (s) if each step had called the teacher.

  The time is the measured training time plus, for each step, the difference
  between the median step with a live teacher and with stored outputs.
  """
  timing = fields.benchmark(record)
  network = timing.get('network_of', {}).get(name)
  steps = timing.get('training', {}).get(network)
  if steps is None:
    return [None]
  added_s = steps['live_step_s']['median'] - steps['stored_step_s']['median']
  return [
    student['time']['train_s'] + added_s * student['steps']
    for student in students
  ]


def _inference_cells(record: Record, name: str) -> dict[str, str]:
  """Returns a network's size and inference ratios, by column header."""
  timing = fields.benchmark(record)
  network = fields.network_timing(record, name)
  batches, cold_calls = {}, {}
  if timing.get('reference') == 'teacher':
    batches = network.get('batches', {})
    cold_calls = timing.get('cold_calls', {}).get(
      fields.network_name(record, name), {}
    )
  ratios = {
    f'ratio, batch {size:,}': markdown.quartiles(
      batches.get(str(size), {}).get('ratio'), 1
    )
    for size in fields.batch_sizes(record)
  }
  first_call = cold_calls.get('first_call_ratio')
  second_call = cold_calls.get('second_call_ratio')
  cells = {
    'parameters': f'{network["parameters"]:,}' if network else markdown.NONE,
    'MAC': f'{network["macs"]:,}' if network else markdown.NONE,
    **ratios,
    'ratio, cold call': markdown.quartiles(first_call, 1),
    'ratio, second call': markdown.quartiles(second_call, 1),
  }
  if fields.paper_values(record):
    paper_ratio = fields.paper_value(record, name, 'inference_ratio')
    cells['paper ratio'] = markdown.number(paper_ratio, 1)
  return cells


def latency_table(record: Record) -> str:
  """Returns milliseconds of a compiled, warm forward pass at each batch."""
  rows = []
  for name, network in fields.benchmark(record).get('networks', {}).items():
    for size, batch in network['batches'].items():
      seconds = batch['call_s']
      rate = network['macs'] * int(size) / seconds['median'] / 1e9
      rows.append(
        (
          name,
          f'{int(size):,}',
          markdown.quartiles(milliseconds(seconds), 3),
          str(seconds['n']),
          f'{rate:.1f}',
          f'{batch["compile_s"]:.2f}',
        )
      )
  headers = ('network', 'batch', 'ms a call', 'n', 'GMAC/s', 'compile s')
  return markdown.table(headers, rows)


def milliseconds(seconds: dict[str, float]) -> dict[str, float]:
  """Returns quartiles in seconds as quartiles in milliseconds, without n."""
  return {key: 1e3 * seconds[key] for key in ('median', 'lower', 'upper')}


def live_steps_table(record: Record) -> str:
  """Returns milliseconds of a step with stored outputs and a live teacher."""
  rows = [
    (
      name,
      markdown.quartiles(milliseconds(steps['stored_step_s']), 1),
      markdown.quartiles(milliseconds(steps['live_step_s']), 1),
      str(steps['live_step_s']['n']),
    )
    for name, steps in fields.benchmark(record)['training'].items()
  ]
  headers = ('network', 'ms a step, stored', 'ms a step, live', 'n')
  return markdown.table(headers, rows)


# Headings of older records, and what they are called today.
_HEADINGS = {'what is left over': 'residual'}


def theory_tables(record: Record) -> str:
  """Returns all tables of a record of theory, each below its title."""
  parts = []
  for title, table in theory_tables_by_title(record).items():
    parts += [f'{title}:', table]
  return '\n\n'.join(parts)


def theory_tables_by_title(record: Record) -> dict[str, str]:
  """Returns the tables of a record of theory by their titles."""
  tables = {}
  for title, content in record['results']['tables'].items():
    rows = [[_theory_cell(cell) for cell in row] for row in content['rows']]
    headers = [_HEADINGS.get(name, name) for name in content['columns']]
    tables[title] = markdown.table(headers, rows)
  return tables


def _theory_cell(value: str | float | None) -> str:
  if value is None:
    return markdown.NONE
  return value if isinstance(value, str) else f'{value:.4g}'


def pretrained_table(manifest: Record) -> str:
  """Returns the metrics of a stored teacher's outputs, by input scaling.

  Args:
    manifest: the content of a teacher's manifest.json.
  """
  rows = [
    (
      scaling,
      split,
      f'{100 * metrics["accuracy"]:.2f}',
      str(metrics['errors']),
      *(f'{metrics[key]:.4f}' for key in ('nll', 'ece', 'brier')),
    )
    for scaling, splits in manifest['accuracy'].items()
    for split, metrics in splits.items()
  ]
  headers = ('scaling', 'split', 'accuracy %', 'errors', 'NLL', 'ECE', 'Brier')
  return markdown.table(headers, rows)
