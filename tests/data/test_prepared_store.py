"""The data folder: first load, damage, locks, and folders of the user."""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from kd_jax.data import (
  preparation_lock,
  prepared_store,
  tfds_builder,
  tfds_canonical,
)
from kd_jax.data.dataset import DataError
from tests.data import tfds_toys, toys

ROOT = pathlib.Path(prepared_store.__file__).parents[2]


def _with_sources(toy, *sources):
  return dataclasses.replace(toy.spec, sources=sources)


def _assert_has(dataset, toy):
  for split in ('train', 'test'):
    for field in ('images', 'labels'):
      np.testing.assert_array_equal(
        getattr(getattr(dataset, split), field), toy.arrays[f'{split}_{field}']
      )
  assert dataset.name == toy.spec.name
  assert dataset.num_classes == 10
  assert len(dataset.digest) == 64


def _snapshot(folder):
  """Returns the modification time and content of each path below a folder."""
  return {
    path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
    for path in [folder, *sorted(folder.rglob('*'))]
  }


@pytest.fixture
def home(data_dir) -> pathlib.Path:
  return data_dir / 'toy' / '0.1.0'


@pytest.fixture
def loaded(idx_toy, data_dir, home):
  """Loads a toy data set for the first time; returns it without the source."""
  prepared_store.load(
    _with_sources(idx_toy, toys.FakeSource('web', idx_toy.files)),
    data_dir,
    None,
  )
  assert home.exists()
  return idx_toy


# Locations and sources


@pytest.mark.parametrize('make', [toys.idx_toy, toys.batches_toy])
def test_first_load_prepares_and_the_next_needs_no_source(data_dir, make):
  toy = make()
  spec = _with_sources(toy, toys.FakeSource('web', toy.files))
  first = prepared_store.load(spec, data_dir, None)
  _assert_has(first, toy)
  home = data_dir / toy.spec.name / '0.1.0'
  assert len(list(home.glob('*.array_record-*'))) == 2
  assert len(list(home.glob('*.npy'))) == 4
  mark = json.loads((home / 'made_by_kd_jax.json').read_text())
  assert mark == {'source': 'web'}
  left = {p.name for p in (data_dir / '.kd_jax').iterdir()}
  assert left == {f'{toy.spec.name}.lock'}  # Downloads are removed.
  before = _snapshot(data_dir)
  second = prepared_store.load(toy.spec, data_dir, None)
  _assert_has(second, toy)
  assert second.digest == first.digest
  assert _snapshot(data_dir) == before


def test_locations_are_tried_in_order(
  idx_toy, data_dir, tmp_path, monkeypatch, caplog
):
  caplog.set_level(logging.INFO, 'absl')
  log = tmp_path / 'log'
  labels = 'train-labels-idx1-ubyte'
  bad = idx_toy.files | {labels: toys.flipped(idx_toy.files[labels])}
  tfds_dir = tmp_path / 'tfds'
  monkeypatch.setenv('TFDS_DATA_DIR', str(tfds_dir))
  for root in (data_dir, tfds_dir):
    (root / 'toy' / '3.0.1').mkdir(parents=True)
    (root / 'toy' / '3.0.1' / 'dataset_info.json').write_text('{}')
  toys.idx_toy(seed=1).write(tmp_path / 'named')
  spec = _with_sources(
    idx_toy,
    toys.FakeSource('official', error=DataError('no answer'), log=log),
    toys.FakeSource('mirror 1', bad, log=log),
    toys.FakeSource('mirror 2', idx_toy.files, log=log),
    toys.FakeSource('mirror 3', idx_toy.files, log=log),
  )
  _assert_has(prepared_store.load(spec, data_dir, tmp_path / 'named'), idx_toy)
  assert log.read_text().split('\n') == ['official', 'mirror 1', 'mirror 2', '']
  refused = [m for m in caplog.messages if m.startswith('toy: refused ')]
  expected = [
    f'folder {tmp_path / "named"}: train-images-idx3-ubyte: corrupt,',
    f'TFDS folder {data_dir}/toy/3.0.1: Invalid version',
    f'TFDS folder {tfds_dir}/toy/3.0.1: Invalid version',
    'official: no answer',
    f'mirror 1: {labels}: corrupt, or not the original file',
  ]
  assert len(refused) == len(expected)
  for message, start in zip(refused, expected, strict=True):
    assert message.startswith(f'toy: refused {start}')
  assert 'toy: using mirror 2' in caplog.messages


