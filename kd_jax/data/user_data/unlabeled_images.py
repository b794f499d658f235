"""Images without labels, which join the training split of the students.

A teacher's outputs take the place of the labels that the images lack. The
images come from a folder or from a file of the user.
"""

import dataclasses
import hashlib
import pathlib

import numpy as np

from kd_jax.data.dataset import (
  NO_LABEL,
  DataError,
  Dataset,
  Split,
  array_digest,
)
from kd_jax.data.user_data import image_files, npz_files
from kd_jax.runtime import host_memory, local_paths

FIELD = 'config.train.unlabeled'
_ARRAY = 'images'
_DIGITS = 32  # Digits of the digest in the name of the images.


def add(dataset: Dataset, name: str, *, image_size: int = 0) -> Dataset:
  """Returns a data set with images without labels in its training split.

  Args:
    dataset: the data set; its training images are in memory.
    name: a folder with PNG or JPEG files, at any depth, in the order of their
      paths; or FILE.npz with an array 'images', uint8 [U, H, W, C] or
      [U, H, W].
    image_size: side in pixels to which image files are cropped and resized; 0
      keeps their size. With a built-in data set of square images they get its
      size.
  Returns:
    The data set; the images come last, with the label NO_LABEL.
  Raises:
    DataError: if the images cannot be read, there is none, or their shape is
      not that of the training images.
  """
  shape = dataset.task.image_shape
  path = local_paths.expand(name, FIELD)
  if name.endswith('.npz'):
    images = _read_npz(path)
  elif path.is_dir():
    if not dataset.is_users and shape[0] == shape[1]:
      image_size = shape[0]
    images = _decode_folder(path, image_size, shape)
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
  host_memory.check_available(
    images.nbytes + int(np.prod(np.shape(dataset.train.images))),
    'the training images with those without labels',
    'give fewer images',
  )
  labels = np.full(len(images), NO_LABEL, np.int32)
  train = Split(
    np.concatenate([np.asarray(dataset.train.images), images]),
    np.concatenate([np.asarray(dataset.train.labels), labels]),
  )
  digest = hashlib.sha256(array_digest(images).encode()).hexdigest()
  return dataclasses.replace(
    dataset, train=train, unlabeled=f'unlabeled-{digest[:_DIGITS]}'
  )


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
  folder: pathlib.Path, image_size: int, shape: tuple[int, ...]
) -> np.ndarray:
  """Returns the images [U, H, W, C] of a folder, gray if `shape` is."""
  paths = list_files(folder)
  if not paths:
    raise DataError(
      f'{FIELD}: {folder} holds no images: expected files '
      f'*{", *".join(image_files.SUFFIXES)}, in folders or not'
    )
  return image_files.decode_all(
    [str(path) for path in paths],
    paths,
    image_size=image_size,
    is_gray=shape[-1] == 1,
    shape=shape,
  )


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
