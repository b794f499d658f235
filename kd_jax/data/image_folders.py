"""Reads a data set from folders of image files, one folder for each class."""

import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from absl import logging

from kd_jax.data import image_files
from kd_jax.data.dataset import (
  TEST_SPLIT_NAMES,
  Arrays,
  DataError,
  Split,
  named_arrays,
)

_PATTERNS = f'*{", *".join(image_files.SUFFIXES)}'


def read(
  folder: pathlib.Path, image_size: int
) -> tuple[Arrays, tuple[str, ...]]:
  """Reads the images of train/CLASS/ and test/CLASS/.

  If one image has colors, all images get three channels.

  Args:
    folder: holds train/ and one of test/, val/ and validation/.
    image_size: side in pixels to which images are cropped and resized; 0 keeps
      their size, which must then be the same for all images.
  Returns:
    The arrays, and the names of the classes in the order of the labels, which
    is alphabetical.
  Raises:
    DataError: if a folder or an image is missing, or an image cannot be used.
  """
  train_folder, test_folder = _split_folders(folder)
  class_names = _class_names(train_folder)
  train_paths, train_labels = _list_images(train_folder, class_names)
  test_paths, test_labels = _list_images(test_folder, class_names)
  empty = sorted({*range(len(class_names))} - {*train_labels})
  if empty:
    raise DataError(
      f'{train_folder / class_names[empty[0]]} holds no images: add '
      f'{_PATTERNS}, or remove the folder'
    )
  is_gray = image_files.are_gray([*train_paths, *test_paths])
  train_images = _decode(train_paths, image_size, is_gray)
  test_images = _decode(
    test_paths, image_size, is_gray, shape=train_images.shape[1:]
  )
  arrays = named_arrays(
    Split(train_images, np.asarray(train_labels, np.int32)),
    Split(test_images, np.asarray(test_labels, np.int32)),
  )
  return arrays, class_names


def _split_folders(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """Returns the folders of the training split and of the test split."""
  train = folder / 'train'
  tests = [folder / name for name in TEST_SPLIT_NAMES]
  test = next((path for path in tests if path.is_dir()), None)
  if test is None or not train.is_dir():
    raise DataError(
      f'{folder} lacks train/ or test/ (or val/): expected both, each with a '
      'folder of PNG or JPEG files for each class'
    )
  return train, test


def _visible(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
  """Returns the paths that are not hidden.

  Hidden folders belong to programs, such as `.ipynb_checkpoints`. Operating
  systems leave hidden files beside images, such as `._001.png`.
  """
  return [path for path in paths if not path.name.startswith('.')]


def _class_names(split_folder: pathlib.Path) -> tuple[str, ...]:
  """Returns the names of the folders in a split's folder, sorted."""
  paths = _visible(split_folder.iterdir())
  return tuple(sorted(path.name for path in paths if path.is_dir()))


def _list_images(
  split_folder: pathlib.Path, class_names: Sequence[str]
) -> tuple[list[pathlib.Path], list[int]]:
  """Lists the images of a split.

  Args:
    split_folder: the folder of the split.
    class_names: the name of each label, in order.
  Returns:
    The paths of the images, sorted by class and by name, and their labels.
  Raises:
    DataError: if the split has an unknown class or no images.
  """
  unknown = sorted({*_class_names(split_folder)} - {*class_names})
  if unknown:
    raise DataError(
      f'{split_folder} has classes that train/ lacks: {", ".join(unknown)}'
    )
  images, labels, others = [], [], []
  for label, name in enumerate(class_names):
    if not (split_folder / name).is_dir():
      continue
    paths = _visible((split_folder / name).iterdir())
    found = sorted(p for p in paths if p.suffix.lower() in image_files.SUFFIXES)
    others += sorted({*paths} - {*found})
    images += found
    labels += [label] * len(found)
  if not images:
    raise DataError(
      f'{split_folder} holds no images: expected CLASS/{_PATTERNS}'
    )
  if others:
    logging.warning(
      '%s: ignoring %d files and folders that are not PNG or JPEG, such as %s',
      split_folder,
      len(others),
      others[0],
    )
  return images, labels


def _decode(
  paths: Sequence[pathlib.Path],
  image_size: int,
  is_gray: bool,
  shape: Sequence[int] | None = None,
) -> np.ndarray:
  return image_files.decode_all(
    [str(path) for path in paths],
    paths,
    image_size=image_size,
    is_gray=is_gray,
    shape=shape,
  )
