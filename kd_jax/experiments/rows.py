"""The rows of a run: what each trains, and which of them are one training."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data, methods
from kd_jax.data import augmentation
from kd_jax.runtime import errors, files, host_memory
from kd_jax.teachers import compact_arrays
from kd_jax.teachers.teacher import Teacher
from kd_jax.training import context, plan


class PlannedRow(NamedTuple):
  """A row with its plan, before the run has a teacher.

  Attributes:
    config: the closed config of the row.
    plan: the examples, phases and batches of a training.
    teacher_layers: the shapes of the teacher's layers that its methods take, by
      the bits that they are rounded to; see `config.teacher_layers`.
    live_teacher: whether its steps call the teacher.
  """

  config: ConfigDict
  plan: plan.Plan
  teacher_layers: dict[int, methods.Shapes]
  live_teacher: bool


class Row(NamedTuple):
  """A row of a run's table: one student, for several seeds.

  Attributes:
    name: the name of the row.
    planned: its config and its plan.
    identity: what determines its students, except for their seed.
    same_training_as: the name of the first row that is the same training; the
      row's name if no row before it is.
  """

  name: str
  planned: PlannedRow
  identity: dict[str, Any]
  same_training_as: str

  @property
  def config(self) -> ConfigDict:
    """The closed config of the row."""
    return self.planned.config


class RunRows(NamedTuple):
  """The rows of a run, and where their students are trained.

  Attributes:
    workdir: the run's folder.
    by_name: the rows, in the order of the config.
    context_for: maps a transfer set's name ('' for the training split) to the
      context of the students that train on it.
    teacher_for: maps a transfer set's name to the teacher with outputs for it.
  """

  workdir: pathlib.Path
  by_name: dict[str, Row]
  context_for: Callable[[str], context.Context]
  teacher_for: Callable[[str], Teacher]

  def folder(self, row: Row) -> pathlib.Path:
    """Returns the folder of a row's students."""
    return self.workdir / 'students' / row.same_training_as

  def context(self, row: Row) -> context.Context:
    """Returns the context of a row's students."""
    return self.context_for(config_lib.transfer_set_name(row.config))

  def teacher(self, row: Row) -> Teacher:
    """Returns the run's teacher, with outputs for the images of a row."""
    return self.teacher_for(config_lib.transfer_set_name(row.config))


def make_rows(
  planned: Mapping[str, PlannedRow],
  context_for: Callable[[str], context.Context],
  teacher: Teacher,
  workdir: pathlib.Path,
) -> RunRows:
  """Returns the rows of a run, with what determines each.

  Args:
    planned: the rows by name.
    context_for: maps a transfer set's name to its context.
    teacher: the run's teacher.
    workdir: the run's folder.
  """
  digests = {'teacher': teacher.record['outputs']}
  first_with: dict[str, str] = {}
  by_name = {}
  for name, row in planned.items():
    dataset = context_for(config_lib.transfer_set_name(row.config)).dataset
    teacher.check_unlabeled(dataset)
    identity = config_lib.student_identity(
      row.config,
      dataset,
      teacher_outputs=_teacher_outputs(row.config, digests, teacher),
      live_teacher=row.live_teacher,
    )
    digests[name] = files.json_digest(identity)
    by_name[name] = Row(
      name,
      row,
      identity=identity,
      same_training_as=first_with.setdefault(digests[name], name),
    )

  @functools.cache
  def teacher_for(transfer_set: str) -> Teacher:
    if not transfer_set:
      return teacher
    shown = context_for(transfer_set).dataset
    return teacher.on_transfer_set(shown.unlabeled or transfer_set, shown)

  return RunRows(workdir, by_name, context_for, teacher_for)


def _teacher_outputs(
  config: ConfigDict, digests: dict[str, str], teacher: Teacher
) -> Any:
  """Returns what determines the outputs that a row learns from.

  Args:
    config: the closed config of a row.
    digests: the digests of the teacher's outputs and of the identities of
      earlier rows.
    teacher: the run's teacher.
  """
  if teacher.features and config_lib.uses_features(config.distill):
    return {'logits': digests['teacher'], 'features': teacher.features.digest}
  if not config.teacher.rows:
    return digests['teacher']
  return {
    'average': config.teacher.average,
    'of': [digests[row] for row in config.teacher.rows],
  }


