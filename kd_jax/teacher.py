"""Teacher outputs: computed once per data set, stored, and known by content.

A store is a folder of `SPLIT.npy` logits and a `manifest.json` that holds what
they were computed from (the fingerprint) and their digests. It is used only if
both are right.
"""

import hashlib
import os
import pathlib
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import logging

from kd_jax import errors, records

Logits = dict[str, np.ndarray]


def stored_outputs(
  folder: os.PathLike,
  fingerprint: Mapping[str, Any],
  compute: Callable[[], Logits],
) -> Logits:
  """Returns a teacher's logits by split, computing them only if need be.

  Args:
    folder: of the store; made if it is not there.
    fingerprint: JSON values that determine the logits: digests of the weights
      and the data, the architecture, the preprocessing.
    compute: returns float32 logits [N, K] by split.
  """
  folder = pathlib.Path(folder)
  stored, problem = _read(folder, fingerprint)
  if stored is not None:
    logging.info('teacher outputs: read from %s', folder)
    return stored
  logging.info('teacher outputs: computed, because %s', problem)
  outputs = compute()
  # The manifest goes last: without it there is no store, whatever else a
  # killed run has left.
  (folder / 'manifest.json').unlink(missing_ok=True)
  folder.mkdir(parents=True, exist_ok=True)
  digests = {}
  for split, logits in outputs.items():
    _write_array(folder / f'{split}.npy', np.asarray(logits, np.float32))
    digests[split] = _file_digest(folder / f'{split}.npy')
  records.write_json(
    folder / 'manifest.json',
    {'fingerprint': dict(fingerprint), 'sha256': digests},
  )
  return outputs


def _read(
  folder: pathlib.Path, fingerprint: Mapping[str, Any]
) -> tuple[Logits | None, str]:
  """Returns the stored logits, or None and why they cannot be used."""
  manifest = records.read_json(folder / 'manifest.json')
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
  outputs = {}
  for split, sha256 in manifest['sha256'].items():
    path = folder / f'{split}.npy'
    if _file_digest(path) != sha256:
      return None, f'{path} is damaged'
    outputs[split] = np.load(path, allow_pickle=False)
  return outputs, ''


def ship(
  folder: os.PathLike,
  outputs: Mapping[str, Logits],
  manifest: Mapping[str, Any],
) -> None:
  """Writes logits as half floats, small enough to come with a project.

  Args:
    folder: made if it is not there.
    outputs: logits [N, K] by split, by input scaling.
    manifest: JSON values that say what they are of and how they were made.
  Raises:
    UserError: if a logit is beyond the range of half floats.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  digests = {}
  for scaling, logits in outputs.items():
    for split, array in logits.items():
      name = f'{scaling}-{split}.npy'
      if not np.abs(array).max() <= np.finfo(np.float16).max:
        raise errors.UserError(
          f'the teacher has logits of {np.abs(array).max():g}, beyond half '
          'floats: its training diverged; lower its learning rate'
        )
      _write_array(folder / name, array.astype(np.float16))
      digests[name] = _file_digest(folder / name)
  records.write_json(folder / 'manifest.json', {**manifest, 'sha256': digests})


def load_shipped(
  folder: os.PathLike, scaling: str, data_digest: str
) -> tuple[dict[str, Any], Logits]:
  """Returns the manifest and the float32 logits by split that `ship` wrote.

  Raises:
    UserError: if they are not there, damaged, or of other data.
  """
  folder = pathlib.Path(folder)
  manifest = records.read_json(folder / 'manifest.json')
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
  logits = {}
  for split in ('train', 'test'):
    name = f'{scaling}-{split}.npy'
    if name not in manifest['sha256']:
      raise errors.UserError(
        f'config.teacher.outputs_scaling={scaling!r}: {folder} holds '
        f'{", ".join(sorted(manifest["sha256"]))}'
      )
    if _file_digest(folder / name) != manifest['sha256'][name]:
      raise errors.UserError(f'{folder / name} is damaged: restore it')
    logits[split] = np.load(folder / name, allow_pickle=False).astype(
      np.float32
    )
  return manifest, logits


def _write_array(path: pathlib.Path, array: np.ndarray) -> None:
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  with open(temporary, 'wb') as file:
    np.save(file, array)
  os.replace(temporary, path)


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
  path = pathlib.Path(path)
  try:
    content = np.load(path, allow_pickle=False)
  except FileNotFoundError:
    raise errors.UserError(
      f'config.teacher.logits: there is no file {path}'
    ) from None
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise errors.UserError(
      f'config.teacher.logits: {path} is not a .npy or .npz file of numbers: '
      f'{error}'
    ) from None
  if isinstance(content, np.ndarray):
    arrays = {'train': content}
  else:
    with content:
      arrays = {name: content[name] for name in content.files}
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
