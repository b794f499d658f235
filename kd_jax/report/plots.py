"""The plots of a run, as PNG files."""

import contextlib
import json
import os
import pathlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kd_jax.report import benchmark_tables
from kd_jax.runtime import run_records

Record = dict[str, Any]


# Bins of the reliability diagram with fewer examples say nothing.
_MIN_BIN = 20
_MIN_POINTS = 4  # Of a line: fewer are told by a table.


def _color(index: int):
  import matplotlib

  return matplotlib.colormaps['tab20'](index % 20)


def _accuracy_against(
  axes, record: Record, x_of: Callable[[Record], float], paper_x: str | None
) -> None:
  """Draws accuracy (mean, standard deviation) against x, and the paper's."""
  for i, (name, students) in enumerate(run_records.by_row(record).items()):
    accuracies = [100 * s['test']['accuracy'] for s in students]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0
    x = statistics.fmean(x_of(student) for student in students)
    axes.errorbar(
      x,
      statistics.fmean(accuracies),
      spread,
      color=_color(i),
      fmt='o',
      capsize=3,
      label=name,
    )
    paper = record['config']['paper'].get(name)
    if paper and (paper_x is None or paper_x in paper):
      axes.plot(
        paper[paper_x] if paper_x else x,
        paper['accuracy'],
        marker='x',
        color=_color(i),
      )
  teacher = record['teacher'].get('test')
  if teacher:
    axes.axhline(100 * teacher['accuracy'], color='gray', linestyle='--')
  axes.set_xscale('log')
  axes.set_ylabel('test accuracy, %')
  axes.set_title('dots: ours; crosses: the paper; dashes: our teacher')
  axes.legend(fontsize='small', ncols=2)
  axes.grid(alpha=0.3)


def accuracy_size(axes, record: Record, epochs: Sequence[Record]) -> None:
  """Accuracy against the number of parameters."""
  del epochs
  _accuracy_against(axes, record, lambda student: student['parameters'], None)
  axes.set_xlabel('parameters')


def accuracy_time(axes, record: Record, epochs: Sequence[Record]) -> None:
  """Accuracy against training time: the fold loop's, as in the paper."""
  del epochs
  seconds = lambda time: time['fold_loop_s'] or time['train_s']
  _accuracy_against(
    axes, record, lambda student: seconds(student['time']), 'train_s'
  )
  axes.set_xlabel("training time, s (the fold loop's, where there is one)")


def accuracy_inference(axes, record: Record, epochs: Sequence[Record]) -> None:
  """Accuracy against the ratio of inference times, at the largest batch."""
  del epochs
  timing = record['benchmark']
  size = _largest_batch(timing)

  def ratio(student: Record) -> float:
    network = timing['network_of'][student['row']]
    return timing['networks'][network]['batches'][size]['ratio']['median']

  _accuracy_against(axes, record, ratio, 'inference_ratio')
  axes.set_xlabel(f'inference time, teacher / student, batches of {size}')


def _largest_batch(timing: Record) -> str:
  networks = timing['networks'].values()
  return max((size for n in networks for size in n['batches']), key=int)


def accuracy_examples(axes, record: Record, epochs: Sequence[Record]) -> None:
  """Accuracy against the number of training examples, with KD and without."""
  del epochs
  lines: dict[str, list[tuple[float, list[float]]]] = {}
  for name, students in run_records.by_row(record).items():
    kd_weight = _field(record, name, 'distill', 'kd_weight')
    lines.setdefault('with KD' if kd_weight else 'labels alone', []).append(
      (
        _num_examples(record, name, students[0]),
        [100 * s['test']['accuracy'] for s in students],
      )
    )
  _draw_lines(axes, lines)
  axes.set_xscale('log')
  axes.set_xlabel('training examples')


