"""Tables and plots, from the files that runs wrote and from nothing else.

  python -m kd_jax.report RUN_DIR      that run's report.md and plots, again
  python -m kd_jax.report results/     the tables in results/*.md and README.md,
                                       and a plot of all CIFAR-10 runs
  python -m kd_jax.report results/ --add=RUN_DIR   first copies a run's run.json

A README asks for a table with a pair of lines, between which it is written:

  <!-- table: NAME KIND -->
  <!-- end of table -->

NAME is that of a file in results/ or of a folder in teachers/ beside it, or
`all` for a table over all results.
"""

import math
import os
import pathlib
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags

from kd_jax.report import benchmark_tables, markdown, plots
from kd_jax.runtime import errors, files, run_records

Record = dict[str, Any]


def mean_sd(
  values: Sequence[float | None], digits: int, *, scale: float = 1.0
) -> str:
  """Formats a sample: mean ± standard deviation, the mean alone for one."""
  known = [scale * value for value in values if value is not None]
  if not known:
    return markdown.NONE
  text = f'{statistics.fmean(known):.{digits}f}'
  if len(known) > 1:
    text += f' ± {statistics.stdev(known):.{digits}f}'
  return text


def _test(students: Sequence[Record], metric: str) -> list[float | None]:
  return [student.get('test', {}).get(metric) for student in students]


def _paper(record: Record, row: str, field: str) -> float | None:
  return (record['config']['paper'].get(row) or {}).get(field)


def _format(value: float | None, digits: int) -> str:
  return markdown.NONE if value is None else f'{value:.{digits}f}'


def _evaluated_on(record: Record) -> str:
  held_out = record['config']['data'].get('holdout_examples', 0)
  if held_out:
    return f'{held_out:,} held-out training images'
  return 'the whole test split'


def accuracy_table(record: Record) -> str:
  """What each network learned, on what it was evaluated on."""
  networks = {'teacher': [record['teacher']], **run_records.by_row(record)}
  attacked, packed = (
    any(part in s for students in networks.values() for s in students)
    for part in ('robust', 'packed')
  )
  rows = []
  for name, students in networks.items():
    accuracies = _test(students, 'accuracy')
    paper = _paper(record, name, 'accuracy')
    ours = [100 * value for value in accuracies if value is not None]
    difference = (
      markdown.NONE
      if paper is None or not ours
      else f'{statistics.fmean(ours) - paper:+.2f}'
    )
    rows.append(
      (
        name,
        str(len(students)),
        mean_sd(accuracies, 2, scale=100),
        _format(paper, 2),
        difference,
        mean_sd(_test(students, 'errors'), 0),
        mean_sd(_test(students, 'nll'), 4),
        mean_sd(_test(students, 'ece'), 4),
        mean_sd(_test(students, 'brier'), 4),
        mean_sd(_test(students, 'teacher_agreement'), 2, scale=100),
        mean_sd(_test(students, 'teacher_kl'), 4),
        *(
          [mean_sd(_of(students, 'robust', 'accuracy'), 2, scale=100)]
          * attacked
        ),
        *(_packed_columns(students) * packed),
      )
    )
  headers = (
    'row',
    'seeds',
    'accuracy %',
    'paper %',
    'difference',
    'errors',
    'NLL',
    'ECE',
    'Brier',
    'agreement %',
    'KL to teacher',
    *(['attacked %'] * attacked),
    *(['stored as integers %', 'of float size %'] * packed),
  )
  return markdown.markdown(headers, rows)


