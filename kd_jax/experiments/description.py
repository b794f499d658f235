"""Describes a run before it trains: data, teacher, students."""

import csv
import functools
import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from kd_jax import data
from kd_jax.config_checks import class_checks, image_checks, unused_fields
from kd_jax.experiments import rows, run_checks, training_forecast
from kd_jax.report import data_plots, markdown
from kd_jax.runtime import console, environment, files, mesh
from kd_jax.teachers import provider
from kd_jax.teachers.teacher import Teacher
from kd_jax.training import context

# Images of each class in the picture.
_IMAGES_SHOWN = 8
# Examples whose pixels are summed up.
_EXAMPLES_READ = 1000
# Examples on which a teacher's classes are compared with the labels.
_PREDICTIONS_READ = 50_000
_WITHOUT_MINUTES = (
  'With --minutes, the training steps are timed, too, and the table has the '
  'minutes of each training.'
)
_ABOUT_MINUTES = (
  'Minutes are those of the training steps of all seeds, one after another, on '
  'this device: measured for the teacher and the first row, and scaled by MAC '
  'for the other rows.'
)


def describe_run(  # noqa: PLR0913 - the flags of the command line
  config: ConfigDict,
  *,
  workdir: os.PathLike,
  teachers_dir: os.PathLike,
  data_dir: str | os.PathLike | None = None,
  source_dir: str | os.PathLike | None = None,
  set_fields: Sequence[str] = (),
  with_minutes: bool = False,
) -> str:
  """Describes a run's data, teacher and students; trains nothing.

  Writes to the folder `data` of the run: the description, a picture of a few
  images of each class, and a file for each split with the order of its
  examples and classes, for programs that compute logits.

  Args:
    config: a config from configs/.
    workdir: the run's folder.
    teachers_dir: where teachers are kept.
    data_dir: where prepared data sets are kept; a per-user cache if None.
    source_dir: a folder to look for the data in before downloading.
    set_fields: the dotted names of the config's fields that the user has set.
    with_minutes: whether training steps are timed, to forecast the minutes.
  Returns:
    The description, in Markdown.
  Raises:
    UserError: for a mistake in the config, the data or the teacher.
  """
  config, row_configs = run_checks.close_and_check(config)
  load = functools.cache(run_checks.make_loader(config, data_dir, source_dir))
  environment.log_device()
  with mesh.use(config.mesh.data):
    run_context = context.make_context(config, load, data_dir)
    context_for = functools.cache(
      functools.partial(context.on_transfer_set, run_context)
    )
    plans = run_checks.check_run_and_plan(config, row_configs, context_for)
    warnings = unused_fields.find(config, row_configs, set_fields)
    warnings += class_checks.find_lacking(
      config, row_configs, plans, context_for
    )
    warnings += image_checks.find_doubts(run_context.dataset)
    teacher = _ready_teacher(config, run_context, pathlib.Path(teachers_dir))
    whole, used = load(config.data.name), run_context.dataset
    planned = rows.plan_rows(row_configs, plans, context_for)
    parts = [
      f'# {config.name}: {used.name}',
      _describe_images(used),
      _class_table(whole, used, teacher),
      _describe_teacher(config, teacher),
      training_forecast.training_table(
        config,
        planned,
        plans.teacher,
        context_for,
        with_minutes=with_minutes,
      ),
      _ABOUT_MINUTES if with_minutes else _WITHOUT_MINUTES,
    ]
  warnings += teacher.warnings if teacher else []
  if warnings:
    lines = map(console.printable, warnings)
    parts += ['## Warnings', '\n'.join(f'- {line}.' for line in lines)]
  text = '\n\n'.join(parts) + '\n'
  folder = pathlib.Path(workdir) / 'data'
  files.write_text(folder / 'description.md', text)
  _write_data(folder, config.data.name, whole, used)
  return text


# --- The data. ---


def _write_data(
  folder: pathlib.Path, name: str, whole: data.Dataset, used: data.Dataset
) -> None:
  """Writes a picture of the images, and the order of each split's examples.

  Args:
    folder: the folder of the files.
    name: the `data.name` of the config.
    whole: the data set as it is loaded.
    used: the part that the config uses.
  """
  data_plots.write_examples(
    folder / 'examples.png', _examples_by_class(used), used.num_classes
  )
  for split, content in _order_files(name, whole, used).items():
    files.write_text(folder / f'{split}-order.csv', content)


def _describe_images(used: data.Dataset) -> str:
  """Returns a sentence about the images."""
  images = np.asarray(used.train.images[:_EXAMPLES_READ])
  means = ', '.join(f'{mean:.1f}' for mean in images.mean(axis=(0, 1, 2)))
  height, width, channels = used.task.image_shape
  return (
    f'Images of {height} x {width} pixels x {channels} channels, with values '
    f'from {images.min()} to {images.max()} and the mean {means} by channel '
    f'(the first {len(images):,}). {used.num_classes} classes. Digest '
    f'{used.digest[:12]}.'
  )


