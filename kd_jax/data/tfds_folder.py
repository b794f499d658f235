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
