"""Teacher outputs: computed once per data set, stored, and known by content.

A store is a folder with a `manifest.json` that holds what the outputs were
computed from (the fingerprint); it is used only if that is right, and of its
files those that are whole. Of the images as they are (`stored_outputs`), it is
all or nothing; of views of them (`ViewOutputs`), it grows.
"""

import hashlib
import io
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from kd_jax.runtime import errors, files, processes

Arrays = dict[str, np.ndarray]
PyTree = Any
Logits = Arrays


def stored_outputs(
  folder: os.PathLike,
  fingerprint: Mapping[str, Any],
  compute: Callable[[], Arrays],
) -> Arrays:
  """Returns a teacher's outputs by name, computing them only if need be.

  Args:
    folder: of the store; made if it is not there.
    fingerprint: JSON values that determine the outputs: digests of the weights
      and the data, the architecture, the preprocessing.
    compute: returns them: logits [N, K] by split, or features [N, ...] by
      layer.
  """
  folder = pathlib.Path(folder)
  names, problem = processes.from_first(lambda: _find(folder, fingerprint))
  if names is not None:
    logging.info('teacher outputs: read from %s', folder)
    return {
      name: np.load(folder / f'{name}.npy', allow_pickle=False)
      for name in names
    }
  logging.info('teacher outputs: computed, because %s', problem)
  outputs = compute()
  # The manifest goes last: without it there is no store, whatever else a
  # killed run has left.
  files.remove(folder / 'manifest.json')
  digests = {}
  for name, array in outputs.items():
    content = _npy(array)
    files.write_bytes(folder / f'{name}.npy', content)
    digests[name] = hashlib.sha256(content).hexdigest()
  files.write_json(
    folder / 'manifest.json',
    {'fingerprint': dict(fingerprint), 'sha256': digests},
  )
  return outputs


def _find(
  folder: pathlib.Path, fingerprint: Mapping[str, Any]
) -> tuple[list[str] | None, str]:
  """Returns which outputs are stored, or None and why they cannot be used."""
  manifest = files.read_json(folder / 'manifest.json')
  if manifest is None:
    return None, f'{folder} holds none'
  stored = manifest['fingerprint']
  differing = sorted(
    key
    for key in stored.keys() | fingerprint.keys()
    if stored.get(key) != fingerprint.get(key)
  )
  if differing:
    return None, f'those in {folder} have another {", ".join(differing)}'
  for name, sha256 in manifest['sha256'].items():
    path = folder / f'{name}.npy'
    if _file_digest(path) != sha256:
      return None, f'{path} is damaged'
  return list(manifest['sha256']), ''