def beside_paper_table(record: Record) -> str:
  """What the paper reports, accuracy and the ratio of inference, beside ours.

  Ratios are of the largest batch that was timed; a run that timed nothing has
  none.
  """
  timing = record.get('benchmark', {'networks': {}})
  largest = max(
    (int(size) for n in timing['networks'].values() for size in n['batches']),
    default=None,
  )
  ratio_headers = ()
  if largest is not None:
    ratio_headers = (f'teacher / student, batch {largest:,}', 'paper')
  lines = []
  for name, students in run_records.by_row(record).items():
    ratios = ()
    if largest is not None:
      network = timing['networks'][timing['network_of'][name]]
      ratios = (
        markdown.quartiles(network['batches'][str(largest)]['ratio'], 1),
        _format(_paper(record, name, 'inference_ratio'), 1),
      )
    lines.append(
      (
        name,
        str(len(students)),
        mean_sd(_test(students, 'accuracy'), 2, scale=100),
        _format(_paper(record, name, 'accuracy'), 2),
        *ratios,
      )
    )
  headers = ('row', 'seeds', 'accuracy %', 'paper %', *ratio_headers)
  return markdown.markdown(headers, lines)


def _of(
  students: Sequence[Record], part: str, field: str
) -> list[float | None]:
  return [student.get(part, {}).get(field) for student in students]


def _packed_columns(students: Sequence[Record]) -> list[str]:
  """Accuracy as stored for use, and the size on disk beside the floats'."""
  sizes = [
    student['packed']['bytes'] / student['bytes']
    if 'packed' in student
    else None
    for student in students
  ]
  return [
    mean_sd(_of(students, 'packed', 'accuracy'), 2, scale=100),
    mean_sd(sizes, 1, scale=100),
  ]


def methods_table(record: Record) -> str:
  """Rows that differ in what they learn from, the most accurate ones first.

  'than REFERENCE' is the difference in accuracy from the row that steps are
  timed against.
  """
  against = record['config']['benchmark']['steps_against']
  timing = record.get('benchmark') or {}
  steps = timing.get('steps_against', {})
  networks = run_records.by_row(record)
  mean = {
    name: 100 * statistics.fmean(_test(students, 'accuracy'))
    for name, students in networks.items()
  }
  lines = []
  for name in sorted(networks, key=mean.get, reverse=True):
    students = networks[name]
    lines.append(
      (
        name,
        str(len(students)),
        mean_sd(_test(students, 'accuracy'), 2, scale=100),
        f'{mean[name] - mean[against]:+.2f}'
        if against in mean
        else markdown.NONE,
        mean_sd(_test(students, 'nll'), 4),
        mean_sd(_test(students, 'ece'), 4),
        mean_sd(_test(students, 'teacher_agreement'), 2, scale=100),
        mean_sd(_of(students, 'robust', 'accuracy'), 2, scale=100),
        markdown.quartiles(steps.get(name, {}).get('ratio'), 2),
      )
    )
  headers = (
    'row',
    'seeds',
    'accuracy %',
    f'than {against}',
    'NLL',
    'ECE',
    'agreement %',
    'attacked %',
    f'step / that of {against}',
  )
  return markdown.markdown(headers, lines)


def _on_grid(record: Record) -> dict[str, dict[int, list[float]]]:
  """Accuracies of a grid's rows, METHOD_PERCENT, by method and percent."""
  found: dict[str, dict[int, list[float]]] = {}
  for row, students in run_records.by_row(record).items():
    name, _, percent = row.rpartition('_')
    found.setdefault(name, {})[int(percent)] = _test(students, 'accuracy')
  return found


def best_weights(record: Record) -> dict[str, int]:
  """Returns the weight of the highest accuracy for each method of a grid.

  In percent of the default weight; of equal ones, the nearest to that.
  """
  return {
    name: max(
      own,
      key=lambda percent, own=own: (
        statistics.fmean(own[percent]),
        -abs(math.log(percent / 100)),
      ),
    )
    for name, own in _on_grid(record).items()
  }


def grid_table(record: Record) -> str:
  """Accuracy (%) of each method at each part of its default weight."""
  found, best = _on_grid(record), best_weights(record)
  percents = sorted({percent for own in found.values() for percent in own})
  lines = []
  for name, own in found.items():
    cells = [mean_sd(own.get(part, []), 2, scale=100) for part in percents]
    chosen = percents.index(best[name])
    cells[chosen] = f'**{cells[chosen]}**'
    lines.append((name, *cells))
  headers = ('method', *(f'{part / 100:g} of the weight' for part in percents))
  return markdown.markdown(headers, lines)


