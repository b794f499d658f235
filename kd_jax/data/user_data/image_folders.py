"""Reads a data set from folders of image files, one folder for each class."""

import os
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from kd_jax.data import ordering
from kd_jax.data.dataset import (
  TEST_SPLIT_NAMES,
  DataError,
  Split,
  UserArrays,
  files_digest,
  named_arrays,
  no_test_split,
)
from kd_jax.data.user_data import image_files

_PATTERNS = f'*{", *".join(image_files.SUFFIXES)}'


def read(
  folder: pathlib.Path, image_size: int, *, needs_test: bool = True
) -> UserArrays:
  """Reads the images of train/CLASS/ and test/CLASS/.

  If one image has colors, all images get three channels. The order of the files
  is by class, and within a class by name.

  Args:
    folder: holds train/ and one of test/, val/ and validation/.
    image_size: side in pixels to which images are cropped and resized; 0 keeps
      their size, which must then be the same for all images.
    needs_test: whether a folder without a test split is refused.
  Returns:
    The arrays, and the names of the classes in the order of the labels, which
    is alphabetical.
  Raises:
    DataError: if a folder or an image is missing, or an image cannot be used.
  """
  train_folder, test_folder = _split_folders(folder, needs_test)
  class_names = tuple(sorted(_class_folders(train_folder)))
  train = _list_images(train_folder, class_names)
  empty = sorted({*range(len(class_names))} - {*train.labels.tolist()})
  if empty:
    raise DataError(
      f'{train_folder / class_names[empty[0]]} holds no images: add '
      f'{_PATTERNS}, or remove the folder'
    )
  test = _Listing([], np.zeros(0, np.int32), np.zeros(0, int))
  if test_folder is not None:
    test = _list_images(test_folder, class_names)
  is_gray = image_files.are_gray([*train.paths, *test.paths])
  train_images = _decode(train.paths, image_size, is_gray)
  test_images = _decode(
    test.paths, image_size, is_gray, shape=train_images.shape[1:]
  )
  arrays = named_arrays(
    Split(train_images, train.labels), Split(test_images, test.labels)
  )
  orders = {'train': train.order, 'test': test.order}
  digest = files_digest(arrays, orders)
  return UserArrays(arrays, orders, digest, class_names)


def list_files(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Returns the image files by split, in the order of the files."""
  train_folder, test_folder = _split_folders(folder, needs_test=False)
  class_names = tuple(sorted(_class_folders(train_folder)))
  listings = {'train': _list_images(train_folder, class_names)}
  if test_folder is not None:
    listings['test'] = _list_images(test_folder, class_names)
  return {
    split: [listing.paths[i] for i in np.argsort(listing.order)]
    for split, listing in listings.items()
  }


def _split_folders(
  folder: pathlib.Path, needs_test: bool
) -> tuple[pathlib.Path, pathlib.Path | None]:
  """Returns the folders of the training split and of the test split."""
  train = folder / 'train'
  tests = [folder / name for name in TEST_SPLIT_NAMES]
  test = next((path for path in tests if path.is_dir()), None)
  if not train.is_dir():
    raise DataError(
      f'{folder} lacks train/: expected train/ and test/ (or val/), each with '
      'a folder of PNG or JPEG files for each class'
    )
  if test is None and needs_test:
    raise no_test_split(
      folder,
      'test/ (or val/) with a folder of PNG or JPEG files for each class',
    )
  return train, test


def _visible(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
  """Returns the paths that are not hidden.

  Hidden folders belong to programs, such as `.ipynb_checkpoints`. Operating
  systems leave hidden files beside images, such as `._001.png`.
  """
  return [path for path in paths if not path.name.startswith('.')]


def _class_folders(
  split_folder: pathlib.Path,
) -> dict[str, list[pathlib.Path]]:
  """Returns the folders of each class in a split's folder.

  Names that differ only in Unicode normalization are one class: macOS writes
  other bytes for an accented name than other systems. Bytes that are no UTF-8
  are escaped.
  """
  folders: dict[str, list[pathlib.Path]] = {}
  for path in sorted(_visible(split_folder.iterdir())):
    if path.is_dir():
      name = os.fsencode(path.name).decode('utf-8', 'backslashreplace')
      name = unicodedata.normalize('NFC', name)
      folders.setdefault(name, []).append(path)
  return folders


class _Listing(NamedTuple):
  """The image files of a split, in `ordering.stratified`.

  Attributes:
    paths: the images.
    labels: int32 [N].
    order: int [N], their positions by class and name.
  """

  paths: list[pathlib.Path]
  labels: np.ndarray
  order: np.ndarray


def _list_images(
  split_folder: pathlib.Path, class_names: Sequence[str]
) -> _Listing:
  """Lists the images of a split.

  Args:
    split_folder: the folder of the split.
    class_names: the name of each label, in order.
  Raises:
    DataError: if the split has an unknown class or no images.
  """
  folders = _class_folders(split_folder)
  unknown = sorted({*folders} - {*class_names})
  if unknown:
    raise DataError(
      f'{split_folder} has classes that train/ lacks: {", ".join(unknown)}'
    )
  images, labels = _images_by_class(split_folder, folders, class_names)
  if not images:
    raise DataError(
      f'{split_folder} holds no images: expected CLASS/{_PATTERNS}'
    )
  order = ordering.stratified(np.asarray(labels))
  return _Listing(
    [images[i] for i in order], np.asarray(labels, np.int32)[order], order
  )


def _images_by_class(
  split_folder: pathlib.Path,
  folders: Mapping[str, list[pathlib.Path]],
  class_names: Sequence[str],
) -> tuple[list[pathlib.Path], list[int]]:
  """Returns the images of a split, sorted by class and name, and their labels.

  Args:
    split_folder: the folder of the split.
    folders: the folders of each class in it.
    class_names: the name of each label, in order.
  """
  images, labels, others = [], [], []
  for label, name in enumerate(class_names):
    paths = [p for f in folders.get(name, ()) for p in _visible(f.iterdir())]
    found = sorted(p for p in paths if p.suffix.lower() in image_files.SUFFIXES)
    others += sorted({*paths} - {*found})
    images += found
    labels += [label] * len(found)
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