class ViewOutputs:
  """A teacher's logits for views of images, each computed once.

  Which views a training sees is known an epoch ahead, so only those are
  computed, and a second seed or network finds them stored. A store is a folder
  of half floats: what one call computed is one file, named by its content. A
  damaged file is removed, and what it held is computed again.

  All values pass through half floats: a stored one and one just computed are
  the same.
  """

  def __init__(
    self,
    folder: os.PathLike,
    fingerprint: Mapping[str, Any],
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    num_examples: int,
    num_views: int,
    num_classes: int,
  ):
    """Opens a store, or makes one.

    Args:
      folder: of the store; emptied if it is of another fingerprint.
      fingerprint: JSON values that determine the logits, as those of
        `stored_outputs`, and the augmentation.
      compute: (indices [M], views [M]) of examples -> float32 [M, K].
      num_examples: N.
      num_views: V.
      num_classes: K.
    """
    self._folder = pathlib.Path(folder)
    self._compute = compute
    self._logits = np.full(
      (num_examples, num_views, num_classes), np.nan, np.float16
    )
    self._read_files: set[str] = set()
    with files.locked(self._folder, wait=True):
      if files.read_json(self._folder / 'manifest.json') != fingerprint:
        files.remove(self._folder)
        files.write_json(self._folder / 'manifest.json', dict(fingerprint))
      self._read_new()

  def _read_new(self) -> None:
    """Reads what has come to the store since it was last looked at."""
    for name in processes.from_first(self._whole):
      part = np.load(self._folder / name, allow_pickle=False)
      self._logits[part['example'], part['view']] = part['logits']
      self._read_files.add(name)

  def _whole(self) -> list[str]:
    """Returns the new files that are whole, by name, and removes others."""
    names = []
    for path in sorted(self._folder.glob('*.npy')):
      if path.name in self._read_files:
        continue
      if _file_digest(path) == path.stem:
        names.append(path.name)
      else:
        logging.warning('teacher outputs: %s is damaged, and removed', path)
        path.unlink()
    return names

  def __call__(self, examples: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Returns float32 logits [M, K] of views [M] of examples [M]."""
    if self._missing(examples, views).size:
      # Another process may need the same: one computes, the other reads.
      with files.locked(self._folder, wait=True):
        self._read_new()
        missing = self._missing(examples, views)
        if missing.size:
          self._add(*missing)
    return self._logits[examples, views].astype(np.float32)

  def _missing(self, examples: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Returns which of these are not there: [2, M'], each once."""
    missing = np.isnan(self._logits[examples, views, 0])
    return np.unique(np.stack([examples, views])[:, missing], axis=1)

  def _add(self, examples: np.ndarray, views: np.ndarray) -> None:
    logits = half_floats(self._compute(examples, views))
    part = np.empty(
      len(examples),
      [
        ('example', np.int32),
        ('view', np.int32),
        ('logits', np.float16, logits.shape[1:]),
      ],
    )
    part['example'], part['view'], part['logits'] = examples, views, logits
    self._logits[examples, views] = logits
    content = _npy(part)
    digest = hashlib.sha256(content).hexdigest()
    files.write_bytes(self._folder / f'{digest}.npy', content)
    self._read_files.add(f'{digest}.npy')


# Of a network that comes with the project, in its folder.
WEIGHTS = 'weights.npz'


def ship(
  folder: os.PathLike,
  outputs: Mapping[str, Logits],
  manifest: Mapping[str, Any],
  weights: PyTree = None,
) -> None:
  """Writes logits as half floats, small enough to come with a project.

  Args:
    folder: made if it is not there.
    outputs: logits [N, K] by split, by input scaling.
    manifest: JSON values that say what they are of and how they were made.
    weights: of the network, to be written in the place of its outputs.
  Raises:
    UserError: if a number is beyond the range of half floats.
  """
  folder = pathlib.Path(folder)
  if weights is None:
    content = {
      f'{scaling}-{split}.npy': _npy(half_floats(array))
      for scaling, logits in outputs.items()
      for split, array in logits.items()
    }
  else:
    file = io.BytesIO()
    flat = jax.tree_util.tree_leaves_with_path(weights)
    np.savez(file, **{_name(path): half_floats(leaf) for path, leaf in flat})
    content = {WEIGHTS: file.getvalue()}
  digests = {}
  for name, written in content.items():
    files.write_bytes(folder / name, written)
    digests[name] = hashlib.sha256(written).hexdigest()
  files.write_json(folder / 'manifest.json', {**manifest, 'sha256': digests})


def shipped_folder(name: str) -> pathlib.Path:
  """Returns the folder of a teacher that comes with the project."""
  return pathlib.Path(__file__).resolve().parents[2] / name


def has_weights(name: str) -> bool:
  """Whether the network itself comes with the project, or outputs alone."""
  return (shipped_folder(name) / WEIGHTS).is_file()


def shipped_manifest(folder: pathlib.Path, data_digest: str) -> dict[str, Any]:
  """Returns the manifest that `ship` wrote.

  Raises:
    UserError: if it is not there, or of other data.
  """
  manifest = files.read_json(folder / 'manifest.json')
  if manifest is None:
    raise errors.UserError(
      f'config.teacher.shipped: {folder} holds no outputs; '
      'config.teacher.retrain=true trains the teacher'
    )
  if manifest['data_digest'] != data_digest:
    raise errors.UserError(
      f'config.teacher.shipped: the outputs in {folder} are of other data '
      f'({manifest["data"]}, {manifest["data_digest"][:8]}, not '
      f'{data_digest[:8]}); config.teacher.retrain=true trains the teacher'
    )
  return manifest


def shipped_logits(
  folder: pathlib.Path, manifest: Mapping[str, Any], scaling: str
) -> Logits:
  """Returns the float32 logits by split that `ship` wrote.

  Raises:
    UserError: if they are not there, or damaged.
  """
  if f'{scaling}-train.npy' not in manifest['sha256']:
    raise errors.UserError(
      f'config.teacher.outputs_scaling={scaling!r}: {folder} holds '
      f'{", ".join(sorted(manifest["sha256"]))}'
    )
  return {
    split: _shipped_file(folder, manifest, f'{scaling}-{split}.npy').astype(
      np.float32
    )
    for split in ('train', 'test')
  }


def shipped_weights(
  folder: pathlib.Path, manifest: Mapping[str, Any], like: PyTree
) -> PyTree:
  """Returns the float32 variables that `ship` wrote.

  Args:
    folder: of the teacher.
    manifest: of it.
    like: a tree of the same structure.
  Raises:
    UserError: if they are damaged.
  """
  with _shipped_file(folder, manifest, WEIGHTS) as arrays:
    return jax.tree_util.tree_map_with_path(
      lambda path, leaf: arrays[_name(path)].astype(np.float32), like
    )


def _name(path: Sequence[Any]) -> str:
  return '/'.join(key.key for key in path)


def _shipped_file(folder: pathlib.Path, manifest: Mapping[str, Any], name: str):
  if _file_digest(folder / name) != manifest['sha256'][name]:
    raise errors.UserError(f'{folder / name} is damaged: restore it')
  return np.load(folder / name, allow_pickle=False)


def _mean_logits(logits: np.ndarray) -> np.ndarray:
  return np.mean(logits, axis=0)


def _log_mean_probabilities(logits: np.ndarray) -> np.ndarray:
  log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
  return np.logaddexp.reduce(log_p, axis=0) - np.log(len(logits))


# From float [T, N, K] logits of T teachers to logits [N, K].
AVERAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'logits': _mean_logits,
  'probabilities': _log_mean_probabilities,
}


