"""Reads prepared TFDS folders, ours or official, without TensorFlow.

A record is a serialized tf.train.Example, in array_record or tfrecord files;
the image in it is a PNG. TFDS shuffles when it writes, by the hash of each
example's key, so the canonical order can be had back: from the `id` feature
(`train_00042`), or else by hashing the keys 0 .. N-1 again.
"""

import contextlib
import hashlib
import io
import os
import pathlib
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from kd_jax.data import preparation_lock, progress
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


class SplitFiles(NamedTuple):
  """A split's files, in order, and how many examples are in them."""

  name: str
  paths: list[pathlib.Path]
  num_examples: int


class Content(NamedTuple):
  """A prepared folder of images with one label each.

  Attributes:
    name: of the data set.
    folder: of a version.
    train: the split to train on.
    test: the split to test on.
    image: name of the feature that is the image.
    label: likewise.
    class_names: in the order of the labels.
    is_gray: whether images have one channel.
  """

  name: str
  folder: pathlib.Path
  train: SplitFiles
  test: SplitFiles
  image: str
  label: str
  class_names: tuple[str, ...]
  is_gray: bool


class Encoded(NamedTuple):
  """A split as it is in its files, in their order.

  Attributes:
    names: of its examples, for errors.
    images: PNG or JPEG.
    labels: whole numbers.
    digest: SHA-256 (hex) of its records.
  """

  names: list[str]
  images: list[bytes]
  labels: list[int]
  digest: str


def prepare(name: str, data_dir: pathlib.Path) -> pathlib.Path:
  """Has TFDS prepare a data set that it knows; returns the prepared folder.

  Raises:
    DataError: if it does not know the name, or cannot get or prepare it.
  """
  try:
    with progress.quiet_tfds():
      builder = tfds.builder(name, data_dir=data_dir)
      if not builder.is_prepared():
        # It takes what another process has prepared, but is no good at waiting.
        with preparation_lock.exclusive(data_dir, name):
          builder.download_and_prepare(
            file_format='array_record',
            download_config=tfds.download.DownloadConfig(
              try_download_gcs=False
            ),
          )
  except Exception as error:  # Of the network, of disks, of TFDS itself.
    raise DataError(
      f'TFDS cannot prepare {name!r}: {str(error)[:500] or repr(error)}'
    ) from None
  return pathlib.Path(builder.data_dir)


def open_folder(folder: pathlib.Path, tests: Sequence[str]) -> Content:
  """Says what is in any prepared folder of images with one label each.

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
    raise DataError(
      f'{folder}: {str(error) or type(error).__name__}'
    ) from error
  image, label = _keys(folder, info)
  test = next((name for name in tests if name in info.splits), None)
  if 'train' not in info.splits or test is None:
    raise DataError(
      f'{folder} has the splits {", ".join(info.splits)}; expected train and '
      f'one of {", ".join(tests)}'
    )
  train, test = (
    SplitFiles(
      name,
      [pathlib.Path(path) for path in info.splits[name].filepaths],
      info.splits[name].num_examples,
    )
    for name in ('train', test)
  )
  return Content(
    info.name,
    folder,
    train,
    test,
    image,
    label,
    tuple(info.features[label].names),
    is_gray=info.features[image].shape[-1] == 1,
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


def _feature(record: bytes):
  return tf_example_pb2.Example.FromString(record).features.feature


def image_of(record: bytes, content: Content) -> bytes:
  """Returns the encoded image of a record."""
  return _feature(record)[content.image].bytes_list.value[0]


def read_encoded(split: SplitFiles, content: Content) -> Encoded:
  """Reads a split whole, and decodes no image.

  Raises:
    DataError: if a file is damaged.
  """
  encoded, digest = Encoded([], [], [], ''), _RecordsDigest()
  for path in split.paths:
    try:
      for index, record in enumerate(_read_records(path)):
        feature = _feature(record)
        encoded.names.append(f'{path}, record {index}')
        encoded.images.append(feature[content.image].bytes_list.value[0])
        encoded.labels.append(feature[content.label].int64_list.value[0])
        digest.update(record)
    except Exception as error:  # As in `read`.
      raise DataError(
        f'{path}: {str(error) or type(error).__name__}'
      ) from error
  return encoded._replace(digest=digest.hex())


class _RecordsDigest:
  """The SHA-256 of records, in whatever files they lie."""

  def __init__(self):
    self._sha = hashlib.sha256()

  def update(self, record: bytes) -> None:
    self._sha.update(len(record).to_bytes(8))
    self._sha.update(record)

  def hex(self) -> str:
    return self._sha.hexdigest()


def read_labels(
  split: SplitFiles, content: Content, cache_dir: pathlib.Path
) -> tuple[np.ndarray, str]:
  """Returns the labels int32 [N] of array_record files, and their digest.

  The digest is that of `Encoded`. Both are kept in `cache_dir`, as all of the
  split has to be read for them, and read again if a file is of another size or
  time.

  Raises:
    DataError: if a file is damaged, or is no array_record.
  """
  files = [
    (str(path), path.stat().st_size, path.stat().st_mtime_ns)
    for path in split.paths
  ]
  digest = hashlib.sha256(repr((files, content.label)).encode()).hexdigest()
  cached = cache_dir / '.kd_jax' / f'{split.name}-labels-{digest[:16]}.npz'
  try:
    with np.load(cached, allow_pickle=False) as stored:
      # Their checksums are the archive's.
      labels, digest = stored['labels'], str(stored['digest'])
    if labels.shape == (split.num_examples,):
      return labels, digest
  except Exception:  # Of what is not there, cut or damaged: read again.
    pass
  labels, digest = np.empty(split.num_examples, np.int32), _RecordsDigest()
  filled = 0
  for path in progress.bar(split.paths, desc='Reading labels', unit='file'):
    if '.array_record' not in path.name:
      raise DataError(
        f'{path} is no array_record, which alone can be read by index: prepare '
        "the data with file_format='array_record', or raise "
        'config.data.memory_gib'
      )
    try:
      for records in _read_in_parts(path):
        for record in records:
          labels[filled] = _feature(record)[content.label].int64_list.value[0]
          digest.update(record)
          filled += 1
    except Exception as error:  # As in `read`.
      raise DataError(
        f'{path}: {str(error) or type(error).__name__}'
      ) from error
  part = cached.with_suffix(f'.{os.getpid()}.part')
  try:
    cached.parent.mkdir(parents=True, exist_ok=True)
    with open(part, 'wb') as file:
      np.savez(file, labels=labels, digest=digest.hex())
    os.replace(part, cached)
  except OSError as error:
    with contextlib.suppress(OSError):
      part.unlink()
    logging.warning('labels are read once more next time: %s', error)
  return labels, digest.hex()


def _read_in_parts(
  path: pathlib.Path, size: int = 4096
) -> Iterator[list[bytes]]:
  """Yields the records of an array_record file, so many at a time."""
  from array_record.python import array_record_module

  reader = array_record_module.ArrayRecordReader(str(path))
  try:
    count = reader.num_records()
    for start in range(0, count, size):
      yield reader.read(list(range(start, min(start + size, count))))
  finally:
    reader.close()


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
