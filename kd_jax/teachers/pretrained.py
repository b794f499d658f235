"""Pretrained teachers: folders with weights or with outputs, in teachers/."""

import hashlib
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.data import selection
from kd_jax.data.user_data import npz_files
from kd_jax.runtime import errors, files, json_records, project_files
from kd_jax.teachers import compact_arrays, logit_checks
from kd_jax.teachers.logit_checks import Logits

PyTree = Any
# The file of the weights, in a teacher's folder.
WEIGHTS = 'weights.npz'
# Fields of a model section that say how a network was trained.
_TRAINING_FIELDS = ('stem_init', 'conv_init', 'zero_init', 'dtype')


def teacher_folder(name: str) -> pathlib.Path:
  """Returns the folder of a pretrained teacher.

  Raises:
    UserError: if the installed package leaves the teacher out.
  """
  folder = project_files.root() / name
  if project_files.checkout() is None and not folder.is_dir():
    raise errors.UserError(
      f'config.teacher.pretrained={name!r}: the installed package does not '
      'have this folder, because it leaves out weights of 5 MB or more: run '
      'the recipe with launch.py in a clone of the source code, or train the '
      'teacher with config.teacher.retrain=true'
    )
  return folder


def with_network(config: ConfigDict) -> ConfigDict:
  """Returns a config that describes the pretrained teacher that it names.

  A recipe's own teacher may be another network, or may have been trained with
  inputs of another scaling. The type of the computation stays the config's.

  Args:
    config: a config from configs/.
  Returns:
    The same config if its teacher is not pretrained, if it describes that
    teacher already, or if there is no sound manifest (`read_manifest` then
    raises an error).
  Raises:
    UserError: if the installed package leaves the teacher out.
  """
  section = config.teacher
  if section.logits or section.module or section.retrain:
    return config
  manifest = _find_manifest(section.pretrained)
  if manifest is None:
    return config
  recorded = config_lib.rename_fields(manifest['teacher'])
  scaling = recorded.get('scaling', section.scaling)
  is_same = is_same_network(
    recorded['model'], config_lib.to_json(section.model)
  )
  if is_same and scaling == section.scaling:
    return config
  config = config.copy_and_resolve_references()
  config.teacher.scaling = scaling
  if not is_same:
    logging.info('teacher: its network is that of %s', section.pretrained)
    config.teacher.unlock()
    config.teacher.model = config_lib.from_json(
      _with_younger_fields(recorded['model']) | {'dtype': section.model.dtype}
    )
    config.teacher.lock()
  return config


def _find_manifest(name: str) -> dict[str, Any] | None:
  """Returns the manifest of a pretrained teacher; None if it is not sound."""
  if not name:
    return None
  manifest, problem = json_records.find(
    teacher_folder(name) / 'manifest.json', json_records.PRETRAINED
  )
  return None if problem else manifest


def find_outputs(identity: Mapping[str, Any], scaling: str) -> str | None:
  """Returns the name of the pretrained outputs of a training, if there are any.

  Args:
    identity: what determines the training, see `config.teacher_identity`.
    scaling: the input scaling of the outputs.
  """
  for path in sorted(teacher_folder('teachers').glob('*/manifest.json')):
    manifest, problem = json_records.find(path, json_records.PRETRAINED)
    if (
      manifest is not None
      and problem is None
      and manifest.get('identity') == identity
      and has_outputs(manifest, scaling)
    ):
      return f'teachers/{path.parent.name}'
  return None


def has_weights(name: str) -> bool:
  """Returns whether a pretrained teacher has weights, not outputs alone."""
  return (teacher_folder(name) / WEIGHTS).is_file()


def has_outputs(manifest: Mapping[str, Any], scaling: str) -> bool:
  """Returns whether a pretrained teacher has outputs for an input scaling."""
  return f'{scaling}-train.npy' in manifest['sha256']