def test_if_all_locations_fail_the_error_lists_each_reason(
  idx_toy, data_dir, tmp_path
):
  files = dict(idx_toy.files)
  files['t10k-images-idx3-ubyte'] = files['t10k-images-idx3-ubyte'][:-1]
  spec = _with_sources(
    idx_toy,
    toys.FakeSource('official', error=DataError('no answer')),
    toys.FakeSource('mirror', files),
    toys.FakeSource('empty mirror'),
    toys.FakeSource('locked mirror', error=PermissionError('not for you')),
  )
  with pytest.raises(DataError) as caught:
    prepared_store.load(spec, data_dir, tmp_path / 'named')
  lines = str(caught.value).split('\n')
  assert lines[0] == 'toy: not found in any location.'
  assert lines[1] == f'- folder {tmp_path / "named"}: no such folder'
  assert lines[2] == '- official: no answer'
  assert lines[3].startswith('- mirror: t10k-images-idx3-ubyte: corrupt,')
  assert lines[4].startswith('- empty mirror: holds none of train-images-')
  assert lines[5] == '- locked mirror: not for you'
  assert '--source_dir=' in lines[6]
  assert not (data_dir / 'toy').exists()
  assert len(list((data_dir / '.kd_jax').iterdir())) == 1  # The lock.


@pytest.mark.parametrize('packaging', ['loose', 'gz', 'tgz', 'wheel', 'tfds'])
def test_every_packaging_yields_the_same_arrays(
  idx_toy, data_dir, tmp_path, packaging
):
  spec, folder = idx_toy.spec, tmp_path / 'named'
  folder.mkdir()
  if packaging == 'loose':
    idx_toy.write(folder)
  elif packaging == 'gz':
    for name, content in toys.gzipped(idx_toy.files).items():
      (folder / name).write_bytes(content)
  elif packaging == 'tfds':
    tfds_toys.official(idx_toy, folder)
  else:
    pack, name = {
      'tgz': (toys.tgz, 'toy-1.0.tgz'),
      'wheel': (toys.wheel, 'toy-1.0-py3-none-any.whl'),
    }[packaging]
    content = pack(idx_toy.files)
    (folder / name).write_bytes(content)
    spec = idx_toy.with_archive(content, name)
  before = _snapshot(folder)
  _assert_has(prepared_store.load(spec, data_dir, folder), idx_toy)
  assert _snapshot(folder) == before


def test_arrays_in_another_order_are_refused(idx_toy, data_dir):
  """Checks that digests of arrays are compared, and not only those of files."""
  digests = dict(idx_toy.spec.array_digests)
  digests['test_labels'] = digests['train_labels']
  spec = dataclasses.replace(
    _with_sources(idx_toy, toys.FakeSource('web', idx_toy.files)),
    array_digests=digests,
  )
  with pytest.raises(DataError, match='web: test_labels is not the original'):
    prepared_store.load(spec, data_dir, None)


# TFDS folders of the user


@pytest.mark.parametrize('file_format', ['array_record', 'tfrecord'])
@pytest.mark.parametrize('where', ['data_dir', 'TFDS_DATA_DIR', 'named'])
def test_a_tfds_folder_is_used_unchanged(
  idx_toy, data_dir, home, tmp_path, monkeypatch, file_format, where
):
  root = data_dir if where == 'data_dir' else tmp_path / 'theirs'
  theirs = root / 'toy' / '3.0.1'
  if file_format == 'tfrecord':
    made = tfds_toys.official(idx_toy, tmp_path / 'made')
    tfds_toys.as_tfrecord(made, theirs)
  else:
    assert tfds_toys.official(idx_toy, root) == theirs
  if where == 'TFDS_DATA_DIR':
    monkeypatch.setenv('TFDS_DATA_DIR', str(root))
  before = _snapshot(theirs)
  named = theirs if where == 'named' else None
  _assert_has(prepared_store.load(idx_toy.spec, data_dir, named), idx_toy)
  assert _snapshot(theirs) == before
  assert not list(home.glob('*.array_record-*'))  # Nothing was prepared.
  _assert_has(prepared_store.load(idx_toy.spec, data_dir, None), idx_toy)


def test_a_wrong_tfds_folder_is_refused_and_kept(idx_toy, data_dir, caplog):
  theirs = tfds_toys.official(toys.idx_toy(seed=1), data_dir)
  before = _snapshot(theirs)
  spec = _with_sources(idx_toy, toys.FakeSource('web', idx_toy.files))
  _assert_has(prepared_store.load(spec, data_dir, None), idx_toy)
  assert f'toy: refused TFDS folder {theirs}: train_images is' in caplog.text
  assert _snapshot(theirs) == before


def test_a_folder_of_the_user_in_the_way_is_not_changed(
  idx_toy, data_dir, home
):
  theirs = tfds_toys.official(toys.idx_toy(seed=1), data_dir)
  theirs.rename(home)
  before = _snapshot(home)
  spec = _with_sources(idx_toy, toys.FakeSource('web', idx_toy.files))
  with pytest.raises(DataError, match='in the way') as caught:
    prepared_store.load(spec, data_dir, None)
  assert str(home) in str(caught.value)
  assert '--data_dir=' in str(caught.value)
  assert _snapshot(home) == before


# Damage


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
  path = home / f'{name}.npy'
  good = path.read_bytes()
  path.write_bytes(damage(good))
  assert path.read_bytes() != good
  _assert_has(prepared_store.load(loaded.spec, data_dir, None), loaded)
  (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= 30]
  assert warning.startswith(f'{path}: damaged')
  assert path.read_bytes() == good