def _field(record: Record, row: str, section: str, field: str) -> Any:
  """A field of a row: its own, or else the table's."""
  config = record['config']
  own = config.get('rows', {}).get(row, {}).get(section, {}).get(field)
  return config.get(section, {}).get(field) if own is None else own


def _num_examples(record: Record, row: str, student: Record) -> int | None:
  """Of an epoch; None where the record does not say."""
  batch_size = _field(record, row, 'train', 'batch_size')
  if batch_size is None or not {'epochs', 'steps'} <= student.keys():
    return None
  return student['steps'] // student['epochs'] * batch_size


def accuracy_rows(axes, record: Record, epochs: Sequence[Record]) -> None:
  """Accuracy of each row, the most accurate one on top."""
  del epochs
  accuracies = {
    name: [100 * s['test']['accuracy'] for s in students]
    for name, students in run_records.by_row(record).items()
  }
  mean = {name: statistics.fmean(own) for name, own in accuracies.items()}
  order = sorted(mean, key=mean.get)
  against = record['config']['benchmark']['steps_against']
  for y, name in enumerate(order):
    own = accuracies[name]
    axes.errorbar(
      mean[name],
      y,
      xerr=statistics.stdev(own) if len(own) > 1 else 0,
      color='C1' if name == against else 'C0',
      fmt='o',
      capsize=3,
    )
  axes.axvline(mean[against], color='C1', linestyle='--')
  axes.set_yticks(range(len(order)), order, fontsize='x-small')
  axes.set_xlabel('test accuracy, %')
  axes.grid(alpha=0.3)


def _lines(
  record: Record, x_of: Callable[[Record], float], varying: Sequence[str]
) -> dict[str, list[tuple[float, list[float]]]]:
  """Returns rows that differ in some fields alone, as lines of a plot.

  Args:
    record: of a run.
    x_of: from the 'distill' section of a row to x.
    varying: the fields of that section in which rows of a line may differ.
  Returns:
    By what the names of a line's rows begin with: x and accuracies (%) of its
    rows, by rising x; of lines with at least `_MIN_POINTS` of them.
  """
  found: dict[str, dict[str, tuple[float, list[float]]]] = {}
  for name, students in run_records.by_row(record).items():
    own = record['config'].get('rows', {}).get(name, {})
    shared = record['config'].get('distill', {})
    distill = shared | {
      key: value
      for key, value in own.get('distill', {}).items()
      if value is not None
    }
    if not all(field in distill for field in varying):
      continue
    others = {k: v for k, v in distill.items() if k not in varying}
    line = json.dumps([own | {'distill': None}, others], sort_keys=True)
    accuracies = [100 * s['test']['accuracy'] for s in students]
    found.setdefault(line, {})[name] = (x_of(distill), accuracies)
  return {
    os.path.commonprefix([*points]).rstrip('_'): sorted(points.values())
    for points in found.values()
    if len({x for x, _ in points.values()}) >= _MIN_POINTS
  }


def _draw_lines(axes, lines) -> None:
  for i, (label, points) in enumerate(lines.items()):
    axes.errorbar(
      [x for x, _ in points],
      [statistics.fmean(values) for _, values in points],
      [statistics.stdev(v) if len(v) > 1 else 0 for _, v in points],
      fmt='o-',
      capsize=3,
      color=_color(2 * i),
      label=label,
    )
  axes.set_ylabel('accuracy, %')
  if any(lines):  # A single line may have no name.
    axes.legend()
  axes.grid(alpha=0.3)


def _of_kd_share(record: Record):
  return _lines(
    record,
    lambda d: d['kd_weight'] / (d['kd_weight'] + d['ce_weight']),
    ('kd_weight', 'ce_weight'),
  )


def _of_temperature(record: Record):
  return _lines(record, lambda d: d['temperature'], ('temperature',))


def accuracy_kd_share(axes, record: Record, epochs: Sequence[Record]) -> None:
  """Accuracy against the share of the KD term, other things being equal."""
  del epochs
  _draw_lines(axes, _of_kd_share(record))
  axes.set_xlabel('weight of the KD term / weight of both terms')


