"""A teacher's logits for data that is larger than memory: a sharded array.

The store is a folder with a tensorstore array and a `manifest.json` that holds
the identity of the logits and the digest of each finished shard. An interrupted
computation continues with the next shard; a damaged shard is computed again.
"""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorstore
from absl import logging

from kd_jax.runtime import (
  bars,
  errors,
  files,
  json_records,
  local_paths,
  processes,
)

# Examples in a shard, which is one file, and in a chunk, which is read at once.
SHARD = 65_536
_CHUNK = 256
_CACHE_BYTES = 64 * 2**20


class ShardedLogits:
  """Logits float32 [N, K] in files, read by index.

  Attributes:
    shape: (N, K).
    digest: the digest of their identity; it stands for the logits.
  """

  ndim = 2

  def __init__(
    self,
    folder: os.PathLike,
    identity: Mapping[str, Any],
    compute: Callable[[int, int], np.ndarray],
    *,
    shape: tuple[int, int],
    shard: int = SHARD,
  ):
    """Opens a store, or makes one, and computes the shards that it lacks.

    Args:
      folder: the store's folder; emptied if it has another identity.
      identity: JSON values that determine the logits.
      compute: maps (start, stop) to float32 logits [stop - start, K].
      shape: (N, K): examples and classes.
      shard: examples in a file; a multiple of 256.
    """
    folder = pathlib.Path(folder)
    self.shape = shape
    identity = {**identity, 'shape': list(shape), 'shard': shard}
    self.digest = files.json_digest(identity)
    manifest = json_records.read(
      folder / 'manifest.json', json_records.OUTPUTS, needs_checksum=True
    )
    pipes = processes.from_first(lambda: _find_pipes(folder))
    if pipes:  # tensorstore would wait for one without end.
      logging.warning('%s is no file: the outputs are computed anew', pipes[0])
      manifest = None
    if manifest is None or manifest[json_records.OUTPUTS_IDENTITY] != identity:
      files.remove(folder)
      manifest = {json_records.OUTPUTS_IDENTITY: identity, 'sha256': {}}
      json_records.write(folder / 'manifest.json', manifest)
      # The other processes wait here until the first has made the array.
      processes.from_first(lambda: self._open(folder, shard) and None)
    self._store = self._open(folder, shard)
    self._compute_missing(folder, manifest, compute, shard)

  def _compute_missing(
    self,
    folder: pathlib.Path,
    manifest: dict[str, Any],
    compute: Callable[[int, int], np.ndarray],
    shard: int,
  ) -> None:
    """Computes the shards that are not stored, or damaged."""
    num_examples, num_classes = self.shape
    sound = processes.from_first(lambda: self._sound_shards(manifest, shard))
    starts = [
      start
      for start in range(0, num_examples, shard)
      if str(start) not in sound
    ]
    if starts:
      logging.info('teacher outputs: computed, to be read from %s', folder)
      needed = len(starts) * shard * num_classes * np.dtype('f').itemsize
      processes.from_first(
        lambda: files.check_disk_space(folder, needed, 'the teacher outputs')
      )
    for start in bars.make(
      starts,
      desc='teacher outputs',
      unit='shard',
      disable=not processes.is_first(),
    ):
      stop = min(start + shard, num_examples)
      logits = np.asarray(compute(start, stop), np.float32)
      if processes.is_first():
        with _one_line_errors(folder):
          self._store[start:stop].write(logits).result()
      sound[str(start)] = _shard_digest(logits)
      manifest['sha256'] = sound
      json_records.write(folder / 'manifest.json', manifest)
    # The other processes read only after the first has written everything.
    processes.from_first(lambda: None)

  def _open(self, folder: pathlib.Path, shard: int):
    """Opens the array; the first process makes it if need be."""
    inner = {
      'chunk_shape': [min(_CHUNK, shard), self.shape[1]],
      'codecs': [{'name': 'bytes', 'configuration': {'endian': 'little'}}],
    }
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
    with _one_line_errors(folder):
      return tensorstore.open(
        spec,
        open=True,
        create=processes.is_first(),
        context=tensorstore.Context(
          {'cache_pool': {'total_bytes_limit': _CACHE_BYTES}}
        ),
      ).result()

  def _sound_shards(
    self, manifest: dict[str, Any], shard: int
  ) -> dict[str, str]:
    """Returns the digests of finished and sound shards, by first example."""
    sound = {}
    for start, digest in manifest['sha256'].items():
      try:
        content = self._read(slice(int(start), int(start) + shard))
      except ValueError as error:  # tensorstore's error for a damaged file.
        logging.warning('teacher outputs: %s; computed again', error)
        continue
      if _shard_digest(content) == digest:
        sound[start] = digest
      else:
        logging.warning('teacher outputs: %s is damaged', self._store.spec())
    return sound

  def _read(self, index: slice | np.ndarray) -> np.ndarray:
    if isinstance(index, slice):
      index = slice(*index.indices(len(self)))
    return np.asarray(self._store[index].read().result())

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
    """Reads float32 logits [M, K]."""
    return self._read(index)


def _find_pipes(folder: pathlib.Path) -> list[str]:
  """Returns what lies below a folder and is neither a file nor a folder."""
  return [
    str(path)
    for path in folder.rglob('*')
    if local_paths.irregular_kind(path) not in (None, 'a folder')
  ]


@contextlib.contextmanager
def _one_line_errors(folder: pathlib.Path) -> Iterator[None]:
  """Turns tensorstore's errors into one line.

  tensorstore raises ValueError for a full disk, for a folder that cannot be
  written, and for everything else.

  Raises:
    UserError: instead of a ValueError.
  """
  try:
    yield
  except ValueError as error:
    raise errors.UserError(
      f'the teacher outputs cannot be kept in {folder}: {str(error)[:300]}'
    ) from error


def _shard_digest(logits: np.ndarray) -> str:
  return hashlib.sha256(np.ascontiguousarray(logits).data).hexdigest()
