"""Writes TFDS data sets of any number of generated images, as PNG."""

import io
import pathlib
from collections.abc import Sequence
from concurrent import futures

import harness  # noqa: F401  (adds the project to the import path)
import numpy as np

_PER_FILE = 50_000
_NUM_TEST = 1_000
_TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'


def write(folder: pathlib.Path, count: int) -> None:
  """Writes a data set of images [32, 32, 3] in array_record files.

  Args:
    folder: the new folder.
    count: number of training images.
  """
  import tensorflow_datasets as tfds

  features = tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(shape=(32, 32, 3), encoding_format='png'),
      'label': tfds.features.ClassLabel(num_classes=10),
    }
  )
  folder.mkdir(parents=True)
  train_lengths = [
    min(_PER_FILE, count - start) for start in range(0, count, _PER_FILE)
  ]
  splits = [
    _write_split(folder, 'train', train_lengths),
    _write_split(folder, 'test', [_NUM_TEST]),
  ]
  tfds.folder_dataset.write_metadata(
    data_dir=folder,
    features=features,
    split_infos=splits,
    filename_template=_TEMPLATE,
    check_data=False,
  )


def _write_split(folder: pathlib.Path, split: str, lengths: Sequence[int]):
  """Writes the files of a split in parallel, and returns its `SplitInfo`."""
  import tensorflow_datasets as tfds

  paths = [
    folder / f'large-{split}.array_record-{i:05d}-of-{len(lengths):05d}'
    for i in range(len(lengths))
  ]
  starts = [i * _PER_FILE for i in range(len(lengths))]
  with futures.ProcessPoolExecutor() as pool:
    num_bytes = sum(pool.map(_write_file, paths, starts, lengths))
  return tfds.core.SplitInfo(
    name=split,
    shard_lengths=lengths,
    num_bytes=num_bytes,
    filename_template=tfds.core.ShardedFileTemplate(
      data_dir=folder,
      template=_TEMPLATE,
      dataset_name='large',
      split=split,
      filetype_suffix='array_record',
    ),
  )


def _write_file(path: pathlib.Path, start: int, count: int) -> int:
  """Writes `count` examples from number `start`, and returns their bytes."""
  from array_record.python import array_record_module

  from kd_jax import data

  generated = data.load('generated_rgb').train
  # One record a group: a read of one record at random reads its whole group.
  writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
  size = 0
  for index in range(start, start + count):
    shift, source = divmod(index, len(generated.labels))
    # Each generated image is used with many shifts, so that no two images of
    # the data set are equal.
    image = np.roll(
      generated.images[source], (shift % 32, shift // 32), axis=(0, 1)
    )
    record = _encode(image, int(generated.labels[source]))
    writer.write(record)
    size += len(record)
  writer.close()
  return size


def _encode(image: np.ndarray, label: int) -> bytes:
  """Returns an example as TFDS stores it."""
  from PIL import Image
  from tensorflow_datasets.proto import tf_example_pb2

  png = io.BytesIO()
  Image.fromarray(image).save(png, 'png', compress_level=1)
  example = tf_example_pb2.Example()
  feature = example.features.feature
  feature['image'].bytes_list.value.append(png.getvalue())
  feature['label'].int64_list.value.append(label)
  return example.SerializeToString()
