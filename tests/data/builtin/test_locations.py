"""The search for a data set: order, packagings, folders, refused data."""

import dataclasses
import logging

import pytest

from kd_jax.data.builtin import prepared_store
from kd_jax.data.dataset import DataError
from tests.data import tfds_toys, toys


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
  spec = toys.with_sources(
    idx_toy,
    toys.FakeSource('official', error=DataError('no answer'), log=log),
    toys.FakeSource('mirror 1', bad, log=log),
    toys.FakeSource('mirror 2', idx_toy.files, log=log),
    toys.FakeSource('mirror 3', idx_toy.files, log=log),
  )
  toys.assert_has(
    prepared_store.load(spec, data_dir, tmp_path / 'named'), idx_toy
  )
  assert log.read_text().split('\n') == ['official', 'mirror 1', 'mirror 2', '']
  refused = [m for m in caplog.messages if m.startswith('toy: no data from ')]
  expected = [
    f'folder {tmp_path / "named"}: train-images-idx3-ubyte: corrupt,',
    f'TFDS folder {data_dir}/toy/3.0.1: Invalid version',
    f'TFDS folder {tfds_dir}/toy/3.0.1: Invalid version',
    'official: no answer',
    f'mirror 1: {labels}: corrupt, or not the original file',
  ]
  assert len(refused) == len(expected)
  for message, start in zip(refused, expected, strict=True):
    assert message.startswith(f'toy: no data from {start}')
  assert 'toy: read from mirror 2' in caplog.messages


def test_if_all_locations_fail_the_error_lists_each_reason(
  idx_toy, data_dir, tmp_path
):
  files = dict(idx_toy.files)
  files['t10k-images-idx3-ubyte'] = files['t10k-images-idx3-ubyte'][:-1]
  spec = toys.with_sources(
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
  before = toys.snapshot(folder)
  toys.assert_has(prepared_store.load(spec, data_dir, folder), idx_toy)
  assert toys.snapshot(folder) == before


def test_arrays_in_another_order_are_refused(idx_toy, data_dir):
  """Checks that digests of arrays are compared, and not only those of files."""
  digests = dict(idx_toy.spec.array_digests)
  digests['test_labels'] = digests['train_labels']
  spec = dataclasses.replace(
    toys.with_sources(idx_toy, toys.FakeSource('web', idx_toy.files)),
    array_digests=digests,
  )
  with pytest.raises(DataError, match='web: test_labels is not the original'):
    prepared_store.load(spec, data_dir, None)


@pytest.mark.parametrize('file_format', ['array_record', 'tfrecord'])
@pytest.mark.parametrize('where', ['data_dir', 'TFDS_DATA_DIR', 'named'])
def test_a_tfds_folder_is_used_unchanged(
  idx_toy, data_dir, home, tmp_path, monkeypatch, file_format, where
):
  root = data_dir if where == 'data_dir' else tmp_path / 'user_folder'
  user_folder = root / 'toy' / '3.0.1'
  if file_format == 'tfrecord':
    made = tfds_toys.official(idx_toy, tmp_path / 'made')
    tfds_toys.as_tfrecord(made, user_folder)
  else:
    assert tfds_toys.official(idx_toy, root) == user_folder
  if where == 'TFDS_DATA_DIR':
    monkeypatch.setenv('TFDS_DATA_DIR', str(root))
  before = toys.snapshot(user_folder)
  named = user_folder if where == 'named' else None
  toys.assert_has(prepared_store.load(idx_toy.spec, data_dir, named), idx_toy)
  assert toys.snapshot(user_folder) == before
  assert not list(home.glob('*.array_record-*'))  # Nothing was prepared.
  toys.assert_has(prepared_store.load(idx_toy.spec, data_dir, None), idx_toy)


def test_a_wrong_tfds_folder_is_refused_and_kept(idx_toy, data_dir, caplog):
  user_folder = tfds_toys.official(toys.idx_toy(seed=1), data_dir)
  before = toys.snapshot(user_folder)
  spec = toys.with_sources(idx_toy, toys.FakeSource('web', idx_toy.files))
  toys.assert_has(prepared_store.load(spec, data_dir, None), idx_toy)
  assert (
    f'toy: no data from TFDS folder {user_folder}: train_images is'
    in caplog.text
  )
  assert toys.snapshot(user_folder) == before