def accuracy_temperature(
  axes, record: Record, epochs: Sequence[Record]
) -> None:
  """Accuracy against the temperature, other things being equal."""
  del epochs
  _draw_lines(axes, _of_temperature(record))
  axes.set_xscale('log')
  axes.set_xlabel('temperature of distillation')


def errors_bias(axes, record: Record, epochs: Sequence[Record]) -> None:
  """Errors of students that lack classes, with a bias on these and without."""
  del epochs
  rows = {
    name: students
    for name, students in run_records.by_row(record).items()
    if 'bias' in students[0]
  }
  bars = {
    'as trained': lambda s: s['test']['errors'],
    'bias chosen by labels': lambda s: s['bias']['by']['labels'],
    'bias chosen by the teacher': lambda s: s['bias']['by']['teacher'],
  }
  for i, (label, of) in enumerate(bars.items()):
    values = [
      [v if i == 0 else v['test']['errors'] for v in map(of, students)]
      for students in rows.values()
    ]
    axes.bar(
      [x + 0.25 * (i - 1) for x in range(len(rows))],
      [statistics.fmean(own) for own in values],
      0.25,
      yerr=[statistics.stdev(v) if len(v) > 1 else 0 for v in values],
      capsize=3,
      color=_color(2 * i),
      label=label,
    )
  axes.set_xticks(range(len(rows)), rows)
  axes.set_yscale('log')
  axes.set_ylabel('test errors')
  axes.legend()
  axes.grid(axis='y', alpha=0.3)


def learning_curves(axes, record: Record, epochs: Sequence[Record]) -> None:
  """Test accuracy after each epoch, each seed a line."""
  networks = run_records.by_row(record) or {'teacher': [record['teacher']]}
  for i, (name, students) in enumerate(networks.items()):
    for student in students:
      curve = [
        (epoch['epoch'] + 1, 100 * epoch['eval/accuracy'])
        for epoch in epochs
        if (epoch['row'], epoch['seed']) == (name, student['seed'])
      ]
      if curve:
        axes.plot(
          *zip(*curve, strict=True),
          color=_color(i),
          alpha=0.8,
          label=name if student is students[0] else None,
        )
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set_xlabel('epoch (those of the fold loop included)')
  axes.set_ylabel('test accuracy, %')
  axes.legend(fontsize='small', ncols=2)
  axes.grid(alpha=0.3)


def reliability(axes, record: Record, epochs: Sequence[Record]) -> None:
  """Accuracy against confidence, the first seed of each row."""
  del epochs
  first = {
    name: students[0] for name, students in run_records.by_row(record).items()
  }
  networks = {'teacher': record['teacher']} | first
  axes.plot((0, 1), (0, 1), color='gray', linestyle='--')
  for i, (name, network) in enumerate(networks.items()):
    bins = network.get('reliability')
    if bins is None:
      continue
    points = [
      (confidence, accuracy)
      for confidence, accuracy, count in zip(
        bins['confidence'], bins['accuracy'], bins['count'], strict=True
      )
      if count >= _MIN_BIN
    ]
    axes.plot(
      [confidence for confidence, _ in points],
      [accuracy for _, accuracy in points],
      marker='.',
      color=_color(i),
      label=name,
    )
  axes.set_title(f'first seed of each row; bins of {_MIN_BIN} examples or more')
  axes.set_xlabel('confidence')
  axes.set_ylabel('accuracy')
  axes.legend(fontsize='small', ncols=2)
  axes.grid(alpha=0.3)


PLOTS = {
  'accuracy_size': accuracy_size,
  'accuracy_time': accuracy_time,
  'accuracy_inference': accuracy_inference,
  'accuracy_examples': accuracy_examples,
  'accuracy_rows': accuracy_rows,
  'accuracy_kd_share': accuracy_kd_share,
  'accuracy_temperature': accuracy_temperature,
  'errors_bias': errors_bias,
  'learning_curves': learning_curves,
  'reliability': reliability,
}


