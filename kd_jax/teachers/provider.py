"""The teacher that a config asks for: a file, a network, or one to train."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.evaluation import predictors
from kd_jax.models import from_config, user
from kd_jax.runtime import errors, files, run_records
from kd_jax.teachers import pretrained, user_features, user_logits
from kd_jax.teachers import teacher as teacher_lib
from kd_jax.teachers.logit_checks import Logits
from kd_jax.teachers.teacher import Teacher
from kd_jax.teachers.teacher_network import TeacherNetwork
from kd_jax.training import (
  checkpoint,
  context,
  example_source,
  plan,
  train,
  training_folder,
  training_record,
)

PyTree = Any


def with_user_teacher(config: ConfigDict) -> ConfigDict:
  """Returns a config whose teacher's model is what `teacher.module` names."""
  if not config.teacher.module:
    return config
  config = config.copy_and_resolve_references()
  config.teacher.unlock()
  config.teacher.model = ConfigDict(
    dict(
      kind=from_config.USER_TRAINED,
      module=config.teacher.module,
      dtype='float32',
      quantization='float',
      temperature=1.0,
    )
  )
  config.teacher.lock()
  return config


def is_trained_here(section: ConfigDict) -> bool:
  """Returns whether a `teacher` section asks for one that runs train."""
  if section.logits or section.module:
    return False
  return section.retrain or not section.pretrained


def has_only_logits(section: ConfigDict) -> bool:
  """Returns whether a teacher has logits alone, and no network to call."""
  if section.logits:
    return True
  if section.module or is_trained_here(section):
    return False
  return not pretrained.has_weights(section.pretrained)


def get_teacher(
  config: ConfigDict,
  run_context: context.Context,
  teachers_dir: pathlib.Path,
  earlier: Mapping[str, Any] | None = None,
) -> Teacher:
  """Returns a config's teacher, ready to teach.

  Args:
    config: the run's config.
    run_context: the run's context.
    teachers_dir: where teachers and their outputs are kept.
    earlier: the teacher's record in the run that goes on. If that teacher was
      trained, pretrained outputs do not replace it.
  Raises:
    UserError: if the teacher, or its outputs, cannot be had.
  """
  dataset = run_context.dataset
  section = config.teacher
  if section.logits == teacher_lib.NONE:
    return teacher_lib.absent()
  if section.logits:
    return _read_logits_files(section, dataset)
  if section.module:
    return _load_user_teacher(config, dataset, teachers_dir)
  if is_trained_here(section):
    pretrained_name = _find_same_training(config, dataset)
    if pretrained_name is None or (earlier and 'source' not in earlier):
      return _train_or_restore(config, run_context, teachers_dir)
    return _load_same_training(pretrained_name, config, dataset)
  return _load_named(config, dataset, teachers_dir)


def _read_logits_files(section: ConfigDict, dataset: data.Dataset) -> Teacher:
  """Returns the teacher of a user's files of logits."""
  paths = user_logits.file_names(section.logits)
  loaded = [user_logits.load_outputs(path, dataset) for path in paths]
  logits = loaded[0]
  if len(loaded) > 1:
    logits = user_logits.average(loaded, section.average or 'logits')
  record = {'row': 'teacher', 'source': section.logits}
  features = None
  doubts = []
  if section.features:
    features = user_features.open_file(section.features, dataset)
    record['features'] = features.digest
    doubts = user_features.find_mismatches(features, dataset)
  return Teacher(
    teacher_lib.on_device(logits),
    teacher_lib.make_record(record, logits, dataset),
    features=features,
    # The mean of several teachers would hide one that does not fit the data.
    warnings=[
      warning
      for path, outputs in zip(paths, loaded, strict=True)
      for warning in teacher_lib.find_mismatches(outputs, dataset, path)
    ]
    + doubts,
  )


def _load_user_teacher(
  config: ConfigDict, dataset: data.Dataset, teachers_dir: pathlib.Path
) -> Teacher:
  """Returns the trained network that a user's function gives."""
  name = config.teacher.module
  logging.info('teacher: the network that %s returns', name)
  variables = user.load_trained(name).variables
  folder = _folder(teachers_dir, name, config, dataset, variables)
  record = {'row': 'teacher', 'source': name}
  with files.locked(folder, wait=True):
    return _make_network_teacher(config, dataset, folder, variables, record)


