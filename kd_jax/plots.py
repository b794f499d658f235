"""The plots of a run, as PNG files."""

import os
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kd_jax import records

Record = dict[str, Any]


# Bins of the reliability diagram with fewer examples say nothing.
_MIN_BIN = 20


def _color(index: int):
  return matplotlib.colormaps['tab20'](index % 20)


def _accuracy_against(
  axes, record: Record, x_of: Callable[[Record], float], paper_x: str | None
) -> None:
  """Draws accuracy (mean, standard deviation) against x, and the paper's."""
  for i, (name, students) in enumerate(records.by_row(record).items()):
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
    if paper:
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


def learning_curves(axes, record: Record, epochs: Sequence[Record]) -> None:
  """Test accuracy after each epoch, each seed a line."""
  networks = records.by_row(record) or {'teacher': [record['teacher']]}
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
    name: students[0] for name, students in records.by_row(record).items()
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


_OF_STUDENTS = {
  'accuracy_size': accuracy_size,
  'accuracy_time': accuracy_time,
}
_OF_ANY = {
  'learning_curves': learning_curves,
  'reliability': reliability,
}
PLOTS = _OF_STUDENTS | _OF_ANY


def write(
  folder: os.PathLike, record: Record, epochs: Sequence[Record]
) -> list[str]:
  """Writes the plots of a run into its folder; returns their names.

  Args:
    folder: of the run.
    record: the content of its run.json.
    epochs: the records of its metrics.jsonl.
  """
  plots = PLOTS if record.get('students') else _OF_ANY
  for name, draw in plots.items():
    figure = Figure(figsize=(8, 5), layout='constrained')
    FigureCanvasAgg(figure)
    draw(figure.add_subplot(), record, epochs)
    path = pathlib.Path(folder) / f'{name}.png'
    temporary = path.with_name(f'.{path.name}')
    figure.savefig(temporary, dpi=120, format='png')
    os.replace(temporary, path)
  return list(plots)
