"""A look at what a run will train on what, before it trains."""

import csv
import functools
import io
import os
import pathlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.config_checks import class_checks
from kd_jax.experiments import preparation
from kd_jax.models import apply, costs, from_config
from kd_jax.report import data_plots, markdown
from kd_jax.runtime import environment, files, mesh
from kd_jax.sections import TrainingSections
from kd_jax.teachers import provider
from kd_jax.training import context, plan

# Images of each class in the picture.
_IMAGES_SHOWN = 8
# Examples whose pixels are summed up.
_EXAMPLES_READ = 1000


def describe_run(
  config: ConfigDict,
  *,
  workdir: os.PathLike,
  teachers_dir: os.PathLike,
  data_dir: str | os.PathLike | None = None,
  source_dir: str | os.PathLike | None = None,
) -> str:
  """Describes a run's data, teacher and students; trains nothing.

  Writes to the folder `data` of the run: the description, a picture of a few
  images of each class, and a file for each split with the order of its rows and
  classes, for programs that compute logits.

  Args:
    config: a config from configs/.
    workdir: the run's folder.
    teachers_dir: where teachers are kept.
    data_dir: where prepared data sets are kept; a per-user cache if None.
    source_dir: a folder to look for the data in before downloading.
  Returns:
    The description, in Markdown.
  Raises:
    UserError: for a mistake in the config, the data or the teacher.
  """
  config, configs = preparation.check_config(config)
  load = functools.cache(preparation.make_loader(config, data_dir, source_dir))
  environment.log_device()
  with mesh.use(config.mesh.data):
    run_context = context.make_context(config, load)
    context_for = functools.cache(
      functools.partial(context.on_transfer_set, run_context)
    )
    plans = preparation.plan_trainings(config, configs, context_for)
    warnings = class_checks.find_lacking(config, configs, plans, context_for)
    teacher, doubts = _describe_teacher(
      config, run_context, pathlib.Path(teachers_dir)
    )
  whole, used = load(config.data.name), run_context.dataset
  parts = [
    f'# {config.name}: {used.name}',
    _describe_images(used),
    _class_table(whole, used),
    teacher,
    _training_table(config, configs, plans, context_for),
  ]
  if warnings + doubts:
    lines = [f'- {warning}.' for warning in warnings + doubts]
    parts += ['## Warnings', '\n'.join(lines)]
  text = '\n\n'.join(parts) + '\n'
  folder = pathlib.Path(workdir) / 'data'
  files.write_text(folder / 'description.md', text)
  data_plots.write_examples(folder / 'examples.png', _examples_by_class(used))
  for split, content in _row_files(config.data.name, whole, used).items():
    files.write_text(folder / f'{split}-rows.csv', content)
  return text


# --- The data. ---


def _describe_images(used: data.Dataset) -> str:
  """Returns a sentence about the images."""
  images = np.asarray(used.train.images[:_EXAMPLES_READ])
  means = ', '.join(f'{mean:.1f}' for mean in images.mean(axis=(0, 1, 2)))
  height, width, channels = used.problem.image_shape
  return (
    f'Images of {height} x {width} pixels x {channels} channels, with values '
    f'from {images.min()} to {images.max()} and the mean {means} by channel '
    f'(the first {len(images):,}). {used.num_classes} classes. Digest '
    f'{used.digest[:12]}.'
  )


def _class_table(whole: data.Dataset, used: data.Dataset) -> str:
  """Returns a table of the classes, in order, with their examples.

  Args:
    whole: the data set as it is loaded.
    used: the part that the config uses.
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
    [name, str(label), *(f'{counts[label]:,}' for counts in columns.values())]
    for label, name in enumerate(names)
  ]
  rows.append(['all', '', *(f'{c.sum():,}' for c in columns.values())])
  return markdown.table(['class', 'label', *columns], rows)


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


def _row_files(
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
    used_as[origin.split][origin.rows] = split
  return {
    split: _rows(whole, split, used_as[split], paths.get(split))
    for split in data.SPLITS
    if len(used_as[split])
  }


def _rows(
  whole: data.Dataset,
  split: str,
  used_as: np.ndarray,
  paths: list[pathlib.Path] | None,
) -> str:
  """Returns CSV text with a line for each example of a split of the files."""
  part = getattr(whole, split)
  labels = np.asarray(part.labels)[np.argsort(part.origin.rows)]
  names = whole.names_of(range(whole.num_classes))
  text = io.StringIO()
  writer = csv.writer(text)
  writer.writerow(['row', 'label', 'class', 'used_as', 'file'])
  for row, label in enumerate(labels.tolist()):
    path = paths[row] if paths else ''
    writer.writerow([row, label, names[label], used_as[row], path])
  return text.getvalue()


# --- The teacher and the students. ---


def _describe_teacher(
  config: ConfigDict, run_context: context.Context, teachers_dir: pathlib.Path
) -> tuple[str, list[str]]:
  """Returns a sentence about the teacher, and what speaks against it."""
  if not provider.is_ready(config, run_context.dataset, teachers_dir):
    return 'The teacher is trained by this run.', []
  teacher = provider.get_teacher(config, run_context, teachers_dir)
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
  return f'{sentence}{", ".join(accuracies)}.', teacher.warnings


def _training_table(
  config: ConfigDict,
  configs: Mapping[str, ConfigDict],
  plans: plan.Plans,
  context_for: Callable[[str], context.Context],
) -> str:
  """Returns a table of the networks that the run trains."""
  rows = []
  if plans.teacher is not None:
    sections = config_lib.teacher_sections(config)
    problem = context_for('').dataset.problem
    rows.append(_training_row('teacher', sections, plans.teacher, problem))
  for name, row_config in configs.items():
    sections = config_lib.student_sections(row_config)
    problem = context_for(row_config.train.transfer_set).dataset.problem
    rows.append(_training_row(name, sections, plans.rows[name], problem))
  headers = (
    *('network', 'kind', 'parameters', 'MAC', 'examples', 'not trained on'),
    *('epochs', 'batch', 'steps', 'optimizer', 'augmentation', 'loss'),
  )
  return markdown.table(headers, rows)


def _training_row(
  name: str,
  sections: TrainingSections,
  training_plan: plan.Plan,
  problem: data.Problem,
) -> list[str]:
  """Returns the cells of a network's training."""
  module = from_config.make_module(sections.model, problem.num_classes)
  variables = from_config.variables_like(sections.model, problem)
  image = jax.ShapeDtypeStruct((1, *problem.image_shape), jnp.float32)
  forward = lambda variables, images: apply.make_apply(module)(
    variables, images, train=False, key=None
  )[0]
  macs = costs.count_macs(forward, variables, image)
  return [
    name,
    sections.model.kind,
    f'{costs.count_parameters(variables["params"]):,}',
    f'{macs:,}',
    f'{training_plan.num_examples:,}',
    f'{training_plan.num_untrained:,}',
    f'{len(training_plan.epochs):,}',
    f'{sections.train.batch_size:,}',
    f'{training_plan.num_steps:,}',
    f'{sections.optim.name} {sections.optim.learning_rate:.3g}',
    sections.train.augmentation,
    _loss(sections.distill),
  ]


def _loss(distill: ConfigDict) -> str:
  """Returns the terms of a loss with their weights."""
  terms = [f'{distill.ce_weight:.3g} labels'] if distill.ce_weight else []
  if distill.kd_weight:
    terms.append(
      f'{distill.kd_weight:.3g} {distill.method} (T {distill.temperature:g})'
    )
  return ' + '.join(terms)
