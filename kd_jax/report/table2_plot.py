"""The plot of all CIFAR-10 runs beside the paper's Table 2."""

import json
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kd_jax.report import fields, figures, row_plots
from kd_jax.report.fields import Record
from kd_jax.runtime import run_records

_MARKERS = ('o', 's', '^', 'D')
_GRAY, _PAPER = figures.GRAY, '#000000'
_INCHES_OF_LINE, _INCHES_OF_HEAD = 0.24, 0.42


class Timed(NamedTuple):
  """The students of a row, and quartiles of their inference ratio."""

  students: list[Record]
  ratio: dict[str, float]


# The rows of a run that have an inference ratio, by row.
Rows = dict[str, Timed]


def write(folder: os.PathLike, results: dict[str, Record]) -> None:
  """Writes table2.png: accuracy and inference ratio of every run's rows.

  Runs of one experiment share a panel. The inference ratio of a network is
  teacher time / student time. It comes from the first run on a CPU that timed
  the network beside the paper's teacher, because a run on a GPU or with another
  teacher measures another ratio.

  Args:
    folder: the folder for the file.
    results: the records of runs by name. If no run has timings on a CPU,
      nothing is written.
  """
  ratios = _cpu_ratios(results)
  if not ratios:
    return
  timed = {
    name: rows
    for name, record in results.items()
    if (rows := _rows_with_ratio(record, ratios))
  }
  panels = _by_experiment(timed)
  paper = {
    name: fields.paper_values(record) for name, record in results.items()
  }
  lines = [
    len(_row_names(runs)) * (1 + 0.2 * (len(runs) - 1))
    for runs in panels.values()
  ]
  heads = sum(1 + (len(runs) > 2) / 2 for runs in panels.values())
  inches = 1.4 + _INCHES_OF_LINE * sum(lines) + _INCHES_OF_HEAD * heads
  path = pathlib.Path(folder) / 'table2.png'
  with figures.canvas(path, (8, inches)) as figure:
    grid = figure.subplots(
      *(len(panels), 2),
      sharex='col',
      squeeze=False,
      height_ratios=[n + 0.5 for n in lines],
      width_ratios=[2, 1],
    )
    for pair, (name, runs) in zip(grid, panels.items(), strict=True):
      _draw_experiment(pair, name, runs, paper)
    grid[-1][0].set_xlabel(
      'test accuracy, % (mean ± sd over seeds)\n× the paper'
    )
    grid[-1][1].set_xlabel("times ResNet-50's speed\n● our CPU  × paper, GPU")
    grid[-1][1].set_xscale('log')
    figures.title(figure, title(timed, paper))


def title(timed: Mapping[str, Rows], paper: Mapping[str, Record]) -> str:
  """Returns a sentence about the distance of a run from the paper.

  Args:
    timed: rows by run. The run with the most students beside the paper counts.
    paper: the paper's figures by row, for each run.
  """
  best = ''
  distances = []
  n = 0
  for name, rows in timed.items():
    reported = {row: t for row, t in rows.items() if paper[name].get(row)}
    students = sum(len(t.students) for t in reported.values())
    if students > n:
      best, n = name, students
      distances = [
        abs(_mean(t.students) - paper[name][row]['accuracy'])
        for row, t in reported.items()
      ]
  if not distances:
    return 'Accuracy and inference speed of the runs on CIFAR-10'
  seeds = row_plots.seeds_text([t.students for t in timed[best].values()])
  return (
    f'Mean accuracies of {best.removeprefix("cifar-")} lie '
    f"{statistics.median(distances):.1f} points from the paper's at the "
    f'median, and {max(distances):.1f} at most (rows beside the paper: '
    f'{len(distances)}; {seeds})'
  )


def _mean(students: Sequence[Record]) -> float:
  return statistics.fmean(fields.accuracies_percent(students))


def _by_experiment(timed: Mapping[str, Rows]) -> dict[str, dict[str, Rows]]:
  """Returns runs by experiment, the second word of a run's name."""
  panels: dict[str, dict[str, Rows]] = {}
  for name, rows in timed.items():
    _, experiment, *_ = [*name.split('-'), '']
    panels.setdefault(experiment, {})[name] = rows
  # The paper's own rows, in most lines, come first.
  return dict(sorted(panels.items(), key=lambda p: -len(_row_names(p[1]))))


def _row_names(runs: Mapping[str, Rows]) -> list[str]:
  """Returns the rows of several runs, each once."""
  return list(dict.fromkeys(row for rows in runs.values() for row in rows))


