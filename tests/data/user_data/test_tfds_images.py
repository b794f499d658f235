"""Data sets that TFDS prepares: in memory, on disk, and refused.

Also tests `kd_jax/data/tfds_record_files.py` and
`kd_jax/data/user_data/tfds_folder.py`.
"""

import json
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from kd_jax import data
from kd_jax.data import preparation_lock, selection
from tests.data import tfds_toys, toys


class ToyInsects(tfds.core.GeneratorBasedBuilder):
  """A data set that is registered with TFDS."""

  VERSION = tfds.core.Version('1.0.0')
  ARRAYS = toys.class_arrays(np.random.default_rng(1))

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'photo': tfds.features.Image(shape=(None, None, 3)),
          'thumbnail': tfds.features.Image(shape=(None, None, 3)),
          'kind': tfds.features.ClassLabel(names=['ant', 'bee', 'cat']),
        }
      ),
      supervised_keys=('photo', 'kind'),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      'train': self._generate_examples('train'),
      'validation': self._generate_examples('test'),
    }

  def _generate_examples(self, split):
    for i, image in enumerate(self.ARRAYS[f'{split}_images']):
      png = tfds_toys.png(image)
      yield (
        i,
        {
          'photo': png,
          'thumbnail': tfds_toys.png(image[:1]),
          'kind': int(self.ARRAYS[f'{split}_labels'][i]),
        },
      )


def _load(data_dir, **options) -> data.Dataset:
  return data.load('tfds:toy_insects', data_dir=data_dir, **options)


def test_a_tfds_name_is_prepared_and_read(tmp_path):
  dataset = _load(tmp_path)
  assert dataset.name == 'toy_insects'
  assert dataset.class_names == ('ant', 'bee', 'cat')
  expected = ToyInsects.ARRAYS['train_images']
  # TFDS shuffles the examples, in the same way each time.
  by_content = lambda images: sorted(image.tobytes() for image in images)
  assert by_content(dataset.train.images) == by_content(expected)
  for image, label in zip(
    dataset.train.images, dataset.train.labels, strict=True
  ):
    (index,) = (
      i for i, original in enumerate(expected) if (original == image).all()
    )
    assert label == ToyInsects.ARRAYS['train_labels'][index]
  prepared = data.load(str(tmp_path / 'toy_insects' / '1.0.0'))
  assert (prepared.name, prepared.digest) == (dataset.name, dataset.digest)


def test_images_on_disk_equal_images_in_memory(tmp_path):
  assert _load(tmp_path).digest == _load(tmp_path, memory_gib=0.0).digest
  assert _load(tmp_path).digest != _load(tmp_path, image_size=4).digest
  memory, disk = _load(tmp_path).train, _load(tmp_path, memory_gib=0.0).train
  assert isinstance(memory.images, np.ndarray)
  assert not isinstance(disk.images, np.ndarray)
  assert not data.is_on_disk(memory) and data.is_on_disk(disk)
  assert disk.images.shape == memory.images.shape
  assert disk.images.nbytes == memory.images.nbytes
  np.testing.assert_array_equal(disk.labels, memory.labels)
  order = np.array([3, 0, 0, 5, 1])
  np.testing.assert_array_equal(disk.images[order], memory.images[order])
  np.testing.assert_array_equal(disk.images[1:4], memory.images[1:4])
  batches = list(disk.images.batches(order, 2))
  assert [len(batch) for batch in batches] == [2, 2, 1]
  np.testing.assert_array_equal(np.concatenate(batches), memory.images[order])
  np.testing.assert_array_equal(disk.images.part(1, 3)[:], memory.images[1:3])