def names(record: Record) -> list[str]:
  """Returns the plots that a run has something to show in."""
  left_out = set()
  rows = run_records.by_row(record)
  if not rows:
    left_out |= {'accuracy_size', 'accuracy_time'}
  if not rows or (record.get('benchmark') or {}).get('reference') != 'teacher':
    left_out.add('accuracy_inference')
  if not _has_reference(record):
    left_out.add('accuracy_rows')
  if not _of_kd_share(record):
    left_out.add('accuracy_kd_share')
  if not _of_temperature(record):
    left_out.add('accuracy_temperature')
  if not any('bias' in students[0] for students in rows.values()):
    left_out.add('errors_bias')
  sizes = {_num_examples(record, row, s[0]) for row, s in rows.items()}
  if len(sizes) < _MIN_POINTS or None in sizes:
    left_out.add('accuracy_examples')
  return [name for name in PLOTS if name not in left_out]


def write(
  folder: os.PathLike, record: Record, epochs: Sequence[Record]
) -> list[str]:
  """Writes the plots of a run into its folder; returns their names.

  Args:
    folder: of the run.
    record: the content of its run.json.
    epochs: the records of its metrics.jsonl.
  """
  drawn = names(record)
  for name in drawn:
    path = pathlib.Path(folder) / f'{name}.png'
    with _figure(path) as axes:
      PLOTS[name](axes, record, epochs)
  return drawn


def _has_reference(record: Record) -> bool:
  """Whether one of a run's rows is what the others are held against."""
  against = record['config'].get('benchmark', {}).get('steps_against')
  return against in run_records.by_row(record)


# What documents show beside the tables of a run.
_PUBLISHED = (
  'accuracy_examples',
  'accuracy_rows',
  'accuracy_kd_share',
  'accuracy_temperature',
  'errors_bias',
)


def write_published(folder: os.PathLike, record: Record, prefix: str) -> None:
  """Writes the plots of a run that documents show."""
  for name in set(_PUBLISHED) & set(names(record)):
    with _figure(pathlib.Path(folder) / f'{prefix}{name}.png') as axes:
      PLOTS[name](axes, record, ())


def write_curves(
  folder: os.PathLike, record: Record, prefix: str = ''
) -> list[str]:
  """Writes the curves of an experiment of theory.py; returns their names.

  Args:
    folder: for the files.
    record: the content of a run.json with 'results'.
    prefix: of the names.
  """
  names = []
  for name, own in record['results']['curves'].items():
    names.append(f'{prefix}{name}')
    with _figure(pathlib.Path(folder) / f'{names[-1]}.png') as axes:
      for i, (label, line) in enumerate(own['lines'].items()):
        axes.errorbar(
          line['x'],
          line['y'],
          line['error'],
          fmt='o' if line['points'] else '-',
          capsize=3,
          color=_color(i),
          label=label,
        )
      axes.set_xscale('log')
      axes.set_yscale('log')
      axes.set_title(own['title'])
      axes.set_xlabel(own['x_label'])
      axes.set_ylabel(own['y_label'])
      axes.legend()
      axes.grid(alpha=0.3)
  return names