def is_ready(
  config: ConfigDict, dataset: data.Dataset, teachers_dir: pathlib.Path
) -> bool:
  """Returns whether a config's teacher needs no training any more."""
  if not is_trained_here(config.teacher) or _find_same_training(
    config, dataset
  ):
    return True
  folder, identity = _training_folder_and_identity(
    config, dataset, teachers_dir
  )
  return training_folder.is_done(folder, identity, config.teacher.seed)


def _training_folder_and_identity(
  config: ConfigDict, dataset: data.Dataset, teachers_dir: pathlib.Path
) -> tuple[pathlib.Path, dict[str, Any]]:
  """Returns the folder and the identity of a teacher that runs train."""
  identity = config_lib.teacher_identity(config, dataset)
  kind = config.teacher.model.kind
  return teachers_dir / _folder_name(dataset, kind, identity), identity


def _train_or_restore(
  config: ConfigDict,
  run_context: context.Context,
  teachers_dir: pathlib.Path,
) -> Teacher:
  """Returns the teacher that the config trains; trains it if need be."""
  dataset = run_context.dataset
  section = config.teacher
  folder, identity = _training_folder_and_identity(
    config, dataset, teachers_dir
  )
  with files.locked(folder, wait=True):
    variables: PyTree | None = None
    record: dict[str, Any] = {}
    if training_folder.is_done(folder, identity, section.seed):
      like = from_config.variables_like(section.model, dataset.task)
      variables = training_folder.restore(folder, like)
      stored = training_folder.read_result(folder)
      assert stored is not None  # See `is_done`.
      record = stored
    if variables is None:
      logging.info('teacher: training it in %s', folder)
      teacher_training = train.make_training(
        config,
        run_context,
        config_lib.teacher_sections(config),
        plan.make_plan(section.train, dataset),
        train.TrainingInfo('teacher', (section.seed,), folder, identity),
      )
      (trained,) = train.run_training(
        teacher_training,
        example_source.TeacherInputs(),
        training_log(folder, run_context.on_epoch),
      )
      record = training_folder.finish(trained, folder, identity)
      variables = trained.variables
    else:
      logging.info('teacher: restored from %s', folder)
    if section.publish_weights:
      variables = pretrained.as_float16(variables)
    return _make_network_teacher(config, dataset, folder, variables, record)


def training_log(
  folder: pathlib.Path,
  on_append: Callable[[dict[str, Any]], None] | None = None,
) -> run_records.MetricsLog:
  """Returns the log of a teacher's training in its folder.

  Args:
    folder: the teacher's folder.
    on_append: called with each new record.
  """
  return run_records.MetricsLog(folder / 'metrics.jsonl', on_append)


def _find_same_training(
  config: ConfigDict, dataset: data.Dataset
) -> str | None:
  """Returns the pretrained outputs of the very training that a config asks for.

  Returns:
    The name of their folder. None if there are none, if a row calls the teacher
    as a network, or if teacher.retrain is true.
  """
  section = config.teacher
  if section.retrain or section.also_outputs:
    return None
  rows = [config_lib.close_row(config, row) for row in config.rows]
  if not rows or any(map(_calls_network, rows)):
    return None
  identity = config_lib.teacher_identity(config, dataset)
  return pretrained.find_outputs(identity, section.outputs_scaling)


def _calls_network(row: ConfigDict) -> bool:
  """Returns whether a row needs more of its teacher than stored logits."""
  return bool(
    row.teacher.live
    or row.eval.attacked_examples
    or row.train.augmentation != 'none'
    or row.train.transfer_set
    or config_lib.uses_features(row.distill)
  )


def _load_same_training(
  name: str, config: ConfigDict, dataset: data.Dataset
) -> Teacher:
  """Returns the teacher of the outputs that `_find_same_training` has found."""
  logging.info(
    'teacher: the outputs in %s; config.teacher.retrain=true trains it', name
  )
  folder = pretrained.teacher_folder(name)
  manifest = pretrained.read_manifest(folder, dataset.digest)
  logits = pretrained.read_logits(
    folder, manifest, config.teacher.outputs_scaling
  )
  return Teacher(
    teacher_lib.on_device(logits),
    teacher_lib.make_record(
      manifest['training'] | {'source': name}, logits, dataset
    ),
  )