def test_labels_of_images_on_disk_are_stored(tmp_path):

  def load_labels():
    """Returns the labels in the order of the files."""
    train = _load(tmp_path, memory_gib=0.0).train
    return train.labels[np.argsort(train.origin.positions)]

  memory = _load(tmp_path).train
  labels = memory.labels[np.argsort(memory.origin.positions)]
  load_labels()
  # Stored labels are used: they are not read from the records again.
  (stored_path,) = (tmp_path / '.kd_jax').glob('train-labels-*.npz')
  with np.load(stored_path) as stored:
    digest = stored['digest']
  np.savez(stored_path, labels=labels[::-1], digest=digest)
  assert (load_labels() == labels[::-1]).all()
  # Damaged labels are not used.
  damaged = bytearray(stored_path.read_bytes())
  damaged[damaged.index(labels[::-1].tobytes())] ^= 0x01
  for content in (b'cut', damaged):
    stored_path.write_bytes(content)
    np.testing.assert_array_equal(load_labels(), labels)
  # If a file has changed, stored labels are not used.
  np.savez(stored_path, labels=labels[::-1], digest=digest)
  os.utime(next(tmp_path.rglob('*train.array_record*')), (0, 0))
  np.testing.assert_array_equal(load_labels(), labels)


def test_a_prepared_data_set_is_read_without_a_lock(tmp_path, monkeypatch):
  _load(tmp_path)

  def refuse(*args):
    raise OSError('a read-only folder')

  monkeypatch.setattr(preparation_lock, 'hold', refuse)
  assert len(_load(tmp_path).test.labels) == 3


@pytest.mark.faults
@pytest.mark.parametrize('memory_gib', [4.0, 0.0])
@pytest.mark.parametrize('count', ['5', '7'])
def test_files_without_all_examples_are_refused(tmp_path, memory_gib, count):
  """TFDS files that lack examples: they are refused."""
  _load(tmp_path)
  _set_shard_lengths(tmp_path, 'train', [count])
  message = f'says {count} examples of train, but its files hold 6'
  with pytest.raises(data.DataError, match=message):
    _load(tmp_path, memory_gib=memory_gib)


@pytest.mark.faults
@pytest.mark.parametrize('split', ['train', 'validation'])
@pytest.mark.parametrize('lengths', [[], ['0']])
def test_a_split_without_examples_is_refused(tmp_path, split, lengths):
  """TFDS metadata without the examples of a split: it is refused."""
  _load(tmp_path)
  _set_shard_lengths(tmp_path, split, lengths)
  with pytest.raises(data.DataError, match=f'says that {split} has no exam'):
    _load(tmp_path)


def _set_shard_lengths(data_dir, split, lengths):
  """Writes other numbers of examples into the metadata of a split."""
  path = data_dir / 'toy_insects' / '1.0.0' / 'dataset_info.json'
  info = json.loads(path.read_text())
  (found,) = (s for s in info['splits'] if s['name'] == split)
  found['shardLengths'] = lengths
  path.write_text(json.dumps(info))


@pytest.mark.parametrize('memory_gib', [4.0, 0.0])
def test_training_images_replace_a_missing_test_split(tmp_path, memory_gib):
  _load(tmp_path)
  folder = tmp_path / 'toy_insects' / '1.0.0'
  info = json.loads((folder / 'dataset_info.json').read_text())
  info['splits'] = [s for s in info['splits'] if s['name'] == 'train']
  (folder / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(data.DataError, match='no test split.*holdout_examples=N'):
    data.load(str(folder))
  dataset = data.load(
    str(folder), data_dir=tmp_path, needs_test=False, memory_gib=memory_gib
  )
  assert dataset.test.images.shape == (0, 4, 5, 3)
  section = dict(holdout_examples=3, train_examples=0, test_examples=0)
  selected = selection.select(dataset, ConfigDict(section))
  # Three examples of three classes: one of each.
  assert sorted(selected.test.labels) == [0, 1, 2]
  assert selected.test.images.shape == (3, 4, 5, 3)
  assert len(selected.train.labels) == 3


def test_an_unknown_tfds_name_is_refused(tmp_path):
  with pytest.raises(data.DataError, match="TFDS cannot prepare 'none_such'"):
    data.load('tfds:none_such', data_dir=tmp_path)
