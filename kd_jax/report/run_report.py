"""The report of one run: report.md and the plots beside it."""

import contextlib
import os
import pathlib
import textwrap
from collections.abc import Iterator

from kd_jax.report import (
  fields,
  finding,
  html_page,
  markdown,
  plots,
  tables,
  theory_plots,
  training_costs,
)
from kd_jax.report.fields import Record
from kd_jax.runtime import errors, files, json_records, run_records

# Provenance gives the number of rows instead of a longer list of rows.
_MAX_NAMED_ROWS = 8


def write(folder: os.PathLike, record: Record | None = None) -> str:
  """Writes report.md, the plots and report.html into a run's folder.

  Args:
    folder: the run's folder.
    record: the content of the folder's run.json; read from the folder if None.
  Returns:
    The text of report.md.
  Raises:
    UserError: if `record` is None and run.json is missing or damaged.
  """
  folder = pathlib.Path(folder)
  if record is None:
    with explain_missing_fields(folder / 'run.json'):
      return write(folder, read(folder))
  if 'results' in record:  # A record of theory.
    curves = theory_plots.write_curves(folder, record)
    captions = dict.fromkeys(curves, theory_plots.CAPTION)
  else:
    epochs = run_records.MetricsLog(folder / 'metrics.jsonl').read()
    captions = plots.write(folder, record, epochs)
  text = render(record)
  for name, caption in captions.items():
    text += f'\n![{name}]({name}.png)\n\n{markdown.as_text(caption)}\n'
  files.write_text(folder / 'report.md', text)
  pictures = {
    f'{name}.png': (folder / f'{name}.png').read_bytes() for name in captions
  }
  files.write_text(folder / 'report.html', html_page.render(text, pictures))
  return text


def read(folder: pathlib.Path) -> Record:
  """Returns the content of a folder's run.json.

  Raises:
    UserError: if the file is missing, damaged or of another shape.
  """
  path = folder / 'run.json'
  record, problem = json_records.find(path, json_records.RUN)
  if record is None or problem is not None:
    raise errors.UserError(
      f'{path} is missing or damaged ({problem or "there is no such file"}): '
      'expected the folder of a run, which launch.py wrote'
    )
  return record


@contextlib.contextmanager
def explain_missing_fields(path: pathlib.Path) -> Iterator[None]:
  """Turns errors about a record's fields into one that names its file.

  Raises:
    UserError: instead of what a missing field, or one of another type, raises.
  """
  try:
    yield
  except errors.BAD_VALUES as error:
    raise errors.UserError(
      f'{path} lacks what a report shows ({type(error).__name__}: {error}): it '
      'was written by another version, or by hand; the launch.py command of '
      'the run writes it anew'
    ) from error


# Columns of a terminal that the summary of a run fits into.
_COLUMNS = 100
# Rows at the beginning of an excerpt of the summary.
_EXCERPT = 4


def summary(record: Record) -> str:
  """Returns what launch.py prints at the end of a run: 100 columns at most."""
  if 'results' not in record:
    warnings = [
      textwrap.fill(f'warning: {warning}', _COLUMNS)
      for warning in record.get('warnings', [])
    ]
    table = tables.summary_table(record)
    notes = []
    if ' learns from ' in table:
      notes.append(finding.LEARNS_FROM)
    if ' ratio ' in table:
      size = fields.shown_batch_size(record)
      notes.append(
        f'ratio: time of the teacher / time of the row, {size:,} images a '
        'call; median (quartiles)'
      )
    gains = finding.gain_lines(record) if record.get('students') else []
    return '\n'.join([table, *notes, *gains, *warnings])
  parts = []
  for title, table in tables.theory_tables_by_title(record).items():
    if max(map(len, table.splitlines())) > _COLUMNS:
      table = 'This table is wider than a terminal; report.md has it.'
    parts += [f'{title}:', table]
  return '\n\n'.join(parts)


def terminal_excerpt(record: Record) -> str:
  """Returns the first and the last rows of `summary`, as a block of code."""
  lines = summary(record).splitlines()
  rows = [i for i, line in enumerate(lines) if line.startswith('|')]
  shown = [*lines[: _EXCERPT + 2], '...', *lines[rows[-1] :]]
  return '\n'.join(['```', *shown, '```'])


