"""The data folder: first load, damage, locks, and folders of the user.

Also tests `kd_jax/data/preparation_lock.py`.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from kd_jax.data import preparation_lock
from kd_jax.data.builtin import prepared_store, tfds_builder, tfds_canonical
from kd_jax.data.dataset import DataError
from tests.data import tfds_toys, toys

ROOT = pathlib.Path(prepared_store.__file__).parents[3]


# First load


@pytest.mark.parametrize('make', [toys.idx_toy, toys.batches_toy])
def test_first_load_prepares_and_the_next_needs_no_source(data_dir, make):
  toy = make()
  spec = toys.with_sources(toy, toys.FakeSource('web', toy.files))
  first = prepared_store.load(spec, data_dir, None)
  toys.assert_has(first, toy)
  home = data_dir / toy.spec.name / '0.1.0'
  assert len(list(home.glob('*.array_record-*'))) == 2
  assert len(list(home.glob('*.npy'))) == 4
  mark = json.loads((home / 'made_by_kd_jax.json').read_text())
  assert mark == {'source': 'web'}
  left = {p.name for p in (data_dir / '.kd_jax').iterdir()}
  assert left == {f'{toy.spec.name}.lock'}  # Downloads are removed.
  before = toys.snapshot(data_dir)
  second = prepared_store.load(toy.spec, data_dir, None)
  toys.assert_has(second, toy)
  assert second.digest == first.digest
  assert toys.snapshot(data_dir) == before


def test_a_folder_of_the_user_in_the_way_is_not_changed(
  idx_toy, data_dir, home
):
  user_folder = tfds_toys.official(toys.idx_toy(seed=1), data_dir)
  user_folder.rename(home)
  before = toys.snapshot(home)
  spec = toys.with_sources(idx_toy, toys.FakeSource('web', idx_toy.files))
  with pytest.raises(DataError, match='in the way') as caught:
    prepared_store.load(spec, data_dir, None)
  assert str(home) in str(caught.value)
  assert '--data_dir=' in str(caught.value)
  assert toys.snapshot(home) == before


# Damage


def _damage_records(home):
  (path,) = home.glob('*-train.array_record-*')
  path.write_bytes(toys.flipped(path.read_bytes()[:70_000]))


@pytest.mark.parametrize(
  'spoil',
  [
    _damage_records,
    lambda home: (home / 'dataset_info.json').write_text('{'),
    lambda home: (home / 'features.json').unlink(),
  ],
  ids=['records', 'metadata', 'features'],
)
def test_damaged_records_are_prepared_again(
  loaded, data_dir, home, caplog, spoil
):
  good = {p.name for p in home.iterdir()}
  (home / 'train_images.npy').unlink()
  spoil(home)
  spec = toys.with_sources(loaded, toys.FakeSource('web again', loaded.files))
  toys.assert_has(prepared_store.load(spec, data_dir, None), loaded)
  assert f'{home}: damaged (' in caplog.text
  assert f'{home}: removed, because it was damaged' in caplog.text
  assert {p.name for p in home.iterdir()} == good
  assert 'web again' in (home / 'made_by_kd_jax.json').read_text()
  # The new folder is intact: the arrays can be decoded from it again.
  (home / 'train_images.npy').unlink()
  toys.assert_has(prepared_store.load(loaded.spec, data_dir, None), loaded)


def test_records_of_other_data_are_prepared_again(loaded, data_dir, home):
  other = tfds_builder.prepare(
    loaded.spec, toys.idx_toy(seed=1).arrays, data_dir / 'other'
  )
  for path in other.glob('*.array_record-*'):
    path.replace(home / path.name)
  (home / 'train_images.npy').unlink()
  with pytest.raises(DataError, match='not found in any location'):
    prepared_store.load(loaded.spec, data_dir, None)
  spec = toys.with_sources(loaded, toys.FakeSource('web', loaded.files))
  toys.assert_has(prepared_store.load(spec, data_dir, None), loaded)


def test_damaged_records_without_a_source_are_an_error(loaded, data_dir, home):
  damaged = home / 'train_images.npy'
  damaged.write_bytes(toys.flipped(damaged.read_bytes()))
  _damage_records(home)
  spec = toys.with_sources(
    loaded, toys.FakeSource('web', error=DataError('no answer'))
  )
  with pytest.raises(DataError, match='- web: no answer'):
    prepared_store.load(spec, data_dir, None)
  assert not damaged.exists()


# Folders that cannot be written


def test_a_folder_that_cannot_be_written_is_an_error(idx_toy, tmp_path):
  (tmp_path / 'file').write_text('')
  data_dir = tmp_path / 'file' / 'data'
  spec = toys.with_sources(idx_toy, toys.FakeSource('web', idx_toy.files))
  with pytest.raises(DataError, match='cannot be written') as caught:
    prepared_store.load(spec, data_dir, None)
  assert str(data_dir) in str(caught.value)
  assert '--data_dir=' in str(caught.value)


def test_local_data_is_used_if_the_folder_cannot_be_written(
  idx_toy, data_dir, caplog
):
  tfds_toys.official(idx_toy, data_dir)
  # A file prevents kd_jax from creating the folder of this name.
  (data_dir / '.kd_jax').write_text('')
  before = toys.snapshot(data_dir)
  toys.assert_has(prepared_store.load(idx_toy.spec, data_dir, None), idx_toy)
  assert 'cannot be written' in caplog.text
  assert toys.snapshot(data_dir) == before


# Processes

_LOAD = """
import dataclasses, pathlib, sys, time
from kd_jax.data.builtin import prepared_store
from tests.data import toys