def unseen_table(record: Record) -> str:
  """Errors of students that lack classes, with a bias on these and without.

  In parentheses: those on classes of which there was no example.
  """
  lines = []
  for name, students in run_records.by_row(record).items():
    seen = [count > 0 for count in students[0]['by_class']['trained_on']]
    unseen = [c for c, is_seen in enumerate(seen) if not is_seen]
    test_examples = students[0]['by_class']['examples']
    cells = [_errors([(s['test'], s['by_class']) for s in students], unseen)]
    for judge in ('labels', 'teacher'):
      own = [s['bias']['by'][judge] for s in students if 'bias' in s]
      cells += [
        mean_sd([value['bias'] for value in own], 2),
        _errors([(v['test'], v['by_class']) for v in own], unseen),
      ]
    lines.append(
      (
        name,
        str(len(students)),
        str(sum(students[0]['by_class']['trained_on'])),
        str(sum(test_examples[c] for c in unseen)),
        *cells,
        (record['config']['paper'].get(name) or {}).get('errors')
        or markdown.NONE,
      )
    )
  headers = (
    'row',
    'seeds',
    'training examples',
    'unseen of test',
    'errors (on unseen)',
    'bias by labels',
    'errors (on unseen)',
    'bias by teacher',
    'errors (on unseen)',
    'Hinton et al.',
  )
  return markdown.markdown(headers, lines)


def _errors(metrics: Sequence[tuple[Record, Record]], unseen) -> str:
  """Formats errors and, in parentheses, those on some classes."""
  if not metrics:
    return markdown.NONE
  text = mean_sd([test['errors'] for test, _ in metrics], 0)
  if not unseen:
    return text
  own = [sum(by['errors'][c] for c in unseen) for _, by in metrics]
  return f'{text} ({mean_sd(own, 0)})'


def cost_table(record: Record) -> str:
  """What each network costs: training, size, inference against the teacher."""
  timing = record.get('benchmark') or {}
  networks = timing.get('networks', {})
  network_of = {'teacher': 'teacher'} | timing.get('network_of', {})
  sizes = sorted(
    {int(size) for n in networks.values() for size in n['batches']}
  )
  has_teacher = timing.get('reference') == 'teacher'
  has_live = 'training' in timing
  cold = timing.get('cold_calls', {}) if has_teacher else {}
  rows = []
  for name, students in {
    'teacher': [record['teacher']],
    **run_records.by_row(record),
  }.items():
    network = networks.get(network_of.get(name), {})
    times = [student.get('time', {}) for student in students]
    # Ratios are the teacher's: a file of outputs has no time of its own.
    batches = network.get('batches', {}) if has_teacher else {}
    own_cold = cold.get(network_of.get(name), {})
    rows.append(
      (
        name,
        mean_sd([time.get('train_s') for time in times], 1),
        mean_sd([time.get('fold_loop_s') for time in times], 1),
        *([mean_sd(_live_train_s(record, name, students), 1)] * has_live),
        _format(_paper(record, name, 'train_s'), 1),
        f'{network["parameters"]:,}' if network else markdown.NONE,
        f'{network["macs"]:,}' if network else markdown.NONE,
        *(
          markdown.quartiles(batches.get(str(size), {}).get('ratio'), 1)
          for size in sizes
        ),
        markdown.quartiles(own_cold.get('first_call_ratio'), 1),
        markdown.quartiles(own_cold.get('second_call_ratio'), 1),
        _format(_paper(record, name, 'inference_ratio'), 1),
      )
    )
  headers = (
    'row',
    'training s',
    'of it fold loop s',
    *(['with a live teacher s'] * has_live),
    'paper s',
    'parameters',
    'MAC',
    *(f'ratio, batch {size:,}' for size in sizes),
    'ratio, cold call',
    'ratio, second call',
    'paper ratio',
  )
  return markdown.markdown(headers, rows)


