"""Reads a prepared TFDS folder of the user into arrays.

Training images that would take too much memory stay on disk.
"""

import functools
import io
import pathlib
from collections.abc import Sequence

import numpy as np

from kd_jax.data import images_on_disk, ordering
from kd_jax.data.dataset import (
  Split,
  UserArrays,
  dataset_digest,
  named_arrays,
)
from kd_jax.data.user_data import image_files, tfds_folder


def read(
  folder: tfds_folder.PreparedFolder,
  *,
  image_size: int,
  memory_gib: float,
  cache_dir: pathlib.Path,
) -> UserArrays:
  """Reads the images and labels of a prepared folder.

  Args:
    folder: the prepared folder.
    image_size: side in pixels to which images are cropped and resized; 0 keeps
      their size, which must then be the same for all images.
    memory_gib: limit in GiB above which the training images stay on disk; only
      their labels are then read, once.
    cache_dir: the data folder, which stores the labels of images on disk.
  Returns:
    The arrays, whose `train_images` may be an `images_on_disk.Images`. The
    digest is computed from the records and `image_size` and is therefore the
    same for images in memory and on disk.
  Raises:
    DataError: if a file or an image is damaged, or an image has another size.
  """
  orders: dict[str, np.ndarray] = {}
  test_digest = ''
  if folder.test is not None:
    encoded = tfds_folder.read_encoded(folder.test, folder)
    test, orders['test'] = _decode_split(encoded, folder, image_size)
    shape = test.images.shape[1:]
    test_digest = encoded.digest
  else:
    shape = first_image_shape(folder, image_size)
    test = Split(np.zeros((0, *shape), np.uint8), np.zeros(0, np.int32))
    orders['test'] = np.zeros(0, int)
  num_bytes = folder.train.num_examples * int(np.prod(shape))
  if num_bytes > memory_gib * 2**30:
    labels, train_digest = tfds_folder.read_labels(
      folder.train, folder, cache_dir
    )
    orders['train'] = ordering.stratified(labels)
    images = images_on_disk.EncodedImages(
      folder.train.paths,
      functools.partial(_decode_record, folder, image_size, shape),
      shape,
      orders['train'],
    )
    train = Split(images, labels[orders['train']])
  else:
    encoded = tfds_folder.read_encoded(folder.train, folder)
    train, orders['train'] = _decode_split(encoded, folder, image_size, shape)
    train_digest = encoded.digest
  digest = dataset_digest([train_digest, test_digest, repr(image_size)])
  return UserArrays(
    named_arrays(train, test), orders, digest, folder.class_names
  )


def first_image_shape(
  folder: tfds_folder.PreparedFolder, image_size: int
) -> tuple[int, ...]:
  """Returns the shape (H, W, C) of the first training image."""
  name, record = tfds_folder.first_record(folder.train)
  return image_files.decode(
    name,
    io.BytesIO(tfds_folder.encoded_image(record, folder)),
    image_size=image_size,
    is_gray=folder.is_gray,
  ).shape


def _decode_split(
  encoded: tfds_folder.EncodedSplit,
  folder: tfds_folder.PreparedFolder,
  image_size: int,
  shape: Sequence[int] | None = None,
) -> tuple[Split, np.ndarray]:
  """Returns the decoded split, and the position in the files of each example.

  Args:
    encoded: the split.
    folder: the prepared folder.
    image_size: as in `read`.
    shape: the expected (H, W, C); None for the shape of the first image.
  """
  order = ordering.stratified(np.asarray(encoded.labels))
  images = image_files.decode_all(
    [encoded.names[i] for i in order],
    [io.BytesIO(encoded.images[i]) for i in order],
    image_size=image_size,
    is_gray=folder.is_gray,
    shape=shape,
  )
  return Split(images, np.asarray(encoded.labels, np.int32)[order]), order


def _decode_record(
  folder: tfds_folder.PreparedFolder,
  image_size: int,
  shape: Sequence[int],
  record: bytes,
  name: str,
) -> np.ndarray:
  """Decodes the image of a record, for `images_on_disk.EncodedImages`."""
  return image_files.decode(
    f'{folder.folder}, {name} of train',
    io.BytesIO(tfds_folder.encoded_image(record, folder)),
    image_size=image_size,
    is_gray=shape[-1] == 1,
    shape=shape,
  )