def _load_named(
  config: ConfigDict, dataset: data.Dataset, teachers_dir: pathlib.Path
) -> Teacher:
  """Returns the pretrained teacher that `teacher.pretrained` names."""
  section = config.teacher
  folder = pretrained.teacher_folder(section.pretrained)
  manifest = pretrained.read_manifest(folder, dataset.digest)
  recorded = config_lib.rename_fields(manifest['teacher'])['model']
  if not pretrained.is_same_network(
    recorded, config_lib.to_json(section.model)
  ):
    raise errors.UserError(
      f'config.teacher.model is not that of the outputs in {folder}: '
      'config.teacher.retrain=true trains it'
    )
  if pretrained.has_weights(section.pretrained):
    logging.info('teacher: the network in %s', folder)
    variables = pretrained.read_weights(
      folder,
      manifest,
      from_config.variables_like(section.model, dataset.task),
    )
    home = _folder(teachers_dir, section.model.kind, config, dataset, variables)
    with files.locked(home, wait=True):
      return _make_network_teacher(
        config,
        dataset,
        home,
        variables,
        manifest['training'],
        _read_published_outputs(config, dataset, folder, manifest),
      )
  logging.info('teacher: the outputs in %s', folder)
  logits = pretrained.select_examples(
    pretrained.read_logits(folder, manifest, section.outputs_scaling),
    manifest,
    config,
    dataset,
    folder,
  )
  return Teacher(
    teacher_lib.on_device(logits),
    teacher_lib.make_record(manifest['training'], logits, dataset),
  )


def _read_published_outputs(
  config: ConfigDict,
  dataset: data.Dataset,
  folder: pathlib.Path,
  manifest: Mapping[str, Any],
) -> dict[str, Logits]:
  """Returns the outputs beside published weights, by input scaling.

  Outputs in scalings that were not published, or of another part of the data
  set, are left out: the network computes them.

  Raises:
    UserError: if a published file is damaged or missing.
  """
  wanted = (config.teacher.outputs_scaling, *config.teacher.also_outputs)
  found = {}
  for scaling in wanted:
    if pretrained.has_outputs(manifest, scaling):
      logits = pretrained.read_logits(folder, manifest, scaling)
      used = pretrained.find_examples(logits, manifest, config, dataset)
      if used is not None:
        found[scaling] = used
  return found


def _make_network_teacher(
  config: ConfigDict,
  dataset: data.Dataset,
  folder: pathlib.Path,
  variables: PyTree,
  record: dict[str, Any],
  published: Mapping[str, Logits] | None = None,
) -> Teacher:
  """Returns a teacher of a network's outputs, stored in a locked folder.

  Args:
    config: the run's config.
    dataset: the images that the network is shown.
    folder: where its outputs are stored.
    variables: the network's variables.
    record: what is recorded of its training.
    published: outputs that need not be computed, by input scaling.
  """
  section = config.teacher
  attack = predictors.make_attack(
    section.model, dataset.num_classes, section.scaling, config.eval.batch_size
  )
  record = record | training_record.robust_accuracy(
    attack, variables, dataset, config.eval.attacked_examples
  )
  network = TeacherNetwork(config, dataset, variables, folder)
  network.use_logits(published or {})
  logits = network.logits(section.outputs_scaling)
  for scaling in section.also_outputs:
    network.logits(scaling)
  if is_trained_here(section):  # On these labels.
    doubts = teacher_lib.find_unlearned(logits, dataset, config)
  else:
    doubts = teacher_lib.find_mismatches(logits, dataset, 'the teacher')
  return teacher_lib.network_teacher(
    network, teacher_lib.make_record(record, logits, dataset), doubts
  )


def _folder(
  teachers_dir: pathlib.Path,
  kind: str,
  config: ConfigDict,
  dataset: data.Dataset,
  variables: PyTree,
) -> pathlib.Path:
  """Returns the folder of a trained network's outputs on a part of a data set.

  Runs on other parts of the data set use other folders.
  """
  identity = config_lib.outputs_identity(
    config, dataset, checkpoint.tree_digest(variables)
  )
  return teachers_dir / _folder_name(dataset, kind, identity)


def _folder_name(
  dataset: data.Dataset, kind: str, identity: dict[str, Any]
) -> str:
  digest = files.json_digest(identity)[:8]
  # A data set's own files may bring its name.
  return files.as_name(f'{dataset.name}-{kind.replace(":", ".")}-{digest}')
