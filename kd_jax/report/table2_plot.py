"""The plot of all CIFAR-10 runs beside the paper's Table 2."""

import json
import os
import pathlib
import statistics
from typing import Any

from kd_jax.report import fields, figures
from kd_jax.report.fields import Record
from kd_jax.report.figures import Axes
from kd_jax.runtime import run_records


def write(folder: os.PathLike, results: dict[str, Record]) -> None:
  """Writes table2.png: accuracy against the inference ratio of every run.

  The inference ratio of a network is teacher time / student time. It comes
  from the first run on a CPU that timed the network beside the paper's teacher,
  because a run on a GPU or with another teacher measures another ratio.

  Args:
    folder: the folder for the file.
    results: the records of runs by name. If no run has timings on a CPU,
      nothing is written.
  """
  ratios = _cpu_ratios(results)
  if not ratios:
    return
  with figures.figure(pathlib.Path(folder) / 'table2.png') as axes:
    paper: dict[float, float] = {}  # Accuracy (%), by the inference ratio.
    for i, (name, record) in enumerate(results.items()):
      timed = _students_by_row_with_ratio(record, ratios)
      for row in timed:
        if reported := fields.paper_figures(record).get(row):
          ratio = reported['inference_ratio']
          paper[ratio] = reported['accuracy']
      if timed:
        label = name.removeprefix('cifar-')
        _draw_run(axes, timed, color=figures.color(i), label=label)
    axes.plot([*paper], [*paper.values()], 'kx', label='the paper, on a GPU')
    axes.set_xscale('log')
    axes.set_xlabel('inference time, ResNet-50 / student, at the largest batch')
    axes.set_ylabel('test accuracy, %')
    axes.legend(fontsize='x-small')
    axes.grid(alpha=0.3)


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


# Students, and quartiles of the inference ratio, by row.
_Timed = dict[str, tuple[list[Record], dict[str, float]]]


def _students_by_row_with_ratio(
  record: Record, ratios: dict[str, dict[str, float]]
) -> _Timed:
  """Returns the rows whose network has a ratio: students and ratio, by row."""
  timed = {}
  for row, students in run_records.by_row(record).items():
    ratio = ratios.get(_network_key(record, row))
    if ratio is not None:
      timed[row] = (students, ratio)
  return timed


def _draw_run(axes: Axes, timed: _Timed, *, color: Any, label: str) -> None:
  """Draws one run: accuracy (mean, standard deviation) against the ratio."""
  accuracies = [
    fields.accuracies_percent(students) for students, _ in timed.values()
  ]
  ratios = [ratio for _, ratio in timed.values()]
  axes.errorbar(
    [ratio['median'] for ratio in ratios],
    [statistics.fmean(values) for values in accuracies],
    [fields.standard_deviation(values) for values in accuracies],
    [
      [ratio['median'] - ratio['lower'] for ratio in ratios],
      [ratio['upper'] - ratio['median'] for ratio in ratios],
    ],
    fmt='o',
    capsize=2,
    color=color,
    label=label,
  )


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
  ignored = ('min_blocks', 'zero_init', 'dtype')
  compared = {key: v for key, v in model.items() if key not in ignored}
  # Older records call the field 'arithmetic'. The oldest records lack the
  # field, because only float existed.
  former = compared.pop('arithmetic', None)
  compared['quantization'] = compared.get('quantization') or former or 'float'
  return json.dumps(compared, sort_keys=True)