def _live_train_s(
  record: Record, name: str, students: Sequence[Record]
) -> list[float | None]:
  """What each training would have taken with the teacher in every step.

  Its own time, and for each of its steps what the teacher adds to one.
  """
  timing = record.get('benchmark') or {}
  network = timing.get('network_of', {}).get(name)
  steps = timing.get('training', {}).get(network)
  if steps is None:
    return [None]
  added_s = steps['live_step_s']['median'] - steps['stored_step_s']['median']
  return [
    student['time']['train_s'] + added_s * student['steps']
    for student in students
  ]


def latency_table(record: Record) -> str:
  """Milliseconds of a forward pass, compiled and warm."""
  networks = (record.get('benchmark') or {}).get('networks', {})
  rows = []
  for name, network in networks.items():
    for size, batch in network['batches'].items():
      call = {
        key: value * 1e3 if key != 'n' else value
        for key, value in batch['call_s'].items()
      }
      rate = network['macs'] * int(size) / batch['call_s']['median'] / 1e9
      rows.append(
        (
          name,
          f'{int(size):,}',
          markdown.quartiles(call, 3),
          str(call['n']),
          f'{rate:.1f}',
          f'{batch["compile_s"]:.2f}',
        )
      )
  headers = ('network', 'batch', 'ms a call', 'n', 'GMAC/s', 'compile s')
  return markdown.markdown(headers, rows)


def fits_table(record: Record) -> str:
  """Test accuracy after each fit of a training, beside the paper's."""
  rows = run_records.by_row(record)
  fits = list(
    dict.fromkeys(
      fit
      for students in rows.values()
      for student in students
      for fit in student['test_accuracy_after']
    )
  )
  lines = []
  for name, students in rows.items():
    after = [student['test_accuracy_after'] for student in students]
    accuracies = (
      mean_sd([own.get(fit) for own in after], 2, scale=100) for fit in fits
    )
    paper = _format(_paper(record, name, 'accuracy'), 2)
    lines.append((name, *accuracies, paper))
  return markdown.markdown(
    ('row', *(f'after {fit}' for fit in fits), 'paper %'), lines
  )


def convolutions_table(record: Record) -> str:
  """Milliseconds of each form of each convolution; the chosen ones marked."""
  lines = []
  for name, shape in record['shapes'].items():
    for what, forms in shape['seconds'].items():
      cells = []
      for form, seconds in sorted(
        forms.items(), key=lambda item: item[1]['median']
      ):
        mark = '**' if form == shape['chosen'][what] else ''
        cells.append(f'{mark}{form} {1e3 * seconds["median"]:.1f}{mark}')
      best = min(seconds['median'] for seconds in forms.values())
      lines.append(
        (name, what, ', '.join(cells), f'{shape["gflop"] / best:.0f}')
      )
  headers = ('convolution', 'what', 'ms', 'GFLOP/s of the fastest')
  return markdown.markdown(headers, lines)


def teachers_table(results: dict[str, Record]) -> str:
  """Each run's teacher, and the student that every run has."""
  lines = []
  for name, record in results.items():
    students = run_records.by_row(record).get('h300')
    if not students:
      continue
    spec = record['config']['teacher']
    lines.append(
      (
        name,
        f'{spec["model"]["dropout_rate"]:g}',
        str(spec['seed']),
        mean_sd(_test([record['teacher']], 'accuracy'), 2, scale=100),
        mean_sd(_test(students, 'accuracy'), 2, scale=100),
      )
    )
  headers = ('run', 'dropout', 'teacher seed', 'teacher %', 'h300 %')
  return markdown.markdown(headers, lines)


def shipped_table(manifest: Record) -> str:
  """How good a teacher's outputs are, by the scaling of its inputs."""
  lines = []
  for scaling, splits in manifest['accuracy'].items():
    for split, metrics in splits.items():
      lines.append(
        (
          scaling,
          split,
          f'{100 * metrics["accuracy"]:.2f}',
          str(metrics['errors']),
          *(f'{metrics[key]:.4f}' for key in ('nll', 'ece', 'brier')),
        )
      )
  headers = ('scaling', 'split', 'accuracy %', 'errors', 'NLL', 'ECE', 'Brier')
  return markdown.markdown(headers, lines)


