"""Folders of many images: decoded once, and read from the data folder."""

import errno
import os

import numpy as np
import pytest
from PIL import Image

from kd_jax import data
from kd_jax.data import preparation_lock
from kd_jax.data.user_data import decoded_files, image_files


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch):
  monkeypatch.setattr(decoded_files, 'LEAST_BYTES', 0)


@pytest.fixture(name='folder')
def _folder(tmp_path):
  """A folder of JPEG files of several sizes."""
  rng = np.random.default_rng(0)
  for i in range(40):
    split = 'test' if i % 4 == 0 else 'train'
    path = tmp_path / 'photos' / split / 'ab'[i % 2] / f'{i:02d}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(256, size=(9 + i % 3, 9 + i % 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
  for label in 'ab':  # Both splits have both classes.
    path = tmp_path / 'photos' / 'test' / label / 'more.jpg'
    path.parent.mkdir(exist_ok=True)
    Image.new('RGB', (9, 9), 'red').save(path)
  return tmp_path / 'photos'


def _load(folder, memory_gib=0.0, **options):
  return data.load(str(folder), image_size=8, memory_gib=memory_gib, **options)


def _files(tmp_path):
  return sorted((tmp_path / 'cache').rglob('*.u8*'))


def _refuse(*_, **__):
  raise AssertionError('an image is decoded again')


@pytest.mark.parametrize('memory_gib', [0.0, 4.0], ids=['disk', 'memory'])
def test_decoded_images_equal_those_in_memory(folder, monkeypatch, memory_gib):
  kept = _load(folder, memory_gib)
  monkeypatch.setattr(decoded_files, 'LEAST_BYTES', 2**40)
  monkeypatch.setattr(decoded_files.Place, 'find', lambda self: None)
  expected = _load(folder, 4.0)
  assert kept.digest == expected.digest
  assert kept.files_digest == expected.files_digest
  for split in data.SPLITS:
    found, split_expected = getattr(kept, split), getattr(expected, split)
    assert data.is_on_disk(found) == (memory_gib == 0)
    np.testing.assert_array_equal(found.images[:], split_expected.images)
    np.testing.assert_array_equal(found.labels, split_expected.labels)
  order = np.random.default_rng(0).permutation(len(kept.train.labels))
  if memory_gib == 0:
    batches = kept.train.images.part(3, 28).batches(order[order < 25], 8)
    np.testing.assert_array_equal(
      np.concatenate(list(batches)),
      expected.train.images[3:28][order[order < 25]],
    )


def test_images_are_decoded_once(folder, monkeypatch):
  first = _load(folder)
  monkeypatch.setattr(image_files, 'decode', _refuse)
  monkeypatch.setattr(image_files, 'are_gray', _refuse)
  assert _load(folder).digest == first.digest


def test_few_images_are_not_kept(folder, tmp_path, monkeypatch):
  monkeypatch.setattr(decoded_files, 'LEAST_BYTES', 2**20)
  assert not data.is_on_disk(_load(folder, 0.0).train)
  assert _files(tmp_path) == []


def _change(folder, path):
  """Writes another image of the same size, with the old time."""
  before = path.stat()
  Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path)
  size = max(before.st_size, path.stat().st_size)
  path.write_bytes(path.read_bytes().ljust(size, b'\0'))
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _remove(folder, path):
  path.unlink()


def _rename(folder, path):
  path.rename(path.with_name('zz.jpg'))


@pytest.mark.parametrize('change', [_change, _remove, _rename])
def test_images_of_changed_files_are_decoded_again(folder, tmp_path, change):
  first = _load(folder)
  change(folder, folder / 'train' / 'b' / '03.jpg')
  changed = _load(folder)
  assert changed.digest != first.digest
  assert len(_files(tmp_path)) == 1  # The old images are gone.
  # An open file stays what it was.
  assert first.train.images[:].shape[0] == len(first.train.labels)


@pytest.mark.faults
@pytest.mark.parametrize('damage', ['flipped', 'cut', 'record', 'missing'])
def test_damaged_images_are_decoded_again(folder, tmp_path, damage):
  """The decoded images of a folder are damaged: they are decoded again."""
  first = _load(folder)
  expected = first.train.images[:]
  (path,) = _files(tmp_path)
  content = bytearray(path.read_bytes())
  if damage == 'flipped':
    content[1000] ^= 1
    path.write_bytes(content)
  elif damage == 'cut':
    path.write_bytes(content[:-1])
  elif damage == 'missing':
    path.unlink()
  else:
    (record,) = (tmp_path / 'cache').rglob('images-*.npz')
    record.write_bytes(record.read_bytes()[:-40])
  again = _load(folder)
  assert again.digest == first.digest
  np.testing.assert_array_equal(again.train.images[:], expected)
  assert len(_files(tmp_path)) == 1


@pytest.mark.faults
def test_a_broken_image_is_named_and_leaves_nothing(folder, tmp_path):
  """One of many images is cut off: it is named, and no partial file stays."""
  path = folder / 'train' / 'a' / '02.jpg'
  path.write_bytes(path.read_bytes()[:200])
  with pytest.raises(data.DataError, match='02.jpg: '):
    _load(folder)
  assert _files(tmp_path) == []


@pytest.mark.faults
def test_without_space_images_are_decoded_in_memory_or_refused(
  folder, tmp_path, monkeypatch, caplog
):
  """The data folder is full: images that fit in memory are decoded there."""

  def fail(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, 'pwrite', fail)
  message = r'cannot be kept .*No space left.*\(--data_dir\)'
  with pytest.raises(data.DataError, match=message):
    _load(folder, 0.0)
  assert not data.is_on_disk(_load(folder, 4.0).train)
  assert 'will be decoded again next time' in caplog.text
  assert _files(tmp_path) == []


def test_more_images_than_the_disk_holds_are_refused_before_decoding(
  folder, monkeypatch
):
  usage = type('Usage', (), {'free': 100})
  monkeypatch.setattr(decoded_files.shutil, 'disk_usage', lambda folder: usage)
  monkeypatch.setattr(image_files, 'decode', _refuse)
  with pytest.raises(data.DataError, match='has 0.0 GiB left'):
    _load(folder, 0.0)


def test_another_process_waits_and_takes_what_is_decoded(folder, monkeypatch):
  first = _load(folder)
  found, find = [], decoded_files.Place.find

  def find_late(place):
    """Finds nothing before the lock is held."""
    found.append(find(place) if found else None)
    return found[-1]

  monkeypatch.setattr(decoded_files.Place, 'find', find_late)
  monkeypatch.setattr(decoded_files, '_decode_into', _refuse)
  hold, names = preparation_lock.hold, []

  def hold_named(data_dir, name):
    names.append(name)
    return hold(data_dir, name)

  monkeypatch.setattr(preparation_lock, 'hold', hold_named)
  assert _load(folder).digest == first.digest
  assert len(found) == 2 and len(names) == 1


@pytest.mark.faults
def test_a_file_that_is_cut_off_while_it_is_read_is_named(folder, tmp_path):
  """Decoded images are cut off during a run: the run stops with a line."""
  images = _load(folder).train.images
  (path,) = _files(tmp_path)
  os.truncate(path, 100)
  with pytest.raises(data.DataError, match='ends before its image'):
    images[:]