def test_a_missing_array_is_decoded_again(loaded, data_dir, home, caplog):
  (home / 'test_labels.npy').unlink()
  _assert_has(prepared_store.load(loaded.spec, data_dir, None), loaded)
  assert f'{home / "test_labels.npy"}: missing' in caplog.text


@pytest.mark.faults
def test_arrays_are_never_unpickled(loaded, data_dir, home, tmp_path):
  trap = tmp_path / 'ran'

  class Trap:
    def __reduce__(self):
      return open, (str(trap), 'w')

  pickled = np.array([Trap()], dtype=object)
  np.save(home / 'train_labels.npy', pickled, allow_pickle=True)
  _assert_has(prepared_store.load(loaded.spec, data_dir, None), loaded)
  assert not trap.exists()


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
  spec = _with_sources(loaded, toys.FakeSource('web again', loaded.files))
  _assert_has(prepared_store.load(spec, data_dir, None), loaded)
  assert f'{home}: damaged (' in caplog.text
  assert f'{home}: removed, because it was damaged' in caplog.text
  assert {p.name for p in home.iterdir()} == good
  assert 'web again' in (home / 'made_by_kd_jax.json').read_text()
  # The new folder is intact: the arrays can be decoded from it again.
  (home / 'train_images.npy').unlink()
  _assert_has(prepared_store.load(loaded.spec, data_dir, None), loaded)


def test_records_of_other_data_are_prepared_again(loaded, data_dir, home):
  other = tfds_builder.prepare(
    loaded.spec, toys.idx_toy(seed=1).arrays, data_dir / 'other'
  )
  for path in other.glob('*.array_record-*'):
    path.replace(home / path.name)
  (home / 'train_images.npy').unlink()
  with pytest.raises(DataError, match='not found in any location'):
    prepared_store.load(loaded.spec, data_dir, None)
  spec = _with_sources(loaded, toys.FakeSource('web', loaded.files))
  _assert_has(prepared_store.load(spec, data_dir, None), loaded)


def test_damaged_records_without_a_source_are_an_error(loaded, data_dir, home):
  damaged = home / 'train_images.npy'
  damaged.write_bytes(toys.flipped(damaged.read_bytes()))
  _damage_records(home)
  spec = _with_sources(
    loaded, toys.FakeSource('web', error=DataError('no answer'))
  )
  with pytest.raises(DataError, match='- web: no answer'):
    prepared_store.load(spec, data_dir, None)
  assert not damaged.exists()


# Folders that cannot be written


def test_a_folder_that_cannot_be_written_is_an_error(idx_toy, tmp_path):
  (tmp_path / 'file').write_text('')
  data_dir = tmp_path / 'file' / 'data'
  spec = _with_sources(idx_toy, toys.FakeSource('web', idx_toy.files))
  with pytest.raises(DataError, match='cannot be written') as caught:
    prepared_store.load(spec, data_dir, None)
  assert str(data_dir) in str(caught.value)
  assert '--data_dir=' in str(caught.value)


def test_local_data_is_used_if_the_folder_cannot_be_written(
  idx_toy, data_dir, caplog
):
  tfds_toys.official(idx_toy, data_dir)
  (data_dir / '.kd_jax').write_text(
    ''
  )  # A file prevents the folder of this name.
  before = _snapshot(data_dir)
  _assert_has(prepared_store.load(idx_toy.spec, data_dir, None), idx_toy)
  assert 'cannot be written' in caplog.text
  assert _snapshot(data_dir) == before


# Processes

_LOAD = """
import dataclasses, pathlib, sys, time
from kd_jax.data import prepared_store
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
  _assert_has(prepared_store.load(loaded.spec, data_dir, None), loaded)


def test_the_scratch_folder_of_a_killed_process_is_removed(
  idx_toy, data_dir, tmp_path
):
  log = tmp_path / 'log'
  process = _start(data_dir, log, 60)
  try:
    _wait_for(log, process)
  finally:
    process.send_signal(signal.SIGKILL)
    process.communicate()
  assert list((data_dir / '.kd_jax').glob('toy.scratch-*'))
  spec = _with_sources(idx_toy, toys.FakeSource('web', idx_toy.files))
  start = time.monotonic()
  _assert_has(prepared_store.load(spec, data_dir, None), idx_toy)
  assert time.monotonic() - start < 10
  assert not list((data_dir / '.kd_jax').glob('toy.scratch-*'))


def test_a_later_load_imports_no_tfds(loaded, data_dir):
  script = (
    'import sys, pathlib; from kd_jax.data import prepared_store;'
    'from tests.data import toys;'
    'prepared_store.load(toys.idx_toy().spec, pathlib.Path(sys.argv[1]), None);'
    'sys.exit("tensorflow_datasets" in sys.modules)'
  )
  subprocess.run(
    [sys.executable, '-c', script, str(data_dir)],
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    check=True,
  )
