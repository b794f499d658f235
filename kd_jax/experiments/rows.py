"""The rows of a run: what each trains, and which of them are one training."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.runtime import errors, files
from kd_jax.teachers import array_files
from kd_jax.teachers.teacher import Teacher
from kd_jax.training import context, networks, plan

# Maps a transfer set's name ('' for the training split) to the context and the
# teacher of the students that train on it.
Settings = Callable[[str], tuple[context.Context, Teacher]]


class Row(NamedTuple):
  """A row of a run's table: one student, for several seeds.

  Attributes:
    name: of the row.
    config: closed.
    identity: what determines its students, except for their seed.
    is_live: whether its steps call the teacher.
    trained_as: the name of the first row that is the same training; its own
      name if there is none before it.
  """

  name: str
  config: ConfigDict
  identity: dict[str, Any]
  is_live: bool
  trained_as: str


class Run(NamedTuple):
  """The rows of a run, and where their students are trained.

  Attributes:
    workdir: the run's folder.
    rows: by name, in the order of the config.
    setting: the context and the teacher, by transfer set.
  """

  workdir: pathlib.Path
  rows: dict[str, Row]
  setting: Settings

  def folder(self, row: Row) -> pathlib.Path:
    """Returns the folder of a row's students."""
    return self.workdir / 'students' / row.trained_as


def make_run(
  configs: dict[str, ConfigDict],
  is_live: dict[str, bool],
  contexts: Callable[[str], context.Context],
  teacher: Teacher,
  workdir: pathlib.Path,
) -> Run:
  """Returns the rows of a run, with what determines each.

  Args:
    configs: closed, by row.
    is_live: whether the steps of a row call the teacher, by row.
    contexts: the context of each transfer set, by name.
    teacher: of the run.
    workdir: the run's folder.
  """
  dataset = contexts('').dataset
  digests = {'teacher': teacher.record['outputs']}
  first_with: dict[str, str] = {}
  rows = {}
  for name, config in configs.items():
    identity = config_lib.student_identity(
      config,
      dataset,
      teacher_outputs=_teacher_outputs(config, digests),
      is_live=is_live[name],
    )
    digests[name] = files.digest(identity)
    trained_as = first_with.setdefault(digests[name], name)
    rows[name] = Row(name, config, identity, is_live[name], trained_as)

  @functools.cache
  def setting(transfer_set: str) -> tuple[context.Context, Teacher]:
    run_context = contexts(transfer_set)
    if not transfer_set:
      return run_context, teacher
    shown = teacher.on_transfer_set(transfer_set, run_context.dataset)
    return run_context, shown

  return Run(workdir, rows, setting)


def _teacher_outputs(config: ConfigDict, digests: dict[str, str]) -> Any:
  """Returns what determines the outputs that a row learns from.

  Args:
    config: closed.
    digests: of the teacher's outputs, and of the identities of earlier rows.
  """
  if not config.teacher.rows:
    return digests['teacher']
  return {
    'average': config.teacher.average,
    'of': [digests[row] for row in config.teacher.rows],
  }


def calls_teacher(config: ConfigDict, dataset: data.Dataset) -> bool:
  """Whether a row's steps call the teacher instead of using stored outputs.

  They do if the config says so, if stored features would not fit or would be
  larger than the images on disk, and if features are those of augmented or
  mixed images. Without a distillation loss there is no teacher to call.

  Args:
    config: closed.
    dataset: that the row learns.
  Raises:
    UserError: if a method takes rounded features, which have to be stored.
  """
  if not config_lib.method_options(config.distill):
    return False
  layers = networks.teacher_layers(config, dataset.problem)
  is_augmented = config.train.augmentation != 'none'
  # For data on disk, stored features or views would be larger than the images.
  is_too_large = data.is_on_disk(dataset.train) and (
    bool(layers) or is_augmented
  )
  if config.teacher.live or not (layers or is_too_large):
    return config.teacher.live
  examples = plan.used_examples(config.train, dataset)
  size = len(examples) * sum(
    array_files.features_dtype(bits).itemsize * int(np.prod(shape))
    for bits, shapes in layers.items()
    for shape in shapes.values()
  )
  is_live = (
    is_too_large
    or is_augmented
    or config.train.mixup_alpha > 0
    or size > config.teacher.features_gib * 2**30
  )
  if is_live and any(layers):
    raise errors.UserError(
      f'config.teacher.feature_bits={config.teacher.feature_bits}: features '
      f'of {size / 2**30:.1f} GiB are to be stored, of images as they are: '
      'raise config.teacher.features_gib, choose fewer layers, and leave out '
      'augmentation and mixup'
    )
  return is_live


def check_named_rows(
  config: ConfigDict, configs: dict[str, ConfigDict]
) -> None:
  """Checks the rows that a config names.

  Args:
    config: of the run.
    configs: closed, by row.
  Raises:
    UserError: if a named row does not exist, or teaches a row before itself.
  """
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