def cifar_table(results: dict[str, Record]) -> str:
  """Every row of every CIFAR-10 run: what Table 2 may have meant, in turn."""
  lines = []
  for name, record in of_table2(results).items():
    timing = record.get('benchmark') or {}
    for row, students in run_records.by_row(record).items():
      network_of = timing.get('network_of', {})
      network = timing.get('networks', {}).get(network_of.get(row), {})
      paper = _paper(record, row, 'accuracy')
      ours = statistics.fmean(_test(students, 'accuracy')) * 100
      last = [
        accuracy
        for student in students
        for accuracy in student.get('test_accuracy_by_epoch', [])[-5:]
      ]
      times = [student['time']['train_s'] for student in students]
      lines.append(
        (
          name.removeprefix('cifar-'),
          row,
          str(len(students)),
          mean_sd(_test(students, 'accuracy'), 2, scale=100),
          mean_sd(last, 2, scale=100),
          _format(paper, 1),
          markdown.NONE if paper is None else f'{ours - paper:+.1f}',
          mean_sd(times, 0),
          *(
            markdown.quartiles(
              network.get('batches', {}).get(size, {}).get('ratio'), 1
            )
            for size in ('1', '100')
          ),
          _format(_paper(record, row, 'inference_ratio'), 1),
        )
      )
  headers = (
    'run',
    'row',
    'seeds',
    'accuracy %',
    'last 5 epochs %',
    'paper %',
    'difference',
    'training s',
    'ratio, batch 1',
    'ratio, batch 100',
    'paper ratio',
  )
  return markdown.markdown(headers, lines)


def of_table2(results: dict[str, Record]) -> dict[str, Record]:
  """Returns the runs on CIFAR-10 that the paper has figures for."""
  return {
    run: record
    for run, record in results.items()
    if record.get('students')
    and record['config']['data']['name'] == 'cifar10'
    and record['config']['paper']
  }


def results_tables(record: Record) -> str:
  """All tables of an experiment of theory.py, each under its title."""
  parts = []
  for title, own in record['results']['tables'].items():
    lines = [
      [
        markdown.NONE
        if cell is None
        else cell
        if isinstance(cell, str)
        else f'{cell:.4g}'
        for cell in row
      ]
      for row in own['rows']
    ]
    parts += [f'{title}:', markdown.markdown(own['columns'], lines)]
  return '\n\n'.join(parts)


# Tables of one run, and of all runs together, by the name a README asks with.
TABLES: dict[str, Callable[[Record], str]] = {
  'accuracy': accuracy_table,
  'beside_paper': beside_paper_table,
  'cost': cost_table,
  'latency': latency_table,
  'fits': fits_table,
  'methods': methods_table,
  'grid': grid_table,
  'unseen': unseen_table,
  'convolutions': convolutions_table,
  'shipped': shipped_table,
  'results': results_tables,
  **benchmark_tables.TABLES,
}
TABLES_OF_ALL: dict[str, Callable[[dict[str, Record]], str]] = {
  'teachers': teachers_table,
  'cifar': cifar_table,
  **benchmark_tables.TABLES_OF_ALL,
}


def provenance(record: Record) -> str:
  """Returns a line that says where a run's numbers come from.

  What was trained, or timed, by other code than the run's is named.
  """
  environment = record.get('environment') or record['training']['environment']
  versions = ', '.join(f'{k} {v}' for k, v in environment['versions'].items())
  workers = max(
    (
      student.get('environment', {}).get('workers', 1)
      for student in record.get('students', [])
    ),
    default=1,
  )
  code = lambda own: f'code {own["code"] or "unknown"}'
  others: dict[str, dict[str, None]] = {}
  for student in record.get('students', []):
    own = student.get('environment', environment)
    if own['code'] != environment['code']:
      others.setdefault(code(own), {})[student['row']] = None
  timed = (record.get('benchmark') or {}).get('environment', environment)
  if timed['code'] != environment['code']:
    others.setdefault(code(timed), {})[f'timings of {timed["time"]}'] = None
  processor = environment['processor']
  if environment.get('instructions'):  # Older records have none.
    processor += f' with {environment["instructions"]}'
  name = lambda of: ', '.join(of) if len(of) <= 8 else f'{len(of)} rows'
  of_others = ''.join(f'; {own}: {name(of)}' for own, of in others.items())
  side_by_side = f', {workers} students side by side' if workers > 1 else ''
  return (
    f'`{record["command"]}`; {environment["device"]} '
    f'({processor}, {environment["cores"]} cores{side_by_side}'
    '), Python '
    f'{environment["python"]}, {versions}; {code(environment)}; '
    f'{environment["time"]}{of_others}.'
  )