def render(record: Record) -> str:
  """Returns the report of a run as Markdown, without the plots.

  Args:
    record: a run, a teacher trained alone, or results of theory.
  """
  title = f'# {record["name"]}'
  if record.get('students'):
    title += f': {finding.headline(record)}'
  head = [title, provenance(record), *warnings_section(record)]
  if 'results' in record:
    duration = f'Computed in {record["seconds"]:.1f} s.'
    parts = [*head, tables.theory_tables(record), duration]
  elif not record['students']:
    train_s = record['teacher']['time']['train_s']
    duration = f'Trained in {train_s:,.0f} s.'
    parts = [*head, tables.accuracy_table(record), duration]
  else:
    parts = [
      *head,
      _size(record),
      *_part_minutes(record),
      *_accuracy_section(record),
      *finding.gain_section(record),
      *_cost_section(record),
      '## Latency',
      *_random_weights(record),
      tables.latency_table(record),
    ]
  return '\n\n'.join(parts) + '\n'


def _size(record: Record) -> str:
  """Returns a line with the numbers of rows and seeds, and the minutes."""
  rows = run_records.by_row(record).values()
  seeds = sorted({len(students) for students in rows})
  minutes = training_costs.training_minutes(record)
  return (
    f'Rows: {len(rows)}. Seeds of a row: {" or ".join(map(str, seeds))}. '
    f'Trainings, each counted once: {minutes:,.1f} minutes.'
  )


def _part_minutes(record: Record) -> list[str]:
  """Returns a line with the minutes of the run's parts.

  A command that was stopped has recorded none, and the environment may have
  been set up long before the run.
  """
  seconds = dict(record.get('part_seconds', {}))  # Older records have none.
  setup_s = seconds.pop('environment', None)
  sentences = []
  if seconds:
    parts = ', '.join(f'{part} {s / 60:.1f}' for part, s in seconds.items())
    sentences.append(
      f'Minutes of each part, without commands that were stopped: {parts}.'
    )
  if setup_s is not None:
    sentences.append(
      f'The environment was set up once, in {setup_s / 60:.1f} minutes.'
    )
  return [' '.join(sentences)] if sentences else []


def _random_weights(record: Record) -> list[str]:
  """Returns a sentence if a network was timed with random weights."""
  names = fields.benchmark(record).get('random_weights', [])
  return [
    f'The {name} was timed with random weights, because only its outputs come '
    "with the project; a network's time does not depend on its weights."
    for name in names
  ]


def warnings_section(record: Record) -> list[str]:
  """Returns what speaks against a run's numbers, before all numbers."""
  warnings = record.get('warnings')  # Older records have none.
  if not warnings:
    return []
  lines = (markdown.as_text(' '.join(text.split())) for text in warnings)
  return ['## Warnings', '\n'.join(f'- {line}.' for line in lines)]


def _accuracy_section(record: Record) -> list[str]:
  """Returns the paragraphs about test metrics."""
  spread = 'One seed of each row'
  if fields.has_several_seeds(record):
    spread = 'Mean ± standard deviation over seeds'
  return [
    '## Accuracy',
    f'{spread}, on {fields.evaluated_on(record["config"]["data"])}. '
    f'{_about_paper_column(record)}'
    'Agreement and KL compare the network with the teacher.',
    tables.accuracy_table(record),
    *_shared_trainings(record),
    *_phases(record),
  ]


def _phases(record: Record) -> list[str]:
  """Returns the accuracy after each phase, if a training has several."""
  if all(
    len(student['test_accuracy_after']) < 2 for student in record['students']
  ):
    return []
  return [
    'Accuracy (%) after each phase, which shows what the last phase adds:',
    tables.phases_table(record),
  ]


def _about_paper_column(record: Record) -> str:
  if not fields.paper_values(record):
    return ''
  return (
    "The column 'paper %' is the accuracy that the paper reports for the row. "
  )


def _shared_trainings(record: Record) -> list[str]:
  """Returns a sentence for each training that several rows share."""
  rows_by_training: dict[str, list[str]] = {}
  for row, students in run_records.by_row(record).items():
    if 'same_as' in students[0]:
      rows_by_training.setdefault(students[0]['same_as'], []).append(row)
  return [
    f'Rows with the same network and training as {first}, done once: '
    f'{", ".join(rows)}.'
    for first, rows in rows_by_training.items()
  ]


