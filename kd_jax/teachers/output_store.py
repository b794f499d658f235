"""A teacher's outputs: computed once, and found by what determines them.

A store is a folder with a `manifest.json` that holds the identity of the
outputs. A store is used only if its identity is the one that is asked for, and
only those of its files that are sound. `load_or_compute` stores the outputs for
the images themselves, all or nothing; `ViewOutputs` stores the logits for views
of the images, and grows.
"""

import hashlib
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import logging

from kd_jax.runtime import files, host_memory, json_records, processes
from kd_jax.teachers import compact_arrays

Arrays = dict[str, np.ndarray]


def load_or_compute(
  folder: os.PathLike,
  identity: Mapping[str, Any],
  compute: Callable[[], Arrays],
) -> Arrays:
  """Returns a teacher's outputs by name; computes them only if need be.

  Args:
    folder: the store's folder; made if it does not exist.
    identity: JSON values that determine the outputs: digests of the weights and
      the data, the architecture, the preprocessing.
    compute: returns the outputs: logits [N, K] by split, or features [N, ...]
      by layer.
  """
  folder = pathlib.Path(folder)
  names, problem = processes.from_first(lambda: _find(folder, identity))
  if names is not None:
    logging.info('teacher outputs: read from %s', folder)
    return {
      name: np.load(folder / f'{name}.npy', allow_pickle=False)
      for name in names
    }
  logging.info('teacher outputs: computed, because %s', problem)
  outputs = compute()
  # The manifest is written last: without it a folder is no store, whatever else
  # a killed run has left in it.
  files.remove(folder / 'manifest.json')
  digests = {}
  for name, array in outputs.items():
    content = files.npy_content(array)
    files.remove(folder / f'{name}.npy')  # A folder may have taken its place.
    files.write_bytes(folder / f'{name}.npy', content)
    digests[name] = hashlib.sha256(content).hexdigest()
  json_records.write(
    folder / 'manifest.json',
    {json_records.OUTPUTS_IDENTITY: dict(identity), 'sha256': digests},
  )
  return outputs


def _find(
  folder: pathlib.Path, identity: Mapping[str, Any]
) -> tuple[list[str] | None, str]:
  """Returns the names of stored outputs, or None and why they are not used."""
  manifest, problem = json_records.find(
    folder / 'manifest.json', json_records.OUTPUTS, needs_checksum=True
  )
  if problem is not None:
    return None, f'{folder}/manifest.json is damaged: {problem}'
  if manifest is None:
    return None, f'{folder} holds none'
  stored = manifest[json_records.OUTPUTS_IDENTITY]
  differing = sorted(
    key
    for key in stored.keys() | identity.keys()
    if stored.get(key) != identity.get(key)
  )
  if differing:
    return None, f'those in {folder} have another {", ".join(differing)}'
  for name, sha256 in manifest['sha256'].items():
    path = folder / f'{name}.npy'
    if files.file_digest(path) != sha256:
      return None, f'{path} is damaged'
  return list(manifest['sha256']), ''


class ViewOutputs:
  """A teacher's logits for views of images, each computed once.

  The views that an epoch shows are known before the epoch, so that only those
  are computed; a second seed or network finds them stored. A store is a folder
  of float16 arrays: what one call computed is one file, named by the digest of
  its content. A damaged file is removed, and its logits are computed again.

  All values pass through float16, so that a stored value and one just computed
  are equal.
  """

  def __init__(
    self,
    folder: os.PathLike,
    identity: Mapping[str, Any],
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    shape: tuple[int, int, int],
  ):
    """Opens a store, or makes one.

    Args:
      folder: the store's folder; emptied if it has another identity.
      identity: JSON values that determine the logits, those of
        `load_or_compute` and the augmentation.
      compute: maps (indices [M], views [M]) of examples to float32 [M, K].
      shape: (N, V, K): examples, views of each, classes.
    """
    self._folder = pathlib.Path(folder)
    self._compute = compute
    host_memory.check_available(
      math.prod(shape) * np.dtype(np.float16).itemsize,
      'the logits of all views of the images',
      'use config.teacher.live=true, fewer examples or another augmentation',
    )
    self._logits = np.full(shape, np.nan, np.float16)
    self._read_files: set[str] = set()
    with files.locked(self._folder, wait=True):
      stored = json_records.read(
        self._folder / 'manifest.json', json_records.IDENTITY
      )
      if stored != identity:
        files.remove(self._folder)
        files.write_json(self._folder / 'manifest.json', dict(identity))
      self._read_new()

  def _read_new(self) -> None:
    """Reads the files that have come to the store since the last look."""
    for name in processes.from_first(self._sound_new_files):
      part = np.load(self._folder / name, allow_pickle=False)
      self._logits[part['example'], part['view']] = part['logits']
      self._read_files.add(name)

  def _sound_new_files(self) -> list[str]:
    """Returns the names of sound new files, and removes damaged ones."""
    names = []
    for path in sorted(self._folder.glob('*.npy')):
      if path.name in self._read_files:
        continue
      if files.file_digest(path) == path.stem:
        names.append(path.name)
      else:
        logging.warning('teacher outputs: %s is damaged and was removed', path)
        files.remove(path)
    return names

  def __call__(self, examples: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Returns float32 logits [M, K] of views [M] of examples [M]."""
    if self._missing(examples, views).size:
      # Another process may need the same logits: one computes, the other reads.
      with files.locked(self._folder, wait=True):
        self._read_new()
        missing = self._missing(examples, views)
        if missing.size:
          self._add(*missing)
    return self._logits[examples, views].astype(np.float32)

  def _missing(self, examples: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Returns the (example, view) pairs without logits, [2, M'], each once."""
    missing = np.isnan(self._logits[examples, views, 0])
    return np.unique(np.stack([examples, views])[:, missing], axis=1)

  def _add(self, examples: np.ndarray, views: np.ndarray) -> None:
    """Computes logits and adds them to the store as one file."""
    logits = compact_arrays.half_floats(self._compute(examples, views))
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
    content = files.npy_content(part)
    digest = hashlib.sha256(content).hexdigest()
    files.write_bytes(self._folder / f'{digest}.npy', content)
    self._read_files.add(f'{digest}.npy')
