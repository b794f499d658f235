"""Logits on disk: computed once, read by index, resumed, repaired."""

import functools
import json
import os
import shutil

import numpy as np
import pytest

from kd_jax.runtime import errors
from kd_jax.teachers import sharded_logits
from tests import helpers

LOGITS = np.random.default_rng(0).normal(size=(1000, 3)).astype('f')


def _open(folder, calls, logits=LOGITS, weights='a'):
  def compute(start, stop):
    calls.append((start, stop))
    return logits[start:stop]

  return sharded_logits.ShardedLogits(
    folder, {'weights': weights}, compute, shape=logits.shape, shard=256
  )


def test_logits_on_disk_are_computed_once_and_read_by_index(tmp_path):
  calls = []
  stored = _open(tmp_path / 'x', calls)
  assert calls == [(0, 256), (256, 512), (512, 768), (768, 1000)]
  index = np.array([999, 3, 3, 500])
  np.testing.assert_array_equal(stored[index], LOGITS[index])
  np.testing.assert_array_equal(stored[-5:], LOGITS[-5:])
  assert len(stored) == 1000
  again = _open(tmp_path / 'x', calls)
  assert len(calls) == 4 and again.digest == stored.digest
  np.testing.assert_array_equal(again[:], LOGITS)


def test_logits_of_another_teacher_are_computed_anew(tmp_path):
  first = _open(tmp_path / 'x', [])
  calls = []
  other = _open(tmp_path / 'x', calls, logits=-LOGITS, weights='b')
  assert len(calls) == 4 and other.digest != first.digest
  np.testing.assert_array_equal(other[:], -LOGITS)


@pytest.mark.faults
def test_a_stopped_store_resumes_with_the_next_shard(tmp_path):
  """Storing logits is stopped: it resumes with the next shard."""
  calls = []

  def stop(start, stop):
    if start == 512:
      raise KeyboardInterrupt
    return LOGITS[start:stop]

  open_store = functools.partial(
    sharded_logits.ShardedLogits,
    tmp_path / 'x',
    {'weights': 'a'},
    shape=(1000, 3),
    shard=256,
  )
  with pytest.raises(KeyboardInterrupt):
    open_store(stop)
  np.testing.assert_array_equal(_open(tmp_path / 'x', calls)[:], LOGITS)
  assert calls == [(512, 768), (768, 1000)]


@pytest.mark.faults
def test_logits_that_cannot_be_stored_are_one_clear_error(
  tmp_path, monkeypatch
):
  """No space for the logits: one clear error."""
  # A file replaces the folder. A read-only folder would not stop root.
  _open(tmp_path / 'x', [])
  shutil.rmtree(tmp_path / 'x' / 'logits')
  (tmp_path / 'x' / 'logits').write_text('')
  with pytest.raises(errors.UserError, match='cannot be kept in .*/x'):
    _open(tmp_path / 'x', [])
  full = lambda path: type('Usage', (), {'free': 11_000})
  monkeypatch.setattr(shutil, 'disk_usage', full)
  with pytest.raises(errors.UserError, match='no space left for the teacher'):
    _open(tmp_path / 'y', [])


@pytest.mark.faults
@pytest.mark.parametrize('damage', ['cut', 'flipped', 'missing'])
def test_a_damaged_shard_is_computed_again(tmp_path, damage):
  """A damaged shard of logits: it is computed again."""
  _open(tmp_path / 'x', [])
  files = sorted(
    path
    for path in (tmp_path / 'x' / 'logits').rglob('*')
    if path.is_file() and path.name != 'zarr.json'
  )
  assert len(files) == 4
  if damage == 'cut':
    os.truncate(files[1], 100)
  elif damage == 'flipped':
    helpers.flip_byte(files[1], 0)
  else:
    files[1].unlink()
  calls = []
  np.testing.assert_array_equal(_open(tmp_path / 'x', calls)[:], LOGITS)
  assert calls == [(256, 512)]
  manifest = json.loads((tmp_path / 'x' / 'manifest.json').read_text())
  assert len(manifest['sha256']) == 4