def write(
  folder: pathlib.Path,
  manifest: Mapping[str, Any],
  *,
  outputs: Mapping[str, Logits] | None = None,
  weights: PyTree = None,
) -> None:
  """Writes a teacher's outputs and weights as float16, small enough to publish.

  Args:
    folder: made if it does not exist.
    manifest: JSON values that say what the files hold and how they were made.
    outputs: logits [N, K] by split, by input scaling; None for none.
    weights: the network's variables; None for none.
  Raises:
    UserError: if a number is beyond the range of float16.
  """
  contents = {
    f'{scaling}-{split}.npy': files.npy_content(
      compact_arrays.half_floats(array)
    )
    for scaling, logits in (outputs or {}).items()
    for split, array in logits.items()
  }
  if weights is not None:
    contents[WEIGHTS] = _npz_content(weights)
  digests = {}
  for name, content in contents.items():
    files.write_bytes(folder / name, content)
    digests[name] = hashlib.sha256(content).hexdigest()
  json_records.write(folder / 'manifest.json', {**manifest, 'sha256': digests})


def _npz_content(weights: PyTree) -> bytes:
  content = io.BytesIO()
  leaves = jax.tree_util.tree_leaves_with_path(weights)
  arrays: dict[str, Any] = {
    _name(path): compact_arrays.half_floats(leaf) for path, leaf in leaves
  }
  np.savez(content, **arrays)
  return content.getvalue()


def _name(path: Sequence[Any]) -> str:
  return '/'.join(key.key for key in path)


def read_manifest(folder: pathlib.Path, data_digest: str) -> dict[str, Any]:
  """Returns the manifest of a teacher's folder.

  Args:
    folder: the teacher's folder.
    data_digest: the digest of the data that the students learn.
  Raises:
    UserError: if the folder has no sound manifest, or one of other data.
  """
  path = folder / 'manifest.json'
  manifest, problem = json_records.find(path, json_records.PRETRAINED)
  if manifest is None or problem is not None:
    raise errors.UserError(
      f'config.teacher.pretrained: {folder} holds no sound manifest.json '
      f'({problem or "it is missing"}); '
      'config.teacher.retrain=true trains the teacher'
    )
  if manifest['data_digest'] != data_digest:
    raise errors.UserError(
      f'config.teacher.pretrained: the outputs in {folder} are of other data '
      f'({manifest["data"]}, {manifest["data_digest"][:8]}, not '
      f'{data_digest[:8]}); config.teacher.retrain=true trains the teacher'
    )
  return manifest


