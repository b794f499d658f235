"""A teacher's logits for data that is larger than memory: a sharded array.

It is a folder with an array of tensorstore's and a `manifest.json` that holds
what the logits were computed from and the digest of each shard that is done.
What was stopped goes on with the next shard; one that is damaged is computed
again.
"""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorstore
import tqdm
from absl import logging

from kd_jax.runtime import errors, files, processes

# Examples of a shard, which is a file, and of what is read of it at once.
SHARD = 65_536
_CHUNK = 256
_CACHE_BYTES = 64 * 2**20


class Logits:
  """Logits float32 [N, K] in files, read by index.

  Attributes:
    shape: (N, K).
    digest: of what they were computed from; they stand for it.
  """

  ndim = 2

  def __init__(
    self,
    folder: os.PathLike,
    fingerprint: Mapping[str, Any],
    compute: Callable[[int, int], np.ndarray],
    *,
    num_examples: int,
    num_classes: int,
    shard: int = SHARD,
  ):
    """Opens a store, or makes one, and computes what is missing of it.

    Args:
      folder: of the store; emptied if it is of another fingerprint.
      fingerprint: JSON values that determine the logits.
      compute: (start, stop) -> float32 [stop - start, K] of those examples.
      num_examples: N.
      num_classes: K.
      shard: examples of a file; a multiple of 256.
    """
    folder = pathlib.Path(folder)
    self.shape = (num_examples, num_classes)
    fingerprint = {**fingerprint, 'shape': list(self.shape), 'shard': shard}
    self.digest = files.digest(fingerprint)
    manifest = files.read_json(folder / 'manifest.json')
    if manifest is None or manifest['fingerprint'] != fingerprint:
      files.remove(folder)
      manifest = {'fingerprint': fingerprint, 'sha256': {}}
      files.write_json(folder / 'manifest.json', manifest)
      # All wait for it, in whatever order they come here.
      processes.from_first(lambda: self._open(folder, shard) and None)
    self._store = self._open(folder, shard)
    whole = processes.from_first(lambda: self._whole(manifest, shard))
    starts = [
      start
      for start in range(0, num_examples, shard)
      if str(start) not in whole
    ]
    if starts:
      logging.info('teacher outputs: computed, to be read from %s', folder)
      needed = len(starts) * shard * num_classes * np.dtype('f').itemsize
      processes.from_first(
        lambda: files.check_disk_space(folder, needed, 'the teacher outputs')
      )
    for start in tqdm.tqdm(
      starts, 'teacher outputs', unit='shard', disable=None, leave=False
    ):
      stop = min(start + shard, num_examples)
      logits = np.asarray(compute(start, stop), np.float32)
      if processes.is_first():
        with _naming(folder):
          self._store[start:stop].write(logits).result()
      whole[str(start)] = _digest(logits)
      manifest['sha256'] = whole
      files.write_json(folder / 'manifest.json', manifest)
    # Others read what the first has written.
    processes.from_first(lambda: None)

  def _open(self, folder: pathlib.Path, shard: int):
    inner = {'chunk_shape': [min(_CHUNK, shard), self.shape[1]]}
    inner['codecs'] = [{'name': 'bytes', 'configuration': {'endian': 'little'}}]
    spec = {
      'driver': 'zarr3',
      'kvstore': {'driver': 'file', 'path': f'{folder.absolute()}/logits'},
      'metadata': {
        'shape': list(self.shape),
        'data_type': 'float32',
        'chunk_grid': {
          'name': 'regular',
          'configuration': {'chunk_shape': [shard, self.shape[1]]},
        },
        'codecs': [{'name': 'sharding_indexed', 'configuration': inner}],
      },
    }
    with _naming(folder):
      return tensorstore.open(
        spec,
        open=True,
        create=processes.is_first(),
        context=tensorstore.Context(
          {'cache_pool': {'total_bytes_limit': _CACHE_BYTES}}
        ),
      ).result()

  def _whole(self, manifest: dict[str, Any], shard: int) -> dict[str, str]:
    """Returns the digests of the shards that are done and sound, by start."""
    whole = {}
    for start, digest in manifest['sha256'].items():
      try:
        content = self._read(slice(int(start), int(start) + shard))
      except ValueError as error:  # So tensorstore says that a file is damaged.
        logging.warning('teacher outputs: %s; computed again', error)
        continue
      if _digest(content) == digest:
        whole[start] = digest
      else:
        logging.warning('teacher outputs: %s is damaged', self._store.spec())
    return whole

  def _read(self, index: slice | np.ndarray) -> np.ndarray:
    if isinstance(index, slice):
      index = slice(*index.indices(len(self)))
    return np.asarray(self._store[index].read().result())

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
    """Reads logits float32 [M, K]."""
    return self._read(index)


@contextlib.contextmanager
def _naming(folder: pathlib.Path) -> Iterator[None]:
  """Has what tensorstore cannot do told in a line.

  Raises:
    UserError: in the place of its ValueError, which it has for a full disk, a
      folder that is not to be written, and all else.
  """
  try:
    yield
  except ValueError as error:
    raise errors.UserError(
      f'the teacher outputs cannot be kept in {folder}: {str(error)[:300]}'
    ) from error


def _digest(logits: np.ndarray) -> str:
  return hashlib.sha256(np.ascontiguousarray(logits)).hexdigest()