def _cost_section(record: Record) -> list[str]:
  """Returns the paragraphs about training time, size and inference time."""
  section = [
    '## Cost',
    *_about_ratios(record),
    tables.cost_table(record),
    *_about_earlier_training(record),
  ]
  if fields.benchmark(record).get('training') is not None:
    section += [
      'The time with a live teacher is the measured training time plus, for '
      'each step, the time that a call of the teacher adds. Steps with stored '
      'outputs and with a live teacher were timed in turn:',
      tables.live_steps_table(record),
    ]
  return section


def _about_ratios(record: Record) -> list[str]:
  """Returns a paragraph about the ratios that the table of costs has."""
  timing = fields.benchmark(record)
  if timing.get('reference') != 'teacher':
    return []
  text = (
    'Ratios are teacher time / network time: median (quartiles) over '
    'interleaved rounds of compiled, warm calls.'
  )
  if timing.get('cold_calls'):
    papers = ', as in the paper' if fields.paper_values(record) else ''
    text += (
      f" A cold call is a network's first eager call{papers}, on 10,000 "
      'images, in a fresh process. The second call repeats the first when '
      'every operation is compiled.'
    )
  return [text]


def _about_earlier_training(record: Record) -> list[str]:
  """Returns when and where a teacher was trained that came with the project."""
  teacher = record['teacher']
  if 'time' not in teacher or not tables.has_pretrained_teacher(record):
    return []
  place = ''
  if trained := teacher.get('environment'):
    place = (
      f': on {trained["time"][:10]}, {trained["device"]} '
      f'({_machine({}, trained)})'
    )
  return [f'† The teacher was trained before this run{place}.']


def provenance(record: Record) -> str:
  """Returns a line that says how a record's numbers were made.

  The line holds the command, the device, the versions, the code and the time.
  If students or timings come from another version of the code, the line names
  them with that version.
  """
  # The manifest of a stored teacher keeps the environment under 'training'.
  environment = record.get('environment') or record['training']['environment']
  versions = ', '.join(f'{k} {v}' for k, v in environment['versions'].items())
  other_code = ''.join(
    f'; {code}: {_named(parts)}'
    for code, parts in _parts_by_other_code(record, environment).items()
  )
  return (
    f'`{record["command"]}`; {environment["device"]} '
    f'({_machine(record, environment)}), Python '
    f'{environment["python"]}, {versions}; {_code(environment)}; '
    f'{environment["time"]}{other_code}.'
  )


def _machine(record: Record, environment: Record) -> str:
  """Returns the processor, the cores and how many workers shared them."""
  machine = environment['processor']
  if environment.get('instructions'):  # Older records do not have them.
    machine += f' with {environment["instructions"]}'
  cores = environment['cores']
  machine += f', {cores} core{"" if cores == 1 else "s"}'
  workers = [
    student.get('environment', {}).get('workers', 1)
    for student in record.get('students', [])
  ]
  most = max(workers, default=1)
  return machine + (f', {most} students side by side' if most > 1 else '')


def _code(environment: Record) -> str:
  """Returns the code version of an environment, as 'code VERSION'."""
  return f'code {environment["code"] or "unknown"}'


def _parts_by_other_code(
  record: Record, environment: Record
) -> dict[str, list[str]]:
  """Returns the rows and timings made by another code version, by version.

  Args:
    record: the run.
    environment: the run's environment.
  """
  parts: dict[str, list[str]] = {}
  for student in record.get('students', []):
    trained = student.get('environment', environment)
    if trained['code'] != environment['code']:
      rows = parts.setdefault(_code(trained), [])
      if student['row'] not in rows:
        rows.append(student['row'])
  timed = fields.benchmark(record).get('environment', environment)
  is_other_machine = any(
    field in timed and timed[field] != environment.get(field)
    for field in ('device', 'processor')
  )
  if timed['code'] != environment['code'] or is_other_machine:
    timings = f'timings of {timed["time"]}'
    if is_other_machine:
      timings += f' on {timed["device"]} ({_machine({}, timed)})'
    parts.setdefault(_code(timed), []).append(timings)
  return parts


def _named(parts: list[str]) -> str:
  if len(parts) <= _MAX_NAMED_ROWS:
    return ', '.join(parts)
  return f'{len(parts)} rows'
