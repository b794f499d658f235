"""Dot plots with a line for each row of a run: accuracy, cost, errors."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kd_jax.report import fields, figures, study_tables
from kd_jax.report.fields import Record
from kd_jax.report.figures import Axes
from kd_jax.runtime import run_records

# A table shows a run of more rows better.
MAX_ROWS = 40
_SPREAD = 'mean ± sd over seeds'


class Panel(NamedTuple):
  """One panel of a dot plot.

  Attributes:
    label: the axis label, with the unit.
    values: the values of each row, one for each seed.
    paper: the paper's value of each row that has one.
    teacher: the teacher's value; None for no line.
    is_log: whether the axis is logarithmic.
  """

  label: str
  values: Mapping[str, Sequence[float]]
  paper: Mapping[str, float]
  teacher: float | None
  is_log: bool


def inches(record: Record) -> tuple[float, float]:
  """Returns the size of a dot plot with a line for each row of a run."""
  return 8, 1.6 + 0.22 * max(len(run_records.by_row(record)), 4)


def seeds_text(samples: Sequence[Sequence[Any]]) -> str:
  """Returns the number of values of samples: 'n = 5', or 'n = 1 to 3'."""
  counts = sorted({len(sample) for sample in samples})
  ends = f'{counts[0]} to {counts[-1]}' if len(counts) > 1 else f'{counts[0]}'
  return f'n = {ends}'


def accuracy_label(samples: Sequence[Sequence[Any]]) -> str:
  """Returns an axis label that defines the bars and says how many seeds."""
  n = seeds_text(samples)
  about = 'one seed' if n == 'n = 1' else f'{_SPREAD}, {n}'
  return f'test accuracy, % ({about})'


def has_few_rows(record: Record) -> bool:
  """Returns whether a run has rows, and few enough for a dot plot."""
  return 0 < len(run_records.by_row(record)) <= MAX_ROWS


def draw_cost(figure: Any, record: Record) -> None:
  """Draws the accuracy, size, training time and speed of each row.

  Args:
    figure: a matplotlib figure.
    record: the run.
  """
  rows = run_records.by_row(record)
  panels = _panels(record)
  order = sorted(
    rows,
    key=lambda row: (
      rows[row][0]['parameters'],
      statistics.fmean(fields.accuracies(rows[row])),
    ),
  )
  widths = [1.5] + [1] * (len(panels) - 1)
  grid = figure.subplots(
    1, len(panels), sharey=True, squeeze=False, width_ratios=widths
  )
  for axes, panel in zip(grid[0], panels, strict=True):
    _draw_panel(axes, panel, order)
  _mark_rows(grid[0][0], order)
  key = ['● ours', *(['× the paper'] if panels[0].paper else [])]
  if panels[0].teacher is not None:
    key.append('- - our teacher')
  grid[0][0].set_title('   '.join(key), fontsize=8.5, color='#404040')
  figures.title(figure, cost_title(record))


def cost_title(record: Record) -> str:
  """Returns a sentence about a run's most accurate row."""
  means = {
    row: statistics.fmean(fields.accuracies_percent(students))
    for row, students in run_records.by_row(record).items()
  }
  best = max(means, key=means.__getitem__)
  same = sum(mean == means[best] for mean in means.values()) - 1
  name = f'{best} (one training with {same} other rows)' if same else best
  text = f'{name} has the best mean accuracy, {means[best]:.1f} %'
  if test := record['teacher'].get('test'):
    gap = means[best] - 100 * test['accuracy']
    text += f', {abs(gap):.1f} points {_side(gap)} the teacher'
  if _has_ratios(record):
    text += f', and {_ratio(record, best):.1f} times its speed'
  return text


def _side(gap: float) -> str:
  return 'above' if gap > 0 else 'below'


def _has_ratios(record: Record) -> bool:
  return fields.benchmark(record).get('reference') == 'teacher'


def _ratio(record: Record, row: str) -> float:
  """Returns teacher time / network time at the batch size of summaries."""
  size = str(fields.shown_batch_size(record))
  timing = fields.network_timing(record, row)
  return timing['batches'][size]['ratio']['median']