def is_same_network(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
  """Returns whether two recorded model sections make the same network."""
  a, b = (
    {
      key: value
      for key, value in _with_younger_fields(model).items()
      if key not in _TRAINING_FIELDS
    }
    for model in (a, b)
  )
  return a == b


def _with_younger_fields(model: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a model section with the fields that older manifests lack."""
  younger = {'quantization': 'float'}
  if model['kind'] == 'resnet':
    younger['head_pool'] = 'mean'
  return {**younger, **config_lib.rename_fields(model)}


def read_logits(
  folder: pathlib.Path, manifest: Mapping[str, Any], scaling: str
) -> Logits:
  """Returns the float32 logits [N, K] by split for a scaling of the inputs.

  Raises:
    UserError: if the folder has no logits for the scaling, or damaged ones.
  """
  if not has_outputs(manifest, scaling):
    raise errors.UserError(
      f'config.teacher.outputs_scaling={scaling!r}: {folder} holds '
      f'{", ".join(sorted(manifest["sha256"]))}'
    )
  logits = {}
  for split in ('train', 'test'):
    name = f'{scaling}-{split}.npy'
    array = _read(folder, manifest, name)
    if getattr(array, 'ndim', 0) != 2:
      raise errors.UserError(f'{folder / name} holds no logits [N, K]')
    logits[split] = logit_checks.as_logits(array, f'{folder / name}')
  return logits


def select_examples(
  logits: Logits,
  manifest: Mapping[str, Any],
  config: ConfigDict,
  dataset: data.Dataset,
  folder: pathlib.Path,
) -> Logits:
  """Returns the logits of the examples that a config uses.

  Args:
    logits: [N, K] by split, in the order of the data set.
    manifest: the manifest beside them.
    config: the run's config.
    dataset: the part of the data set that the config uses.
    folder: the folder of the logits, for error messages.
  Raises:
    UserError: if the logits are of another part of the data set.
  """
  for split, array in logits.items():
    if array.shape[1] != dataset.num_classes:
      raise errors.UserError(
        f'config.teacher.pretrained: the {split} logits in {folder} have '
        f'{array.shape[1]} classes; {dataset.name} has {dataset.num_classes}'
      )
  found = find_examples(logits, manifest, config, dataset)
  if found is None:
    raise errors.UserError(
      f'config.teacher.pretrained: {folder} holds outputs for a part of '
      f'{dataset.name}: publish them without data.holdout_examples, '
      'train_examples and test_examples, or set config.teacher.retrain=true'
    )
  return found


def find_examples(
  logits: Logits,
  manifest: Mapping[str, Any],
  config: ConfigDict,
  dataset: data.Dataset,
) -> Logits | None:
  """Returns the logits of the examples that a config uses.

  Args:
    logits: [N, K] by split, in the order of the data set.
    manifest: the manifest beside them.
    config: the run's config.
    dataset: the part of the data set that the config uses.
  Returns:
    Logits by split; None if those given are of another part of the data set.
  """
  published = manifest.get('identity', {}).get('data', {})
  if published.get('holdout_examples'):
    return None  # The last training images stood in for the test split.
  train, test = logits['train'], logits['test']
  needed = {split: len(getattr(dataset, split).labels) for split in data.SPLITS}
  # The examples at the end of the training split are those of the whole split.
  origin = dataset.train.origin
  held_out = selection.count_held_out(
    config.data, len(train) if origin is None else origin.size
  )
  whole = not held_out or (origin is not None and len(train) == origin.size)
  if held_out:
    train, test = train[:-held_out], train[-held_out:]
  if not whole or len(train) < needed['train'] or len(test) < needed['test']:
    return None
  return {'train': train[: needed['train']], 'test': test[: needed['test']]}


def read_weights(
  folder: pathlib.Path, manifest: Mapping[str, Any], like: PyTree
) -> PyTree:
  """Returns the network's float32 variables.

  Args:
    folder: the teacher's folder.
    manifest: the teacher's manifest.
    like: a tree of the same structure.
  Raises:
    UserError: if the weights are damaged, or are those of another network.
  """
  arrays = _read(folder, manifest, WEIGHTS)

  def leaf_of(path: Sequence[Any], leaf: Any) -> np.ndarray:
    name = _name(path)
    try:
      array = npz_files.array_of(arrays, name).astype(np.float32)
    except errors.BAD_VALUES as error:
      raise _other_network(folder, name, str(error)) from error
    if array.shape != np.shape(leaf):
      raise _other_network(folder, name, f'its shape is {array.shape}')
    if not np.isfinite(array).all():
      raise _other_network(folder, name, 'it is not finite')
    return array

  return jax.tree_util.tree_map_with_path(leaf_of, like)


def _other_network(
  folder: pathlib.Path, name: str, reason: str
) -> errors.UserError:
  return errors.UserError(
    f'{folder / WEIGHTS} holds no {name} for the network of its manifest '
    f'({reason}): restore the folder'
  )


def _read(folder: pathlib.Path, manifest: Mapping[str, Any], name: str):
  """Returns what a file of NumPy holds, after a look at its digest."""
  digest = manifest['sha256'].get(name)
  if digest is None or files.file_digest(folder / name) != digest:
    raise errors.UserError(f'{folder / name} is damaged: restore it')
  try:
    return np.load(folder / name, allow_pickle=False)
  except Exception as error:  # NumPy and zipfile raise many types.
    raise errors.UserError(
      f'{folder / name} is no file of numbers ({error}): restore it'
    ) from error


def as_float16(variables: PyTree) -> PyTree:
  """Rounds variables to float16 and back, as publishing does."""
  return jax.tree.map(
    lambda leaf: compact_arrays.half_floats(np.asarray(leaf)).astype(
      np.float32
    ),
    variables,
  )