def _class_table(
  whole: data.Dataset, used: data.Dataset, teacher: Teacher | None
) -> str:
  """Returns a table of the classes, in order, with their examples.

  Args:
    whole: the data set as it is loaded.
    used: the part that the config uses.
    teacher: a teacher that is ready: the table then has the share of a class's
      training examples for which the teacher's class is the label.
  """
  count = lambda split: np.bincount(
    np.asarray(split.labels), minlength=whole.num_classes
  )
  columns = {
    'train': count(used.train),
    'test': count(used.test),
    'unused': count(whole.train) + count(whole.test),
  }
  columns['unused'] = columns['unused'] - columns['train'] - columns['test']
  names = whole.names_of(range(whole.num_classes))
  rows = [
    [
      _printable(name),
      str(label),
      *(f'{counts[label]:,}' for counts in columns.values()),
    ]
    for label, name in enumerate(names)
  ]
  rows.append(['all', '', *(f'{c.sum():,}' for c in columns.values())])
  headers = ['class', 'label', *columns]
  if teacher is not None and 'train' in teacher.logits:
    headers.append('teacher agrees %')
    for row, share in zip(rows, _agreement(used, teacher), strict=True):
      row.append('–' if np.isnan(share) else f'{100 * share:.1f}')
  return markdown.table(headers, rows)


def _printable(name: str) -> str:
  """Returns the name of a class as a cell of a table, whatever is in it."""
  return console.printable(name).replace('|', r'\|')


def _agreement(used: data.Dataset, teacher: Teacher) -> list[float]:
  """Returns how often a teacher's class is the label, by class and in all.

  NaN for a class without a training example.
  """
  predicted = np.argmax(teacher.logits['train'][:_PREDICTIONS_READ], axis=-1)
  labels = np.asarray(used.train.labels)[: len(predicted)]
  agrees = predicted == labels
  shares = [
    np.mean(agrees[labels == label]) if (labels == label).any() else np.nan
    for label in range(used.num_classes)
  ]
  return [*map(float, shares), float(np.mean(agrees))]


def _examples_by_class(used: data.Dataset) -> dict[str, list[np.ndarray]]:
  """Returns the first training images of each class by the class's name."""
  labels = np.asarray(used.train.labels)
  names = used.names_of(range(used.num_classes))
  shown = range(min(used.num_classes, data_plots.MOST_CLASSES))
  return {
    names[label]: list(
      np.asarray(
        used.train.images[np.flatnonzero(labels == label)[:_IMAGES_SHOWN]]
      )
    )
    for label in shown
  }


def _order_files(
  name: str, whole: data.Dataset, used: data.Dataset
) -> dict[str, str]:
  """Returns CSV text by split: a line for each example, in the files' order.

  Args:
    name: the `data.name` of the config.
    whole: the data set as it is loaded.
    used: the part that the config uses.
  """
  paths = data.list_image_files(name)
  used_as = {
    split: np.full(len(getattr(whole, split).labels), '', object)
    for split in data.SPLITS
  }
  for split in data.SPLITS:
    origin = getattr(used, split).origin
    used_as[origin.split][origin.positions] = split
  return {
    split: _order(whole, split, used_as[split], paths.get(split))
    for split in data.SPLITS
    if len(used_as[split])
  }


def _order(
  whole: data.Dataset,
  split: str,
  used_as: np.ndarray,
  paths: list[pathlib.Path] | None,
) -> str:
  """Returns CSV text with a line for each example of a split of the files."""
  part = getattr(whole, split)
  labels = np.asarray(part.labels)[np.argsort(part.origin.positions)]
  names = whole.names_of(range(whole.num_classes))
  text = io.StringIO()
  writer = csv.writer(text)
  writer.writerow(['position', 'label', 'class', 'used_as', 'file'])
  for position, label in enumerate(labels.tolist()):
    path = paths[position] if paths else ''
    writer.writerow([position, label, names[label], used_as[position], path])
  return text.getvalue()


# --- The teacher. ---


def _ready_teacher(
  config: ConfigDict, run_context: context.Context, teachers_dir: pathlib.Path
) -> Teacher | None:
  """Returns the teacher, or None if the run trains it."""
  if not provider.is_ready(config, run_context.dataset, teachers_dir):
    return None
  return provider.get_teacher(config, run_context, teachers_dir)


def _describe_teacher(config: ConfigDict, teacher: Teacher | None) -> str:
  """Returns a sentence about the teacher."""
  if teacher is None:
    return 'The teacher is trained by this run.'
  if not teacher.logits:
    return 'There is no teacher.'
  accuracies = [
    f'{100 * teacher.record[split]["accuracy"]:.2f} % on {split}'
    for split in data.SPLITS
    if split in teacher.record
  ]
  chosen = (
    teacher.record.get('source')
    or config.teacher.pretrained
    or 'already trained'
  )
  sentence = f'The teacher, {chosen}, has an accuracy of '
  return f'{sentence}{", ".join(accuracies)}.'
