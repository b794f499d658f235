"""Prepared TFDS folders of kd_jax and of other builders, in canonical order.

Also tests `kd_jax/data/builtin/tfds_builder.py`.
"""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered
from tensorflow_datasets.proto import tf_example_pb2

from kd_jax.data.builtin import tfds_builder, tfds_canonical
from kd_jax.data.dataset import DataError
from tests.data import tfds_toys, toys


@pytest.fixture(scope='module')
def toy() -> toys.Toy:
  return toys.idx_toy()


@pytest.fixture(scope='module')
def official(toy, tmp_path_factory):
  return tfds_toys.official(toy, tmp_path_factory.mktemp('official'))


def _assert_same(arrays, expected):
  assert list(arrays) == list(expected)
  for name, array in arrays.items():
    np.testing.assert_array_equal(array, expected[name], name)
    assert array.dtype == expected[name].dtype


@pytest.mark.parametrize('make', [toys.idx_toy, toys.batches_toy])
def test_a_folder_of_our_builder_is_read_back(tmp_path, make):
  toy = make()
  folder = tfds_builder.prepare(toy.spec, toy.arrays, tmp_path)
  assert folder == tmp_path / toy.spec.name / '0.1.0'
  assert len(list(folder.glob('*.array_record-*'))) == 2
  _assert_same(tfds_canonical.read(folder, toy.spec.image_shape), toy.arrays)


def test_tfds_reads_the_folder_of_our_builder(tmp_path, idx_toy):
  folder = tfds_builder.prepare(idx_toy.spec, idx_toy.arrays, tmp_path)
  source = tfds.builder_from_directory(folder).as_data_source('train')
  for example in source:
    index = int(example['id'].removeprefix(b'train_'))
    image = idx_toy.arrays['train_images'][index]
    np.testing.assert_array_equal(example['image'], image)
    assert example['label'] == idx_toy.arrays['train_labels'][index]
  assert len(source) == 40


def test_our_builder_is_not_registered_with_tfds():
  assert tfds.builder_cls('mnist').__module__.startswith('tensorflow_datasets')
  with pytest.raises(registered.DatasetNotFoundError):
    registered.imported_builder_cls(tfds_builder.Builder.name)


def test_the_order_is_restored_without_ids(toy, official):
  (path,) = official.glob('*-train.array_record-*')
  stored = [
    tf_example_pb2.Example.FromString(record).features.feature
    for record in tfds_toys.records(path)
  ]
  assert all('id' not in feature for feature in stored)
  labels = [feature['label'].int64_list.value[0] for feature in stored]
  assert labels != toy.arrays['train_labels'].tolist()  # TFDS has shuffled.
  _assert_same(tfds_canonical.read(official, toy.spec.image_shape), toy.arrays)


@pytest.mark.parametrize('num_shards', [1, 4])
def test_tfrecord_without_tensorflow(toy, official, tmp_path, num_shards):
  folder = tfds_toys.as_tfrecord(
    official, tmp_path / '3.0.1', num_shards=num_shards
  )
  assert len(list(folder.glob('*.tfrecord-*'))) == 2 * num_shards
  _assert_same(tfds_canonical.read(folder, toy.spec.image_shape), toy.arrays)


def test_ids_restore_any_order(tmp_path, idx_toy):
  ours = tfds_builder.prepare(idx_toy.spec, idx_toy.arrays, tmp_path / 'ours')
  folder = tfds_toys.as_tfrecord(ours, tmp_path / '1.0.0', is_reversed=True)
  arrays = tfds_canonical.read(folder, idx_toy.spec.image_shape)
  _assert_same(arrays, idx_toy.arrays)


@pytest.mark.parametrize('cut', [1, 20, 100])
def test_an_incomplete_tfrecord_is_refused(toy, official, tmp_path, cut):
  folder = tfds_toys.as_tfrecord(official, tmp_path / '3.0.1')
  (path,) = folder.glob('*-test.tfrecord-*')
  content = path.read_bytes()
  for damaged in (content[:-cut], content + bytes(cut % 12)):
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=f'^{path.name}: incomplete'):
      tfds_canonical.read(folder, toy.spec.image_shape)


def _remove(path):
  path.unlink()


def _truncate(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path):
  path.write_bytes(b'')


def _replace(path):
  path.write_bytes(b'<html>' * 20_000)


@pytest.mark.parametrize('damage', [_remove, _truncate, _empty, _replace])
@pytest.mark.parametrize(
  'pattern', ['*-test.array_record-*', 'dataset_info.json', 'features.json']
)
def test_a_damaged_folder_is_refused(tmp_path, toy, damage, pattern):
  folder = tfds_toys.official(toy, tmp_path)
  (path,) = folder.glob(pattern)
  damage(path)
  with pytest.raises(DataError):
    tfds_canonical.read(folder, toy.spec.image_shape)


def test_another_image_shape_is_refused(official):
  with pytest.raises(DataError, match='reshape'):
    tfds_canonical.read(official, (4, 4, 1))
