"""Learning curves and calibration of the networks of a run."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from kd_jax.report import fields, figures, row_plots
from kd_jax.report.fields import Record
from kd_jax.runtime import run_records

# Curves with names; if a run has more, the others are gray.
_MAX_NAMED = 7  # As many as there are colors.
_MAX_PANELS = 16
_COLUMNS = 4
# Bins with fewer examples are left out: their accuracy is mostly noise.
MIN_BIN = 20
# The mean accuracies (%) after each epoch, and the number of seeds.
Curve = tuple[list[float], int]


def draw_learning_curves(
  figure: Any, record: Record, epochs: Sequence[Record] = ()
) -> None:
  """Draws the mean test accuracy after each epoch, one line for each row.

  Args:
    figure: a matplotlib figure.
    record: the run.
    epochs: the records of the run's metrics.jsonl.
  """
  axes = figure.add_subplot()
  curves = learning_curves(record, epochs)
  order = sorted(curves, key=lambda row: -curves[row][0][-1])
  named = order
  if len(order) > _MAX_NAMED:
    named = [*order[: _MAX_NAMED // 2 + 1], *order[-(_MAX_NAMED // 2) :]]
  labels = []
  longest = max((len(means) for means, _ in curves.values()), default=0)
  for row, (means, _) in curves.items():
    x = range(1, len(means) + 1)
    if row not in named:
      axes.plot(x, means, color=figures.PALE, lw=0.8, zorder=1)
      continue
    style = figures.style(named.index(row))
    marker = style.marker if len(means) < 20 else ''
    axes.plot(
      x, means, style.line, color=style.color, marker=marker, markersize=4
    )
    # A dotted line to the right end: labels of curves that end side by side
    # have lines that do not cross.
    axes.plot(
      (len(means), longest), means[-1:] * 2, ':', color=style.color, lw=0.7
    )
    labels.append(figures.Label(longest, means[-1], row, style.color))
  axes.xaxis.get_major_locator().set_params(integer=True)
  has_folds = any(
    student['time']['fold_loop_s'] for student in record.get('students', [])
  )
  folds = ' (including the epochs of the fold loop)' if has_folds else ''
  axes.set_xlabel(f'epoch{folds}')
  n = row_plots.seeds_text([range(n) for _, n in curves.values()] or [[]])
  seeds = 'one seed' if n == 'n = 1' else f'mean over seeds, {n}'
  axes.set_ylabel(f'test accuracy, % ({seeds})')
  figures.label_ends(axes, labels)
  figures.title(figure, curves_title(curves))


def learning_curves(
  record: Record, epochs: Sequence[Record]
) -> dict[str, Curve]:
  """Returns the learning curve of each row, over the epochs of all seeds.

  Args:
    record: the run.
    epochs: the records of the run's metrics.jsonl.
  """
  rows = run_records.by_row(record) or {'teacher': [record['teacher']]}
  curves = {}
  for row, students in rows.items():
    seeds = {student['seed'] for student in students}
    by_epoch: dict[int, list[float]] = {}
    for epoch in epochs:
      if epoch['row'] == row and epoch['seed'] in seeds:
        accuracy = 100 * epoch['eval/accuracy']
        by_epoch.setdefault(epoch['epoch'], []).append(accuracy)
    if by_epoch:
      means = [statistics.fmean(by_epoch[epoch]) for epoch in sorted(by_epoch)]
      curves[row] = means, len(by_epoch[min(by_epoch)])
  return curves


def curves_title(curves: Mapping[str, Curve]) -> str:
  """Returns a sentence about the curve that ends highest."""
  if not curves:
    return 'Test accuracy after each epoch: none was recorded'
  best = max(curves, key=lambda row: curves[row][0][-1])
  means, n = curves[best]
  gray = len(curves) - _MAX_NAMED
  more = f'; {gray} other rows are gray' if gray > 0 else ''
  return (
    f'{best} ends at {means[-1]:.1f} % after {len(means)} epochs'
    f'{", the highest" if len(curves) > 1 else ""} (n = {n}){more}'
  )


def draw_reliability(figure: Any, record: Record) -> None:
  """Draws accuracy against confidence, a panel for each network.

  Args:
    figure: a matplotlib figure.
    record: the run.
  """
  shown = _calibrated(record)
  panels = list(shown)[:_MAX_PANELS]
  columns = min(_COLUMNS, max(len(panels), 1))
  lines = -(-max(len(panels), 1) // columns)
  grid = figure.subplots(
    lines, columns, sharex=True, sharey=True, squeeze=False
  ).ravel()
  for axes, name in zip(grid, panels, strict=False):
    student = shown[name]
    bins = student['reliability']
    axes.plot((0, 100), (0, 100), color=figures.GRAY, linestyle='--', lw=1)
    points = [
      (100 * confidence, 100 * accuracy)
      for confidence, accuracy, count in zip(
        bins['confidence'], bins['accuracy'], bins['count'], strict=True
      )
      if count >= MIN_BIN
    ]
    axes.plot(*zip(*points, strict=True) if points else ((), ()), 'o-',
      color=figures.BLUE, markersize=4)  # fmt: skip
    axes.set_title(f'{name}\nECE {student["test"]["ece"]:.3f}', fontsize=9)
    axes.set_aspect('equal')
  figures.close_grid(grid, len(panels), columns)
  figure.supxlabel('confidence, %', fontsize=10)
  figure.supylabel('accuracy, %', fontsize=10)
  figures.title(figure, reliability_title(shown))


def reliability_inches(record: Record) -> tuple[float, float]:
  """Returns the size of `draw_reliability`'s figure."""
  panels = min(len(_calibrated(record)), _MAX_PANELS)
  if panels <= 2:
    return 8, 4.5
  lines = -(-panels // _COLUMNS)
  return 8, 1.3 + 2.1 * lines * (1.3 if panels == 3 else 1)


def _calibrated(record: Record) -> dict[str, Record]:
  """Returns the first seed of each network with bins, the worst ECE first."""
  networks = {
    name: students[0]
    for name, students in fields.networks(record).items()
    if 'reliability' in students[0]
  }
  return dict(
    sorted(networks.items(), key=lambda network: -network[1]['test']['ece'])
  )


def reliability_title(shown: Mapping[str, Record]) -> str:
  """Returns a sentence about the worst and the best calibrated network.

  Args:
    shown: the first student of each network, the largest ECE first.
  """
  if not shown:
    return 'Calibration: no network has bins of confidence'
  (worst, *_, best) = [*shown, *shown]
  text = (
    f'Expected calibration error: {worst} {shown[worst]["test"]["ece"]:.3f}'
  )
  if len(shown) > 1:
    text += f' (largest) to {best} {shown[best]["test"]["ece"]:.3f} (least)'
  if len(shown) > _MAX_PANELS:
    text += f'; the {_MAX_PANELS} largest of {len(shown)} are shown'
  return text