def average(teachers: Sequence[Logits], how: str) -> Logits:
  """Returns the logits by split of an ensemble, of the splits that all have.

  Args:
    teachers: logits [N, K] by split of each.
    how: a name in AVERAGES.
  """
  splits = set.intersection(*(set(teacher) for teacher in teachers))
  return {
    split: AVERAGES[how](
      np.stack([np.asarray(teacher[split]) for teacher in teachers])
    ).astype(np.float32)
    for split in sorted(splits)
  }


def rounded(variables: PyTree) -> PyTree:
  """Returns a network as `ship` writes and `shipped_weights` reads it."""
  return jax.tree.map(
    lambda leaf: half_floats(np.asarray(leaf)).astype(np.float32), variables
  )


def half_floats(outputs: np.ndarray) -> np.ndarray:
  """Returns outputs as float16, or refuses those beyond its range."""
  largest = np.abs(outputs).max()
  if not largest <= np.finfo(np.float16).max:
    raise errors.UserError(
      f'the teacher has outputs of {largest:g}, beyond half floats: its '
      'training diverged; lower its learning rate'
    )
  return np.asarray(outputs, np.float16)


def features_dtype(bits: int) -> np.dtype:
  """Returns the type that features of so many bits are stored in.

  Half floats for 0; whole numbers of up to 8 and up to 16 bits otherwise.
  """
  if not bits:
    return np.dtype(np.float16)
  return np.dtype(np.uint8 if bits <= 8 else np.uint16)


def whole_numbers(
  features: np.ndarray, bits: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns features, 0 and above, as whole levels, and what the last one is.

  Args:
    features: [N, ...].
    bits: 1 to 16: the levels are 0, ..., 2^bits - 1, the last the largest.
  Raises:
    UserError: if a feature is below 0, or not finite.
  """
  if not np.min(features) >= 0 or not np.isfinite(np.max(features)):
    raise errors.UserError(
      'config.teacher.feature_bits: the layer has features from '
      f'{np.min(features):g} to {np.max(features):g}; expected finite ones of '
      'at least 0, as behind a ReLU'
    )
  largest = np.max(features).astype(np.float32)
  levels = 2**bits - 1
  units = features / largest if largest > 0 else features
  return np.rint(units * levels).astype(features_dtype(bits)), largest


def _npy(array: np.ndarray) -> bytes:
  """An array as the content of a .npy file."""
  content = io.BytesIO()
  np.save(content, array)
  return content.getvalue()


def _file_digest(path: pathlib.Path) -> str:
  """sha256 of a file, or '' if there is none."""
  if not path.exists():
    return ''
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def load_outputs(
  path: os.PathLike, lengths: Mapping[str, int], num_classes: int
) -> Logits:
  """Returns logits that anything else has made.

  Args:
    path: a .npy file of the training split's logits, or a .npz file with
      arrays 'train' and, if evaluation is to compare with it, 'test'.
    lengths: examples of each split, by name.
    num_classes: K.
  Returns:
    float32 logits [N, K] by split: 'train', and 'test' where given.
  Raises:
    UserError: if the file cannot be read or does not fit the data.
  """
  path = pathlib.Path(path).expanduser()
  try:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
      arrays = {'train': content}
    else:
      with content:
        arrays = {name: content[name] for name in content.files}
  except FileNotFoundError:
    raise errors.UserError(
      f'config.teacher.logits: there is no file {path}'
    ) from None
  except Exception as error:  # Of NumPy, zipfile, zlib: each has its own.
    raise errors.UserError(
      f'config.teacher.logits: {path} is not a .npy or .npz file of numbers: '
      f'{str(error) or type(error).__name__}'
    ) from None
  if 'train' not in arrays or not arrays.keys() <= lengths.keys():
    raise errors.UserError(
      f'config.teacher.logits: {path} holds {sorted(arrays)}; expected '
      "'train' and perhaps 'test'"
    )
  for split, array in arrays.items():
    expected = (lengths[split], num_classes)
    if array.shape != expected:
      raise errors.UserError(
        f'config.teacher.logits: {split} logits of {path} have shape '
        f'{array.shape}; the {split} split needs {expected}'
      )
    if not np.issubdtype(array.dtype, np.floating):
      raise errors.UserError(
        f'config.teacher.logits: {split} logits of {path} are '
        f'{array.dtype}; expected floating-point logits'
      )
    if not np.isfinite(array).all():
      raise errors.UserError(
        f'config.teacher.logits: {split} logits of {path} are not all finite'
      )
  return {split: array.astype(np.float32) for split, array in arrays.items()}