def _spread(record: Record) -> str:
  return _SPREAD if fields.has_several_seeds(record) else 'one seed'


def _panels(record: Record) -> list[Panel]:
  """Returns the panels of `draw_cost` that a run has data for."""
  rows = run_records.by_row(record)
  paper = fields.paper_values(record)

  def of(field: str) -> dict[str, float]:
    return {
      row: paper[row][field] for row in rows if field in (paper.get(row) or {})
    }

  def each(value: Callable[[Record], float]) -> dict[str, list[float]]:
    return {row: [value(s) for s in rows[row]] for row in rows}

  def seconds(student: Record) -> float:
    time = student['time']
    return time['fold_loop_s'] or time['train_s']

  test = record['teacher'].get('test')
  panels = [
    Panel(
      accuracy_label([*rows.values()]).replace('% (', '%\n('),
      each(lambda student: 100 * student['test']['accuracy']),
      of('accuracy'),
      100 * test['accuracy'] if test else None,
      False,
    ),
    Panel('parameters', each(lambda s: s['parameters']), {}, None, True),
    Panel(
      f'training, s\n({_spread(record)})',
      each(seconds),
      of('train_s'),
      None,
      True,
    ),
  ]
  if _has_ratios(record):
    size = fields.shown_batch_size(record)
    panels.append(
      Panel(
        f'inference speed,\n× teacher, batch {size:,}',
        {row: [_ratio(record, row)] for row in rows},
        of('inference_ratio'),
        1.0,
        True,
      )
    )
  return panels


def _draw_panel(axes: Axes, panel: Panel, order: Sequence[str]) -> None:
  """Draws one panel of a dot plot; the first row of `order` is lowest."""
  for y, row in enumerate(order):
    draw_dot(axes, y, panel.values[row], figures.BLUE)
    if row in panel.paper:
      axes.plot(panel.paper[row], y, 'x', color=figures.VERMILION, zorder=3)
  if panel.teacher is not None:
    axes.axvline(panel.teacher, color=figures.GRAY, linestyle='--', zorder=0)
  if panel.is_log:
    axes.set_xscale('log')
    _widen(axes)
  axes.set_xlabel(panel.label, fontsize=9)
  axes.tick_params(axis='x', labelsize=8)


def draw_dot(
  axes: Axes, y: float, values: Sequence[float], color: str, marker: str = 'o'
) -> None:
  """Draws a mean, its standard deviation, and the values of the seeds.

  Args:
    axes: the axes.
    y: the place of the line.
    values: one for each seed.
    color: a color.
    marker: the marker of the mean.
  """
  if len(values) > 1:
    axes.plot(
      values, [y] * len(values), '|', color=color, alpha=0.5, markersize=5
    )
  axes.errorbar(
    statistics.fmean(values),
    y,
    xerr=fields.standard_deviation(values) or None,
    color=color,
    marker=marker,
    markersize=5,
    capsize=2,
  )


def _widen(axes: Axes) -> None:
  """Widens a logarithmic axis to a factor of 10 at least, for its labels."""
  low, high = axes.get_xlim()
  if high < 10 * low:
    middle = (low * high) ** 0.5
    axes.set_xlim(middle / 10**0.5, middle * 10**0.5)


def _mark_rows(axes: Axes, order: Sequence[str]) -> None:
  """Writes the names of rows at the y axis."""
  axes.set_yticks(
    range(len(order)), order, fontsize=8 if len(order) < 25 else 7
  )
  axes.set_ylim(-0.7, len(order) - 0.3)