def _draw_experiment(
  pair: Sequence[Any],
  experiment: str,
  runs: Mapping[str, Rows],
  paper: Mapping[str, Record],
) -> None:
  """Draws the runs of one experiment: accuracy left, inference ratio right."""
  left, right = pair
  names = _row_names(runs)[::-1]
  for i, (run, rows) in enumerate(runs.items()):
    color, marker = figures.COLORS[i % 7], _MARKERS[i % 4]
    offset = 0.2 * ((len(runs) - 1) / 2 - i)
    for row, timed in rows.items():
      y = names.index(row)
      accuracies = fields.accuracies_percent(timed.students)
      row_plots.draw_dot(left, y + offset, accuracies, color, marker)
      ratio = timed.ratio
      right.plot(
        (ratio['lower'], ratio['upper']), (y, y), '-', color=_GRAY, lw=1
      )
      right.plot(ratio['median'], y, 'o', color=_GRAY, markersize=4)
      if reported := paper[run].get(row):
        left.plot(reported['accuracy'], y, 'x', color=_PAPER, zorder=3)
        right.plot(reported['inference_ratio'], y, 'x', color=_PAPER)
    seeds = row_plots.seeds_text([t.students for t in rows.values()])
    prefix = f'cifar-{experiment}'
    label = run.removeprefix(prefix).strip('-') or run
    if len(runs) > 1:
      label = label.removeprefix('as_coded-')
    left.plot([], [], marker, color=color, label=f'{label} ({seeds})')
  for axes in pair:
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(range(len(names)), names, fontsize=8)
  right.tick_params(axis='y', labelleft=False)
  # An empty title keeps the place of the legend, which is wider than the axes.
  left.set_title('\n'.join(' ' * (1 + (len(runs) + 1) // 2)), fontsize=10)
  legend = left.legend(
    loc='lower left',
    bbox_to_anchor=(0, 1),
    title=experiment,
    title_fontproperties={'weight': 'bold', 'size': 10},
    alignment='left',
    ncols=2,
    fontsize=8,
    borderaxespad=0,
    borderpad=0.2,
    handletextpad=0,
    columnspacing=1,
  )
  legend.set_in_layout(False)


def _cpu_ratios(results: dict[str, Record]) -> dict[str, dict[str, float]]:
  """Returns inference ratios against the paper's teacher, by network key.

  Returns:
    Quartiles of teacher time / student time at the largest batch, from the
    first run on a CPU that timed the network.
  """
  ratios: dict[str, dict[str, float]] = {}
  for record in results.values():
    has_papers_teacher = (
      record['config']['teacher']['model'].get('block') == 'bottleneck'
    )
    if not has_papers_teacher or record['environment']['device'] != 'cpu':
      continue
    for row in fields.benchmark(record).get('network_of', {}):
      batches = fields.network_timing(record, row)['batches']
      largest = str(fields.batch_sizes(record)[-1])
      ratios.setdefault(_network_key(record, row), batches[largest]['ratio'])
  return ratios


def _rows_with_ratio(
  record: Record, ratios: dict[str, dict[str, float]]
) -> Rows:
  """Returns the rows whose network has an inference ratio."""
  timed = {}
  for row, students in run_records.by_row(record).items():
    ratio = ratios.get(_network_key(record, row))
    if ratio is not None:
      timed[row] = Timed(students, ratio)
  return timed


def _network_key(record: Record, row: str) -> str:
  """Returns a text that is equal for rows whose students are one network."""
  config = record['config']
  overrides = (config.get('rows') or {}).get(row) or {}
  model = config['student'] | {
    key: value
    for key, value in (overrides.get('student') or {}).items()
    if value is not None
  }
  # As in `config.canonical_model`: a stage has at least `min_blocks` blocks.
  min_blocks = model.get('min_blocks') or 0
  model['blocks'] = [
    max(count, min_blocks) for count in model.get('blocks') or ()
  ]
  # Initial values and the training precision do not change the network.
  ignored = ('min_blocks', 'stem_init', 'conv_init', 'zero_init', 'dtype')
  compared = {key: v for key, v in model.items() if key not in ignored}
  # Older records call the field 'arithmetic'. The oldest records lack the
  # field, because only float existed.
  former = compared.pop('arithmetic', None)
  compared['quantization'] = compared.get('quantization') or former or 'float'
  return json.dumps(compared, sort_keys=True)
