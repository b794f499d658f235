"""Reads a prepared TFDS folder of the user into arrays.

Training images that would take too much memory stay on disk.
"""

import functools
import io
import pathlib
from collections.abc import Sequence

import numpy as np

from kd_jax.data import image_files, images_on_disk, tfds_folder
from kd_jax.data.dataset import Arrays, Split, dataset_digest, named_arrays


def read(
  folder: tfds_folder.PreparedFolder,
  *,
  image_size: int,
  memory_gib: float,
  cache_dir: pathlib.Path,
) -> tuple[Arrays, str]:
  """Reads the images and labels of a prepared folder.

  Args:
    folder: the prepared folder.
    image_size: side in pixels to which images are cropped and resized; 0 keeps
      their size, which must then be the same for all images.
    memory_gib: limit in GiB above which the training images stay on disk; only
      their labels are then read, once.
    cache_dir: the data folder, which stores the labels of images on disk.
  Returns:
    The arrays, whose `train_images` may be an `images_on_disk.Images`, and the
    digest of the data. The digest is computed from the records and `image_size`
    and is therefore the same for images in memory and on disk.
  Raises:
    DataError: if a file or an image is damaged, or an image has another size.
  """
  test_encoded = tfds_folder.read_encoded(folder.test, folder)
  test = _decode_split(test_encoded, folder, image_size)
  shape = test.images.shape[1:]
  num_bytes = folder.train.num_examples * int(np.prod(shape))
  if num_bytes > memory_gib * 2**30:
    images = images_on_disk.Images(
      folder.train.paths,
      functools.partial(_decode_record, folder, image_size, shape),
      shape,
    )
    labels, train_digest = tfds_folder.read_labels(
      folder.train, folder, cache_dir
    )
    train = Split(images, labels)
  else:
    train_encoded = tfds_folder.read_encoded(folder.train, folder)
    train = _decode_split(train_encoded, folder, image_size, shape)
    train_digest = train_encoded.digest
  digest = dataset_digest([train_digest, test_encoded.digest, repr(image_size)])
  return named_arrays(train, test), digest


def _decode_split(
  encoded: tfds_folder.EncodedSplit,
  folder: tfds_folder.PreparedFolder,
  image_size: int,
  shape: Sequence[int] | None = None,
) -> Split:
  images = image_files.decode_all(
    encoded.names,
    [io.BytesIO(image) for image in encoded.images],
    image_size=image_size,
    is_gray=folder.is_gray,
    shape=shape,
  )
  return Split(images, np.asarray(encoded.labels, np.int32))


def _decode_record(
  folder: tfds_folder.PreparedFolder,
  image_size: int,
  shape: Sequence[int],
  record: bytes,
  name: str,
) -> np.ndarray:
  """Decodes the image of a record; the function of `images_on_disk.Images`."""
  return image_files.decode(
    f'{folder.folder}, {name} of train',
    io.BytesIO(tfds_folder.encoded_image(record, folder)),
    image_size=image_size,
    is_gray=shape[-1] == 1,
    shape=shape,
  )
