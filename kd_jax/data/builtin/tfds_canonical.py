"""Reads the built-in data sets from prepared TFDS folders, in canonical order.

tfds_builder.py or an official builder of TFDS wrote the folders, with images as
PNG. TFDS writes the examples in the order of a hash of each example's key. The
feature `id` (`train_00042`) restores the canonical order. Without this feature,
the keys are 0 .. N-1, and hashing them again restores the order.
"""

import hashlib
import io
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from kd_jax.data import progress, tfds_classes, tfds_record_files
from kd_jax.data.dataset import (
  Arrays,
  DataError,
  Split,
  error_text,
  named_arrays,
)


def read(folder: pathlib.Path, image_shape: Sequence[int]) -> Arrays:
  """Decodes a prepared folder into arrays in canonical order.

  Args:
    folder: the folder of a version; it holds dataset_info.json.
    image_shape: (H, W, C).
  Returns:
    The arrays. The caller has to check their digests.
  Raises:
    DataError: if the folder cannot be read.
  """
  tfds_classes.check(folder)
  try:
    with progress.quiet_tfds():
      splits = tfds.builder_from_directory(folder).info.splits
    return named_arrays(
      _read_split(splits['train'], image_shape),
      _read_split(splits['test'], image_shape),
    )
  except Exception as error:
    # Metadata, two record formats, protobuf and PNG raise many types of errors
    # for damaged files; all of them mean the same here.
    raise DataError(error_text(error)) from error


def _read_split(info: tfds.core.SplitInfo, image_shape: Sequence[int]) -> Split:
  records = [
    record
    for path in info.filepaths
    for record in tfds_record_files.read(pathlib.Path(path))
  ]
  count = len(records)
  images = np.zeros((count, *image_shape), np.uint8)
  labels = np.zeros(count, np.int32)
  positions = _shuffled_positions(info.name, count)
  bar = progress.bar(records, desc=f'Decoding {info.name}')
  for position, record in zip(positions, bar, strict=True):
    features = tfds_record_files.parse_example(record)
    if 'id' in features:
      position = int(features['id'].bytes_list.value[0].rsplit(b'_')[-1])
    png = io.BytesIO(features['image'].bytes_list.value[0])
    with Image.open(png, formats=('PNG',)) as image:
      images[position] = np.asarray(image).reshape(image_shape)
    labels[position] = features['label'].int64_list.value[0]
  return Split(images=images, labels=labels)


def _shuffled_positions(split: str, count: int) -> list[int]:
  """Returns the keys 0 .. count - 1 in the order in which TFDS writes them.

  Args:
    split: the name of the split, which TFDS uses as the salt of the hash.
    count: the number of examples.
  """

  def tfds_hash(key: int) -> bytes:
    salted = f'{split}{key}'.encode()
    return hashlib.md5(salted, usedforsecurity=False).digest()

  return sorted(range(count), key=tfds_hash)