def render(record: Record) -> str:
  """Returns the whole report of a run."""
  head = [f'# {record["name"]}', provenance(record)]
  if 'results' in record:
    time_note = f'Computed in {record["seconds"]:.1f} s.'
    return '\n\n'.join([*head, results_tables(record), time_note]) + '\n'
  if not record['students']:  # A teacher alone.
    time_s = record['teacher']['time']['train_s']
    return '\n\n'.join(
      [*head, accuracy_table(record), f'Trained in {time_s:,.0f} s.\n']
    )
  parts = [
    *head,
    '## Accuracy',
    f'Mean ± standard deviation over seeds, on {_evaluated_on(record)}. Paper: '
    'its figure for the row. Agreement and KL are with the teacher.',
    accuracy_table(record),
    *_same_note(record),
    'Accuracy after each fit (%), which shows what the last one adds:',
    fits_table(record),
    '## Cost',
    'Ratios are teacher time / network time: median (quartiles) over '
    "interleaved rounds of compiled, warm calls. Cold call: the paper's own "
    'way, a first eager call each on 10,000 images in a fresh process; second '
    'call: once more, with every operation compiled.',
    cost_table(record),
    *_live_note(record),
    '## Latency',
    latency_table(record),
  ]
  return '\n\n'.join(parts) + '\n'


def summary(record: Record) -> str:
  """Returns what is printed at the end of a run."""
  if 'results' in record:
    return results_tables(record)
  return f'{accuracy_table(record)}\n{cost_table(record)}'


def _same_note(record: Record) -> list[str]:
  """Says which rows are one training, if any are."""
  same: dict[str, list[str]] = {}
  for row, students in run_records.by_row(record).items():
    if 'same_as' in students[0]:
      same.setdefault(students[0]['same_as'], []).append(row)
  return [
    f'The same network and training as {first}, done once: {", ".join(rows)}.'
    for first, rows in same.items()
  ]


def _live_note(record: Record) -> list[str]:
  """Says where the column for a live teacher comes from, if there is one."""
  training = (record.get('benchmark') or {}).get('training')
  if training is None:
    return []
  lines = [
    (
      name,
      *(
        markdown.quartiles({k: v * 1e3 for k, v in steps[which].items()}, 1)
        for which in ('stored_step_s', 'live_step_s')
      ),
      str(steps['live_step_s']['n']),
    )
    for name, steps in training.items()
  ]
  headers = ('network', 'ms a step, stored', 'ms a step, live', 'n')
  return [
    'With a live teacher: the measured training, and for each of its steps '
    'what a call of the teacher adds to one, timed in turn with steps on '
    'stored outputs:',
    markdown.markdown(headers, lines),
  ]


def write(folder: os.PathLike) -> str:
  """Writes report.md and the plots of a run's folder; returns the report."""
  folder = pathlib.Path(folder)
  record = files.read_json(folder / 'run.json')
  if record is None:
    raise errors.UserError(f'{folder} holds no sound run.json')
  if 'results' in record:
    names = plots.write_curves(folder, record)
  else:
    names = plots.write(
      folder, record, run_records.MetricsLog(folder / 'metrics.jsonl').read()
    )
  text = render(record) + ''.join(
    f'\n![{name}]({name}.png)\n' for name in names
  )
  files.write_text(folder / 'report.md', text)
  return text


_MARKER = re.compile(
  r'(<!-- table: (\S+) (\S+) -->\n).*?(<!-- end of table -->)', re.DOTALL
)


