"""Reads prepared TFDS folders, ours or official, without TensorFlow.

A record is a serialized tf.train.Example, in array_record or tfrecord files;
the image in it is a PNG. TFDS shuffles when it writes, by the hash of each
example's key, so the canonical order can be had back: from the `id` feature
(`train_00042`), or else by hashing the keys 0 .. N-1 again.
"""

import hashlib
import io
import pathlib
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from kd_jax.data import progress
from kd_jax.data.dataset import Arrays, DataError, Split, named_arrays


def read(folder: pathlib.Path, image_shape: Sequence[int]) -> Arrays:
  """Decodes a prepared folder into arrays in canonical order.

  Args:
    folder: the folder of a version; it holds dataset_info.json.
    image_shape: (H, W, C).
  Returns:
    The arrays. That they are the right ones is for the caller to check.
  Raises:
    DataError: if the folder cannot be read.
  """
  try:
    with progress.quiet_tfds():
      splits = tfds.builder_from_directory(folder).info.splits
    return named_arrays(
      _read_split(splits['train'], image_shape),
      _read_split(splits['test'], image_shape),
    )
  except Exception as error:
    # Metadata, two record formats, protobuf and PNG: each has its own ways to
    # say that a file is damaged, and all mean the same here.
    raise DataError(str(error) or type(error).__name__) from error


class Encoded(NamedTuple):
  """A split as it is in its files, in their order.

  Attributes:
    names: of its examples, for errors.
    images: PNG or JPEG.
    labels: whole numbers.
  """

  names: list[str]
  images: list[bytes]
  labels: list[int]


class EncodedSplits(NamedTuple):
  """What `encoded` returns."""

  train: Encoded
  test: Encoded
  class_names: tuple[str, ...]


def prepare(name: str, data_dir: pathlib.Path) -> pathlib.Path:
  """Has TFDS prepare a data set that it knows; returns the prepared folder.

  Raises:
    DataError: if it does not know the name, or cannot get or prepare it.
  """
  try:
    with progress.quiet_tfds():
      builder = tfds.builder(name, data_dir=data_dir)
      builder.download_and_prepare(
        file_format='array_record',
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
      )
  except Exception as error:  # Of the network, of disks, of TFDS itself.
    raise DataError(
      f'TFDS cannot prepare {name!r}: {str(error)[:500] or repr(error)}'
    ) from None
  return pathlib.Path(builder.data_dir)


def encoded(folder: pathlib.Path, tests: Sequence[str]) -> EncodedSplits:
  """Reads any prepared folder of images with one label each.

  Args:
    folder: of a version; it holds dataset_info.json.
    tests: names of the split to test on; the first that is there.
  Raises:
    DataError: if it cannot be read, or is of another kind.
  """
  try:
    with progress.quiet_tfds():
      info = tfds.builder_from_directory(folder).info
  except Exception as error:  # As in `read`.
    raise DataError(f'{folder}: {error or type(error).__name__}') from error
  image, label = _keys(folder, info)
  test = next((name for name in tests if name in info.splits), None)
  if 'train' not in info.splits or test is None:
    raise DataError(
      f'{folder} has the splits {", ".join(info.splits)}; expected train and '
      f'one of {", ".join(tests)}'
    )
  return EncodedSplits(
    *(
      _encoded_split(info.splits[split], image, label)
      for split in ('train', test)
    ),
    tuple(info.features[label].names),
  )


def _keys(folder: pathlib.Path, info: tfds.core.DatasetInfo) -> tuple[str, str]:
  """Returns the names of an image and of a label among a set's features."""
  kinds = (tfds.features.Image, tfds.features.ClassLabel)
  found = [
    [key for key, own in info.features.items() if isinstance(own, kind)]
    for kind in kinds
  ]
  supervised = info.supervised_keys or ()
  found = [[key for key in keys if key in supervised] or keys for keys in found]
  if [len(keys) for keys in found] != [1, 1]:
    raise DataError(
      f'{folder} has the features {", ".join(info.features)}; expected one '
      'image and one class label'
    )
  return found[0][0], found[1][0]


def _encoded_split(
  info: tfds.core.SplitInfo, image: str, label: str
) -> Encoded:
  split = Encoded([], [], [])
  for path in map(pathlib.Path, info.filepaths):
    try:
      contents = _read_records(path)
    except Exception as error:  # As in `read`.
      raise DataError(f'{path}: {error or type(error).__name__}') from error
    for index, content in enumerate(contents):
      feature = tf_example_pb2.Example.FromString(content).features.feature
      split.names.append(f'{path}, record {index}')
      split.images.append(feature[image].bytes_list.value[0])
      split.labels.append(feature[label].int64_list.value[0])
  return split


def _read_split(info: tfds.core.SplitInfo, image_shape: Sequence[int]) -> Split:
  records = [
    record
    for path in info.filepaths
    for record in _read_records(pathlib.Path(path))
  ]
  count = len(records)
  images = np.zeros((count, *image_shape), np.uint8)
  labels = np.zeros(count, np.int32)
  positions = _shuffled_positions(info.name, count)
  bar = progress.bar(records, desc=f'Decoding {info.name}')
  for position, record in zip(positions, bar, strict=True):
    feature = tf_example_pb2.Example.FromString(record).features.feature
    if 'id' in feature:
      position = int(feature['id'].bytes_list.value[0].rsplit(b'_')[-1])
    png = io.BytesIO(feature['image'].bytes_list.value[0])
    with Image.open(png, formats=('PNG',)) as image:
      images[position] = np.asarray(image).reshape(image_shape)
    labels[position] = feature['label'].int64_list.value[0]
  return Split(images=images, labels=labels)


def _shuffled_positions(split: str, count: int) -> list[int]:
  """The keys 0 .. count - 1 in the order in which TFDS writes them."""

  def tfds_hash(key: int) -> bytes:
    salted = f'{split}{key}'.encode()
    return hashlib.md5(salted, usedforsecurity=False).digest()

  return sorted(range(count), key=tfds_hash)


def _read_records(path: pathlib.Path) -> Sequence[bytes]:
  if '.array_record' not in path.name:
    return list(_read_tfrecords(path))
  from array_record.python import array_record_module

  reader = array_record_module.ArrayRecordReader(str(path))
  try:
    return reader.read_all()
  finally:
    reader.close()


def _read_tfrecords(path: pathlib.Path) -> Iterator[bytes]:
  """Yields the records of a tfrecord file.

  A record is its length (8 bytes), a checksum of that (4), the content, and a
  checksum of the content (4). The checksums (a crc32c, which the standard
  library lacks) are left alone: the digest of the arrays is the proof.
  """
  content = memoryview(path.read_bytes())
  start = 0
  while start < len(content):
    if start + 12 > len(content):
      raise DataError(f'{path.name}: cut short')
    (length,) = struct.unpack_from('<Q', content, start)
    end = start + 12 + length
    if end + 4 > len(content):
      raise DataError(f'{path.name}: cut short')
    yield bytes(content[start + 12 : end])
    start = end + 4