class Slow(toys.FakeSource):
  def fetch(self, folder):
    super().fetch(folder)
    (folder / 'half').write_bytes(bytes(100))
    time.sleep(float(sys.argv[3]))

toy = toys.idx_toy()
source = Slow('web', toy.files, log=pathlib.Path(sys.argv[2]))
spec = dataclasses.replace(toy.spec, sources=(source,))
print(prepared_store.load(spec, pathlib.Path(sys.argv[1]), None).digest)
"""


def _start(data_dir, log, delay_s):
  return subprocess.Popen(
    [sys.executable, '-c', _LOAD, str(data_dir), str(log), str(delay_s)],
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _wait_for(path, process):
  for _ in range(600):
    if path.exists():
      return
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.05)
  pytest.fail(f'{path} was not created')


def test_two_simultaneous_processes_fetch_once(idx_toy, data_dir, tmp_path):
  log = tmp_path / 'log'
  processes = [_start(data_dir, log, 0.5) for _ in range(2)]
  results = [process.communicate(timeout=60) for process in processes]
  assert [p.returncode for p in processes] == [0, 0], results
  digests = {stdout for stdout, _ in results}
  expected = prepared_store.load(idx_toy.spec, data_dir, None).digest
  assert digests == {f'{expected}\n'}
  assert log.read_text() == 'web\n'  # Fetched once, by the first process.


def test_the_array_of_another_process_is_used(
  loaded, data_dir, home, monkeypatch
):
  """Loads while another process, which holds the lock, restores the array."""
  path = home / 'test_images.npy'
  intact = path.read_bytes()
  path.unlink()
  hold = preparation_lock.hold

  @contextlib.contextmanager
  def wait_for_the_other_process(*args):
    with hold(*args) as lock_dir:
      path.write_bytes(intact)
      yield lock_dir

  monkeypatch.setattr(preparation_lock, 'hold', wait_for_the_other_process)
  monkeypatch.setattr(
    tfds_canonical, 'read', lambda *args: pytest.fail('decoded')
  )
  toys.assert_has(prepared_store.load(loaded.spec, data_dir, None), loaded)


def test_the_scratch_folder_of_a_killed_process_is_removed(
  idx_toy, data_dir, tmp_path, caplog
):
  log = tmp_path / 'log'
  process = _start(data_dir, log, 60)
  try:
    _wait_for(log, process)
  finally:
    process.send_signal(signal.SIGKILL)
    process.communicate()
  assert list((data_dir / '.kd_jax').glob('toy.scratch-*'))
  spec = toys.with_sources(idx_toy, toys.FakeSource('web', idx_toy.files))
  with caplog.at_level('INFO'):
    toys.assert_has(prepared_store.load(spec, data_dir, None), idx_toy)
  assert 'waiting for another process' not in caplog.text
  assert not list((data_dir / '.kd_jax').glob('toy.scratch-*'))


def test_a_later_load_imports_no_tfds(loaded, data_dir):
  script = (
    'import sys, pathlib; from kd_jax.data.builtin import prepared_store;'
    'from tests.data import toys;'
    'prepared_store.load(toys.idx_toy().spec, pathlib.Path(sys.argv[1]), None);'
    'sys.exit("tensorflow_datasets" in sys.modules)'
  )
  subprocess.run(
    [sys.executable, '-c', script, str(data_dir)],
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    check=True,
  )