def fill_tables(text: str, results: dict[str, Record]) -> str:
  """Returns a text with the tables it asks for.

  Raises:
    UserError: if it asks for a run or a kind of table that is not there.
  """

  def fill(match: re.Match) -> str:
    start, name, kind, end = match.groups()
    if name == 'all' and kind in TABLES_OF_ALL:
      return f'{start}{TABLES_OF_ALL[kind](results)}\n{end}'
    if name not in results or kind not in TABLES:
      raise errors.UserError(
        f'there is no table {name} {kind}; the runs are: '
        f'{", ".join(results)}; the kinds are: {", ".join(TABLES)}'
      )
    record = results[name]
    return f'{start}{TABLES[kind](record)}\n\n{provenance(record)}\n{end}'

  return _MARKER.sub(fill, text)


def load_results(root: pathlib.Path) -> dict[str, Record]:
  """Returns the records in results/, and of the teachers that are shipped.

  Args:
    root: the folder that holds results/ and teachers/.
  Raises:
    UserError: if there are none, or one is damaged.
  """
  results = {
    path.stem: files.read_json(path)
    for path in sorted((root / 'results').glob('*.json'))
  }
  for path in sorted((root / 'teachers').glob('*/manifest.json')):
    results[path.parent.name] = files.read_json(path)
  if not results or None in results.values():
    damaged = [name for name, record in results.items() if record is None]
    raise errors.UserError(
      f'{root} holds no results, or damaged ones: {damaged}'
    )
  return results


# The table of a benchmark's record, by a field that it has.
_BENCHMARKS = {
  'shapes': convolutions_table,
  'cases': benchmark_tables.rates_table,
  'start_up': benchmark_tables.start_up_table,
  'loading': benchmark_tables.loading_table,
  'growth': benchmark_tables.growth_table,
  'side_by_side': benchmark_tables.side_by_side_table,
  'latency': benchmark_tables.serving_table,
  'places': benchmark_tables.large_data_table,
  'faults': benchmark_tables.faults_table,
}


def publish(results_dir: pathlib.Path, readme: pathlib.Path) -> None:
  """Writes a report beside each result, and the tables of all documents."""
  results = load_results(results_dir.resolve().parent)
  for name, record in results.items():
    if 'students' in record or 'results' in record:
      files.write_text(results_dir / f'{name}.md', render(record))
    else:
      for field, table in _BENCHMARKS.items():
        if field in record:
          parts = (f'# {name}', provenance(record), table(record))
          files.write_text(
            results_dir / f'{name}.md', '\n\n'.join(parts) + '\n'
          )
  for name, record in results.items():
    if 'results' in record:
      plots.write_curves(results_dir, record, prefix=f'{name}-')
    elif 'students' in record:
      plots.write_published(results_dir, record, prefix=f'{name}-')
  plots.write_cifar(results_dir, of_table2(results))
  plots.write_benchmarks(results_dir, results)
  for path in documents(results_dir, readme, results):
    text = path.read_text(encoding='utf-8')
    files.write_text(path, fill_tables(text, results))


def documents(
  results_dir: pathlib.Path, readme: pathlib.Path, results: dict[str, Record]
) -> list[pathlib.Path]:
  """Returns the README and what else is written by hand, about the results."""
  own = sorted(results_dir.glob('*.md'))
  return [readme, *(path for path in own if path.stem not in results)]


_ADD = flags.DEFINE_multi_string(
  'add', [], 'A run folder whose run.json is copied into the results first.'
)


def main(argv: Sequence[str]) -> None:
  """The command line; see the module's docstring."""
  if len(argv) != 2:
    raise app.UsageError('expected one folder: of a run, or of results')
  folder = pathlib.Path(argv[1])
  if (folder / 'run.json').exists():
    write(folder)
    return
  for run_dir in _ADD.value:
    record = files.read_json(pathlib.Path(run_dir) / 'run.json')
    if record is None or record['status'] != 'complete':
      raise app.UsageError(f'{run_dir} holds no complete run')
    name = pathlib.Path(run_dir).resolve().name
    files.write_json(folder / f'{name}.json', record)
  publish(folder, folder.resolve().parent / 'README.md')
