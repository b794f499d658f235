"""Decoded arrays: damaged files are replaced, and never unpickled."""

import numpy as np
import pytest

from kd_jax.data.builtin import prepared_store
from tests.data import toys


def _flip_last_bit(content):
  return content[:-1] + bytes([content[-1] ^ 1])


DAMAGES = {
  'flipped': _flip_last_bit,
  'truncated': lambda content: content[:-1],
  'longer in the header': lambda content: content.replace(b'40,', b'99,', 1),
  'without a magic number': lambda content: content[5:],
  'garbage': lambda content: b'\x80\x04' + bytes(len(content)),
  'zip': lambda content: b'PK\x05\x06' + bytes(18),
  'empty': lambda content: b'',
}


@pytest.mark.faults
@pytest.mark.parametrize('damage', DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize('name', ['train_images', 'train_labels'])
def test_a_damaged_array_is_decoded_again(
  loaded, data_dir, home, caplog, damage, name
):
  """A damaged array of prepared data: it is decoded again."""
  path = home / f'{name}.npy'
  good = path.read_bytes()
  path.write_bytes(damage(good))
  assert path.read_bytes() != good
  toys.assert_has(prepared_store.load(loaded.spec, data_dir, None), loaded)
  (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= 30]
  assert warning.startswith(f'{path}: damaged')
  assert path.read_bytes() == good


def test_a_missing_array_is_decoded_again(loaded, data_dir, home, caplog):
  (home / 'test_labels.npy').unlink()
  toys.assert_has(prepared_store.load(loaded.spec, data_dir, None), loaded)
  assert f'{home / "test_labels.npy"}: missing' in caplog.text


@pytest.mark.faults
def test_arrays_are_never_unpickled(loaded, data_dir, home, tmp_path):
  """An array with a pickle in it: the pickle is never run."""
  trap = tmp_path / 'ran'

  class Trap:
    def __reduce__(self):
      return open, (str(trap), 'w')

  pickled = np.array([Trap()], dtype=object)
  np.save(home / 'train_labels.npy', pickled, allow_pickle=True)
  toys.assert_has(prepared_store.load(loaded.spec, data_dir, None), loaded)
  assert not trap.exists()
