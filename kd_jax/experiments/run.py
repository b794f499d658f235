"""The rows of a run: what each trains, and which of them are one training."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.data import augmentation
from kd_jax.runtime import errors, files, host_memory
from kd_jax.teachers import compact_arrays
from kd_jax.teachers.teacher import Teacher
from kd_jax.training import context, plan


class Row(NamedTuple):
  """A row of a run's table: one student, for several seeds.

  Attributes:
    name: the name of the row.
    config: the closed config of a row.
    identity: what determines its students, except for their seed.
    calls_teacher: whether its steps call the teacher.
    same_training_as: the name of the first row that is the same training; the
      row's name if no row before it is.
  """

  name: str
  config: ConfigDict
  identity: dict[str, Any]
  calls_teacher: bool
  same_training_as: str


class Run(NamedTuple):
  """The rows of a run, and where their students are trained.

  Attributes:
    workdir: the run's folder.
    rows: by name, in the order of the config.
    for_transfer_set: maps a transfer set's name ('' for the training split) to
      the context and the teacher of the students that train on it.
  """

  workdir: pathlib.Path
  rows: dict[str, Row]
  for_transfer_set: Callable[[str], tuple[context.Context, Teacher]]

  def folder(self, row: Row) -> pathlib.Path:
    """Returns the folder of a row's students."""
    return self.workdir / 'students' / row.same_training_as


def make_run(
  configs: dict[str, ConfigDict],
  rows_calling_teacher: dict[str, bool],
  context_for: Callable[[str], context.Context],
  teacher: Teacher,
  workdir: pathlib.Path,
) -> Run:
  """Returns the rows of a run, with what determines each.

  Args:
    configs: the closed config of each row.
    rows_calling_teacher: whether the steps of a row call the teacher, by row.
    context_for: maps a transfer set's name to its context.
    teacher: the run's teacher.
    workdir: the run's folder.
  """
  dataset = context_for('').dataset
  digests = {'teacher': teacher.record['outputs']}
  first_with: dict[str, str] = {}
  rows = {}
  for name, config in configs.items():
    identity = config_lib.student_identity(
      config,
      dataset,
      teacher_outputs=_teacher_outputs(config, digests),
      live_teacher=rows_calling_teacher[name],
    )
    digests[name] = files.digest(identity)
    same_training_as = first_with.setdefault(digests[name], name)
    rows[name] = Row(
      name, config, identity, rows_calling_teacher[name], same_training_as
    )

  @functools.cache
  def for_transfer_set(transfer_set: str) -> tuple[context.Context, Teacher]:
    run_context = context_for(transfer_set)
    if not transfer_set:
      return run_context, teacher
    shown = teacher.on_transfer_set(transfer_set, run_context.dataset)
    return run_context, shown

  return Run(workdir, rows, for_transfer_set)


def _teacher_outputs(config: ConfigDict, digests: dict[str, str]) -> Any:
  """Returns what determines the outputs that a row learns from.

  Args:
    config: the closed config of a row.
    digests: the digests of the teacher's outputs and of the identities of
      earlier rows.
  """
  if not config.teacher.rows:
    return digests['teacher']
  return {
    'average': config.teacher.average,
    'of': [digests[row] for row in config.teacher.rows],
  }


def needs_live_teacher(config: ConfigDict, dataset: data.Dataset) -> bool:
  """Returns whether a row's steps call the teacher, not its stored outputs.

  They do if (1) `teacher.live` is set, (2) images are on disk, and a method
  takes features or images are augmented, (3) a method takes features of
  augmented or mixed images, (4) its features exceed `teacher.features_gib`, or
  (5) the augmentation has too many views to store.
  Without a distillation loss there is no teacher to call.

  Args:
    config: the closed config of a row.
    dataset: the data set that the row learns.
  Raises:
    UserError: if a method takes rounded features, which have to be stored, or
      if stored features do not fit in memory.
  """
  if not config_lib.distills(config.distill):
    return False
  layers = config_lib.teacher_layers(config, dataset.problem)
  views = augmentation.AUGMENTATIONS[config.train.augmentation]
  is_augmented = views is not None
  # For data on disk, stored features or views would be larger than the images.
  is_too_large = data.is_on_disk(dataset.train) and (
    bool(layers) or is_augmented
  )
  has_too_many_views = views is not None and not views.has_stored_views
  if config.teacher.live or (has_too_many_views and not layers):
    return True
  if not (layers or is_too_large):
    return False
  examples = plan.used_examples(config.train, dataset)
  size = len(examples) * sum(
    compact_arrays.features_dtype(bits).itemsize * int(np.prod(shape))
    for bits, shapes in layers.items()
    for shape in shapes.values()
  )
  calls_teacher = (
    is_too_large
    or is_augmented
    or config.train.mixup_alpha > 0
    or size > config.teacher.features_gib * 2**30
  )
  has_rounded = any(bits > 0 for bits in layers)
  if calls_teacher and has_rounded:
    raise errors.UserError(
      f'config.teacher.feature_bits={config.teacher.feature_bits}: rounded '
      f'features must be stored, but these take {size / 2**30:.1f} GiB, or the '
      'images are augmented or mixed. Raise config.teacher.features_gib, '
      'choose fewer layers, or leave out augmentation and mixup'
    )
  if not calls_teacher:
    host_memory.check_available(
      size,
      "the teacher's features",
      'a lower config.teacher.features_gib calls the teacher in every step '
      'instead',
    )
  return calls_teacher


def check_named_rows(
  config: ConfigDict, configs: dict[str, ConfigDict]
) -> None:
  """Checks the rows that a config names.

  Args:
    config: the run's config.
    configs: the closed config of each row.
  Raises:
    UserError: if a named row does not exist, or teaches a row before itself,
      or a row's name is no name of a folder.
  """
  for name in configs:  # A row's students have a folder of its name.
    files.check_name(name, 'config.rows: the row')
  against = config.benchmark.steps_against
  if against and against not in configs:
    raise errors.UserError(
      f'config.benchmark.steps_against={against!r}: expected a row '
      f'({", ".join(configs)}), or nothing'
    )
  earlier = ['teacher']
  for name, row in configs.items():
    unknown = [other for other in row.teacher.rows if other not in earlier]
    if unknown:
      raise errors.UserError(
        f'config.teacher.rows={row.teacher.rows} of row {name!r}: expected '
        f'rows before it ({", ".join(earlier)}), not {", ".join(unknown)}'
      )
    earlier.append(name)
