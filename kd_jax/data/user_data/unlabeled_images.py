"""Images without labels, which join the training split of the students.

A teacher's outputs take the place of the labels that the images lack. The
images come from a folder or from a file of the user.
"""

import dataclasses
import hashlib
import pathlib
from typing import Any

import numpy as np

from kd_jax.data import images_on_disk
from kd_jax.data.dataset import (
  NO_LABEL,
  DataError,
  Dataset,
  Split,
  array_digest,
)
from kd_jax.data.user_data import decoded_files, image_files, npz_files
from kd_jax.runtime import host_memory, local_paths

FIELD = 'config.train.unlabeled'
_ARRAY = 'images'
_SPLIT = 'unlabeled'  # The name of the images in the file that keeps them.
_DIGITS = 32  # Digits of the digest in the name of the images.


def add(
  dataset: Dataset,
  name: str,
  *,
  image_size: int,
  memory_gib: float,
  cache_dir: pathlib.Path,
) -> Dataset:
  """Returns a data set with images without labels in its training split.

  Args:
    dataset: the data set.
    name: a folder with PNG or JPEG files, at any depth, in the order of their
      paths; or FILE.npz with an array 'images', uint8 [U, H, W, C] or
      [U, H, W].
    image_size: side in pixels to which image files are cropped and resized; 0
      keeps their size. With a built-in data set of square images they get its
      size.
    memory_gib: limit in GiB above which the images of a folder stay on disk.
    cache_dir: the data folder, which keeps many decoded images.
  Returns:
    The data set; the images come last, with the label NO_LABEL. Its training
    images are an `images_on_disk.Images` if those with labels are one, or if
    those without stay on disk.
  Raises:
    DataError: if the images cannot be read, there is none, or their shape is
      not that of the training images.
  """
  shape = dataset.task.image_shape
  path = local_paths.expand(name, FIELD)
  images: np.ndarray | images_on_disk.Images
  if name.endswith('.npz'):
    images = _read_npz(path)
    digest = array_digest(images)
  elif path.is_dir():
    if not dataset.is_users and shape[0] == shape[1]:
      image_size = shape[0]
    images, digest = _decode_folder(
      path, image_size, shape, memory_gib * 2**30, cache_dir
    )
  else:
    raise DataError(
      f'{FIELD}={name!r}: expected a folder of images, FILE.npz with an array '
      f"'{_ARRAY}', or 'rest'"
    )
  if not len(images):
    raise DataError(f'{FIELD}: {path} holds no images')
  if images.shape[1:] != shape:
    raise DataError(
      f'{FIELD}: the images of {path} have the shape {images.shape[1:]}, but '
      f'those of {dataset.name} have {shape}; expected one shape'
    )
  labels = np.full(len(images), NO_LABEL, np.int32)
  train = Split(
    _join(dataset.train.images, images),
    np.concatenate([np.asarray(dataset.train.labels), labels]),
  )
  digest = hashlib.sha256(digest.encode()).hexdigest()
  return dataclasses.replace(
    dataset, train=train, unlabeled=f'unlabeled-{digest[:_DIGITS]}'
  )


def _join(
  labeled: Any, unlabeled: np.ndarray | images_on_disk.Images
) -> np.ndarray | images_on_disk.Images:
  """Returns all training images, in memory if both parts are."""
  parts = [
    part if isinstance(part, images_on_disk.Images) else np.asarray(part)
    for part in (labeled, unlabeled)
  ]
  arrays = [part for part in parts if isinstance(part, np.ndarray)]
  if len(arrays) < len(parts):
    return images_on_disk.JoinedImages(parts)
  host_memory.check_available(
    sum(part.nbytes for part in arrays),
    'the training images with those without labels',
    'give fewer images',
  )
  return np.concatenate(arrays)


def list_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the PNG and JPEG files of a folder, at any depth, by their paths.

  Hidden files and folders are left out.
  """
  return sorted(
    path
    for path in folder.rglob('*')
    if path.suffix.lower() in image_files.SUFFIXES
    and not any(p.startswith('.') for p in path.relative_to(folder).parts)
  )


def _decode_folder(
  folder: pathlib.Path,
  image_size: int,
  shape: tuple[int, ...],
  limit: float,
  cache_dir: pathlib.Path,
) -> tuple[np.ndarray | images_on_disk.Images, str]:
  """Decodes the images of a folder; they are gray if `shape` is.

  Args:
    folder: holds the image files.
    image_size: side in pixels of the results, or 0.
    shape: (H, W, C) of the training images.
    limit: bytes above which the images stay on disk.
    cache_dir: the data folder.
  Returns:
    The images [U, H, W, C] and their `array_digest`.
  """
  paths = list_files(folder)
  if not paths:
    raise DataError(
      f'{FIELD}: {folder} holds no images: expected files '
      f'*{", *".join(image_files.SUFFIXES)}, in folders or not'
    )
  decoded = decoded_files.find_or_decode(
    decoded_files.Place(folder, {_SPLIT: paths}, image_size, cache_dir, shape),
    lambda: shape,
    limit=limit,
    like='an image of train',
  )
  if decoded is not None:
    images = decoded.images(_SPLIT, np.arange(len(paths)), limit)
    return images, decoded.digests[_SPLIT]
  images = image_files.decode_all(
    [str(path) for path in paths],
    paths,
    image_size=image_size,
    is_gray=shape[-1] == 1,
    shape=shape,
  )
  return images, array_digest(images)


def _read_npz(path: pathlib.Path) -> np.ndarray:
  """Returns the array 'images' [U, H, W, C] of a file."""
  expected = f"FILE.npz with an array '{_ARRAY}'"
  with npz_files.open_arrays(path, FIELD, expected) as content:
    if _ARRAY not in content.files:
      raise DataError(
        f"{FIELD}: {path} lacks the array '{_ARRAY}'; it holds "
        f'{", ".join(content.files)}'
      )
    npz_files.check_memory(content.zip, path, (_ARRAY,))
    images = npz_files.array_of(content, _ARRAY)
  return npz_files.as_images(images, len(images), f'{path}: {_ARRAY}')