def draw_by_accuracy(figure: Any, record: Record) -> None:
  """Draws the accuracy of each row, the most accurate row on top.

  Rows that differ significantly from the reference row have another color.

  Args:
    figure: a matplotlib figure.
    record: a run with a reference row.
  """
  axes = figure.add_subplot()
  rows = run_records.by_row(record)
  accuracies = {row: fields.accuracies_percent(s) for row, s in rows.items()}
  reference = fields.reference_row(record)
  assert reference is not None  # `plots.PLOTS` asks for it.
  compared = study_tables.compare_rows(record, reference)
  order = sorted(rows, key=lambda row: statistics.fmean(accuracies[row]))
  for y, row in enumerate(order):
    color, marker = figures.BLUE, 'o'
    if row == reference:
      color, marker = 'black', 'D'
    if row in compared and compared[row].is_significant:
      is_better = compared[row].estimate.mean > 0
      color, marker = (
        (figures.GREEN, '^') if is_better else (figures.VERMILION, 'v')
      )
    draw_dot(axes, y, accuracies[row], color, marker)
  mean = statistics.fmean(accuracies[reference])
  axes.axvline(mean, color=figures.GRAY, linestyle='--', zorder=0)
  axes.annotate(
    f'{reference}: {mean:.1f} %',
    (mean, 1),
    xycoords=('data', 'axes fraction'),
    xytext=(0, 3),
    textcoords='offset points',
    color=figures.GRAY,
    fontsize=9,
    ha='center',
  )
  _mark_rows(axes, order)
  axes.set_xlabel(accuracy_label([*rows.values()]))
  figures.title(figure, rows_title(record))


def rows_title(record: Record) -> str:
  """Returns a sentence about the rows that differ from the reference row."""
  reference = fields.reference_row(record)
  assert reference is not None
  compared = study_tables.compare_rows(record, reference)
  apart = [c.estimate.mean > 0 for c in compared.values() if c.is_significant]
  counts = f'{sum(apart)} better, {len(apart) - sum(apart)} worse'
  n = seeds_text([*run_records.by_row(record).values()])
  verb = 'is' if len(apart) == 1 else 'are'
  start = (
    f'{len(apart)} of {len(compared)} rows {verb}' if apart else 'No row is'
  )
  return (
    f'{start} significantly different from {reference}'
    f'{f": {counts}" if apart else ""} ({n}, paired t tests, Holm)'
  )


_BIASES: dict[str, Callable[[Record], Record]] = {
  'as trained': lambda s: s['test'],
  'bias chosen by the teacher': lambda s: s['bias']['by']['teacher']['test'],
  'bias chosen by labels': lambda s: s['bias']['by']['labels']['test'],
}


def draw_bias_errors(figure: Any, record: Record) -> None:
  """Draws errors of students that lack classes, by kind of bias.

  The kinds are: as trained, a bias of the missing classes' logits chosen by the
  labels, and a bias chosen by the teacher.

  Args:
    figure: a matplotlib figure.
    record: the run.
  """
  axes = figure.add_subplot()
  rows = {row: s for row, s in run_records.by_row(record).items() if _biased(s)}
  order = [*reversed(rows)]
  for i, (label, metrics) in enumerate(_BIASES.items()):
    style = figures.style(i)
    marker = ('o', 's', '^')[i]
    for y, row in enumerate(order):
      errors = [metrics(student)['errors'] for student in rows[row]]
      draw_dot(axes, y + 0.22 * (1 - i), errors, style.color, marker)
    axes.plot([], [], marker, color=style.color, label=label)
  axes.set_xscale('log')
  _mark_rows(axes, order)
  axes.set_xlabel(f'test errors ({_SPREAD}, {seeds_text([*rows.values()])})')
  axes.legend(loc='lower center', bbox_to_anchor=(0.5, 1), ncols=3, fontsize=9)
  figures.title(figure, bias_title(rows))


def has_bias(record: Record) -> bool:
  """Returns whether a run has students that lack classes."""
  return any(map(_biased, run_records.by_row(record).values()))


def _biased(students: Sequence[Record]) -> bool:
  return 'bias' in students[0]


def bias_title(rows: Mapping[str, Sequence[Record]]) -> str:
  """Returns a sentence about the row that a bias helps most."""
  trained, _, by_labels = (
    {
      row: statistics.fmean(metrics(s)['errors'] for s in students)
      for row, students in rows.items()
    }
    for metrics in _BIASES.values()
  )
  kept = {row: by_labels[row] / max(trained[row], 1) for row in rows}
  row = min(kept, key=kept.__getitem__)
  return (
    f'A bias chosen by labels reduces the errors of {row} most, from '
    f'{trained[row]:,.0f} to {by_labels[row]:,.0f}'
  )
