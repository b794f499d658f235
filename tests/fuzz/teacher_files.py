"""Files with a teacher's outputs or weights, and how commands read them.

The functions `use_...` write the files if there are none, and read them.
"""

import pathlib

import jax
import numpy as np

from kd_jax import data
from kd_jax.teachers import (
  output_store,
  pretrained,
  sharded_logits,
  user_logits,
)

_LOGITS = np.random.default_rng(0).normal(size=(2000, 10)).astype('f')


def write_logits(folder: pathlib.Path, suffix: str) -> None:
  if suffix == 'npy':
    np.save(folder / 'logits.npy', _LOGITS)
  else:
    np.savez(folder / 'logits.npz', train=_LOGITS, test=_LOGITS[:500])


def read_logits(folder: pathlib.Path, suffix: str) -> dict:
  found = user_logits.load_outputs(
    folder / f'logits.{suffix}', data.load('generated')
  )
  return {split: array.tobytes() for split, array in found.items()}


def are_logits(result: dict) -> None:
  for content in result.values():
    logits = np.frombuffer(content, np.float32).reshape(-1, 10)
    assert np.isfinite(logits).all()


_WEIGHTS = {'params': {'hidden': {'kernel': np.ones((3, 2), 'f')}}}
_MANIFEST = {
  'data': 'mnist',
  'data_digest': 'd',
  'teacher': {'model': {}},
  'training': {},
}
_OUTPUTS = {'train': _LOGITS[:3], 'test': _LOGITS[3:5]}


def write_pretrained(folder: pathlib.Path, has_weights: bool) -> None:
  if has_weights:
    pretrained.write(folder, _MANIFEST, weights=_WEIGHTS)
  else:
    pretrained.write(folder, _MANIFEST, outputs={'unit': _OUTPUTS})


def read_pretrained(folder: pathlib.Path, has_weights: bool) -> bytes:
  manifest = pretrained.read_manifest(folder, 'd')
  if not has_weights:
    logits = pretrained.read_logits(folder, manifest, 'unit')
    assert all(np.isfinite(array).all() for array in logits.values())
    return b''.join(array.tobytes() for array in logits.values())
  found = pretrained.read_weights(folder, manifest, _WEIGHTS)
  (leaf,), (expected,) = jax.tree.leaves(found), jax.tree.leaves(_WEIGHTS)
  assert leaf.shape == expected.shape and leaf.dtype == expected.dtype
  return leaf.tobytes()


def use_stored_outputs(folder: pathlib.Path) -> list[bytes]:
  outputs = output_store.load_or_compute(
    folder, {'weights': 'w'}, lambda: _OUTPUTS
  )
  return [outputs[split].tobytes() for split in ('train', 'test')]


def use_stored_views(folder: pathlib.Path) -> bytes:
  compute = lambda examples, views: (examples + views)[:, None] * np.ones(2)
  store = output_store.ViewOutputs(
    folder / 'views', {'weights': 'w'}, compute, shape=(4, 2, 2)
  )
  return store(np.arange(4), np.arange(4) % 2).tobytes()


def use_shards(folder: pathlib.Path) -> bytes:
  logits = _LOGITS[:600, :3]
  stored = sharded_logits.ShardedLogits(
    folder / 'shards',
    {'weights': 'w'},
    lambda start, stop: logits[start:stop],
    shape=logits.shape,
    shard=256,
  )
  return stored[:].tobytes()