def write_cifar(folder: os.PathLike, results: dict[str, Record]) -> None:
  """Writes table2.png: accuracy against inference time, of all CIFAR-10 runs.

  The time is that of a student's network, beside the paper's teacher, from the
  first run that timed both on a CPU: runs on a GPU, or of another teacher, have
  it of those.

  Args:
    folder: for the file.
    results: the records of runs by name; without a timed one, nothing is
      written.
  """
  ratios: dict[str, dict[str, float]] = {}
  for record in results.values():
    timing = record.get('benchmark') or {}
    is_papers = (
      record['config']['teacher']['model'].get('block') == 'bottleneck'
    )
    if is_papers and record['environment']['device'] == 'cpu':
      for row, network in timing.get('network_of', {}).items():
        batches = timing['networks'][network]['batches']
        ratio = batches[_largest_batch(timing)]['ratio']
        ratios.setdefault(_network(record, row), ratio)
  if not ratios:
    return
  with _figure(pathlib.Path(folder) / 'table2.png') as axes:
    paper = {}
    for i, (name, record) in enumerate(results.items()):
      points = []
      for row, students in run_records.by_row(record).items():
        ratio = ratios.get(_network(record, row))
        if ratio is None:
          continue
        accuracies = [100 * s['test']['accuracy'] for s in students]
        sd = statistics.stdev(accuracies) if len(accuracies) > 1 else 0
        points.append((ratio, statistics.fmean(accuracies), sd))
        if own := record['config']['paper'].get(row):
          paper[own['inference_ratio']] = own['accuracy']
      if not points:
        continue
      found, means, deviations = zip(*points, strict=True)
      axes.errorbar(
        [ratio['median'] for ratio in found],
        means,
        deviations,
        [
          [ratio['median'] - ratio['lower'] for ratio in found],
          [ratio['upper'] - ratio['median'] for ratio in found],
        ],
        fmt='o',
        capsize=2,
        color=_color(i),
        label=name.removeprefix('cifar-'),
      )
    axes.plot([*paper], [*paper.values()], 'kx', label='the paper, of a GPU')
    axes.set_xscale('log')
    axes.set_xlabel('inference time, ResNet-50 / student, at the largest batch')
    axes.set_ylabel('test accuracy, %')
    axes.legend(fontsize='x-small')
    axes.grid(alpha=0.3)


def _network(record: Record, row: str) -> str:
  """Returns what two rows share whose students are one network."""
  config = record['config']
  own = (config.get('rows') or {}).get(row) or {}
  model = config['student'] | {
    key: value
    for key, value in (own.get('student') or {}).items()
    if value is not None
  }
  # As `build.network` has it; how they start, and in what they train, aside.
  least = model.get('min_blocks') or 0
  model['blocks'] = [max(count, least) for count in model.get('blocks') or ()]
  apart = ('min_blocks', 'zero_init', 'dtype')
  kept = {key: v for key, v in model.items() if key not in apart}
  # Records of before there was a choice.
  return json.dumps({'arithmetic': 'float'} | kept, sort_keys=True)


@contextlib.contextmanager
def _figure(path: pathlib.Path) -> Iterator[Any]:
  """Gives axes, and writes what was drawn on them as a file."""
  # Here, as a run draws at its end: it is not to start a second later for it.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(8, 5), layout='constrained')
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  yield axes
  for axis in (axes.xaxis, axes.yaxis):
    if axis.get_scale() == 'log':
      _use_plain_numbers(axis)
  temporary = path.with_name(f'.{path.name}')
  figure.savefig(temporary, dpi=120, format='png')
  os.replace(temporary, path)


def _use_plain_numbers(axis) -> None:
  """Puts 1, 2, 5, 10, ... at a logarithmic axis, in the place of powers."""
  from matplotlib import ticker

  axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f'{x:,.10g}'))
  axis.set_minor_locator(ticker.NullLocator())


def write_benchmarks(folder: pathlib.Path, results: dict[str, Record]) -> None:
  """Writes the plots of benchmarks/, of those that there are."""
  for machine in benchmark_tables.MACHINES:
    if any(name.startswith(f'bench-{machine}-inference-') for name in results):
      with _figure(folder / f'bench-{machine}-roofline.png') as axes:
        benchmark_tables.draw_roofline(axes, results, machine)
    growth = results.get(f'bench-{machine}-growth')
    if growth is not None:
      with _figure(folder / f'bench-{machine}-growth.png') as axes:
        benchmark_tables.draw_growth(axes, growth)
