"""Reads array_record and tfrecord files without TensorFlow.

A record of TFDS is a serialized tf.train.Example.
"""

import pathlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from tensorflow_datasets.proto import tf_example_pb2

from kd_jax.data.dataset import DataError
from kd_jax.runtime import local_paths

# Records that `read_chunks` holds in memory at a time.
_CHUNK_SIZE = 4096


def parse_example(record: bytes) -> Any:
  """Returns the features of a serialized tf.train.Example by name."""
  return tf_example_pb2.Example.FromString(record).features.feature


def is_array_record(path: pathlib.Path) -> bool:
  """Returns whether the name of a file says that it is an array_record."""
  return '.array_record' in path.name


def read(path: pathlib.Path) -> Sequence[bytes]:
  """Returns the records of an array_record or tfrecord file, in order.

  Raises:
    DataError: if a tfrecord file is incomplete.
    Exception: of any type, if an array_record file is damaged.
  """
  local_paths.check_regular(path, 'a file of records')
  if not is_array_record(path):
    return list(_read_tfrecords(path))
  from array_record.python import array_record_module

  reader = array_record_module.ArrayRecordReader(str(path))
  try:
    return reader.read_all()
  finally:
    reader.close()


def read_chunks(path: pathlib.Path) -> Iterator[list[bytes]]:
  """Yields the records of an array_record file in chunks, to limit memory.

  Args:
    path: an array_record file.
  Yields:
    At most `_CHUNK_SIZE` records, in order.
  """
  from array_record.python import array_record_module

  local_paths.check_regular(path, 'a file of records')
  reader = array_record_module.ArrayRecordReader(str(path))
  try:
    count = reader.num_records()
    for start in range(0, count, _CHUNK_SIZE):
      yield reader.read(list(range(start, min(start + _CHUNK_SIZE, count))))
  finally:
    reader.close()


def first_records(path: pathlib.Path) -> Sequence[bytes]:
  """Returns some records from the start of a file; () of an empty file."""
  if not is_array_record(path):
    return read(path)
  return next(read_chunks(path), [])


def _read_tfrecords(path: pathlib.Path) -> Iterator[bytes]:
  """Yields the records of a tfrecord file.

  The file stores for each record its length (8 bytes), a checksum of the length
  (4 bytes), the record, and a checksum of the record (4 bytes). The checksums
  are not checked, because the standard library has no crc32c. The digests of
  the arrays prove that the records are correct.
  """
  content = memoryview(path.read_bytes())
  start = 0
  while start < len(content):
    if start + 12 > len(content):
      raise DataError(f'{path.name}: incomplete')
    (length,) = struct.unpack_from('<Q', content, start)
    end = start + 12 + length
    if end + 4 > len(content):
      raise DataError(f'{path.name}: incomplete')
    yield bytes(content[start + 12 : end])
    start = end + 4