def plan_rows(
  row_configs: Mapping[str, ConfigDict],
  plans: plan.Plans,
  context_for: Callable[[str], context.Context],
) -> dict[str, PlannedRow]:
  """Returns all rows with their plans; see `plan_row`.

  Args:
    row_configs: the closed config of each row.
    plans: the plans of the run's trainings.
    context_for: maps a transfer set's name to its context.
  Raises:
    UserError: see `plan_row`.
  """
  return {
    name: plan_row(
      row_config,
      plans.rows[name],
      context_for(config_lib.transfer_set_name(row_config)).dataset,
    )
    for name, row_config in row_configs.items()
  }


def plan_row(
  config: ConfigDict, row_plan: plan.Plan, dataset: data.Dataset
) -> PlannedRow:
  """Returns a row with its plan, and whether its steps call the teacher.

  Args:
    config: the closed config of the row.
    row_plan: the plan of its trainings.
    dataset: the data set that the row learns.
  Raises:
    UserError: if a method takes rounded features, which have to be stored, or
      if stored features do not fit in memory.
  """
  layers = config_lib.teacher_layers(config, dataset.task)
  features_bytes = row_plan.num_examples * _bytes_per_example(layers)
  live_teacher = _needs_live_teacher(config, layers, features_bytes, dataset)
  # If the config asks for a live teacher, no feature is to be stored.
  if layers and not config.teacher.live:
    _check_stored_features(config, layers, features_bytes, live_teacher)
  return PlannedRow(config, row_plan, layers, live_teacher)


def _needs_live_teacher(
  config: ConfigDict,
  layers: dict[int, methods.Shapes],
  features_bytes: int,
  dataset: data.Dataset,
) -> bool:
  """Returns whether a row's steps call the teacher, not its stored outputs.

  They do if (1) `teacher.live` is set, (2) images are on disk, and either a
  method takes features or images are augmented, (3) a method takes features of
  augmented or mixed images, (4) its features exceed `teacher.features_gib`, or
  (5) the augmentation has too many views to store.
  Without a distillation loss there is no teacher to call.

  Args:
    config: the closed config of a row.
    layers: the teacher's layers that its methods take, by bits.
    features_bytes: the size of those features of its examples.
    dataset: the data set that the row learns.
  """
  if not config_lib.distills(config.distill):
    return False
  takes_features = bool(layers)
  views = augmentation.AUGMENTATIONS[config.train.augmentation]
  is_augmented = views is not None
  # For data on disk, stored features or views would be larger than the images.
  is_too_large = data.is_on_disk(dataset.train) and (
    takes_features or is_augmented
  )
  return (
    config.teacher.live
    or is_too_large
    or (takes_features and (is_augmented or config.train.mixup_alpha > 0))
    or features_bytes > config.teacher.features_gib * 2**30
    or (views is not None and not views.has_stored_views)
  )


def _check_stored_features(
  config: ConfigDict,
  layers: dict[int, methods.Shapes],
  features_bytes: int,
  live_teacher: bool,
) -> None:
  """Refuses features that must be stored and are not, or fill the memory.

  Args:
    config: the closed config of a row.
    layers: the teacher's layers that its methods take, by bits.
    features_bytes: the size of those features of its examples.
    live_teacher: whether the teacher is called in every step, so that no
      feature is stored.
  Raises:
    UserError: names the fields to change.
  """
  size_gib = features_bytes / 2**30
  has_rounded = any(bits > 0 for bits in layers)
  if live_teacher and has_rounded:
    raise errors.UserError(
      f'config.teacher.feature_bits={config.teacher.feature_bits}: rounded '
      f'features must be stored, but these take {size_gib:.1f} GiB, or the '
      'images are augmented or mixed. Raise config.teacher.features_gib, '
      'choose fewer layers, or leave out augmentation and mixup'
    )
  if live_teacher and config.teacher.features:
    raise errors.UserError(
      f'config.teacher.features: a file has no network to call, but its layers '
      f'take {size_gib:.1f} GiB, or the images are on disk. Raise '
      'config.teacher.features_gib or config.data.memory_gib, or choose fewer '
      'layers'
    )
  if not live_teacher:
    host_memory.check_available(
      features_bytes,
      "the teacher's features",
      'a lower config.teacher.features_gib calls the teacher in every step '
      'instead',
    )


def _bytes_per_example(layers: dict[int, methods.Shapes]) -> int:
  """Returns the bytes that the stored features of one example take."""
  return sum(
    compact_arrays.features_dtype(bits).itemsize * int(np.prod(shape))
    for bits, shapes in layers.items()
    for shape in shapes.values()
  )
