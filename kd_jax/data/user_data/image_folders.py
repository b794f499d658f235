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
  Arrays,
  DataError,
  Split,
  UserArrays,
  array_digest,
  dataset_digest,
  files_digest,
  named_arrays,
  no_test_split,
)
from kd_jax.data.user_data import decoded_files, image_files

_PATTERNS = f'*{", *".join(image_files.SUFFIXES)}'


def read(
  folder: pathlib.Path,
  image_size: int,
  *,
  needs_test: bool,
  memory_gib: float,
  cache_dir: pathlib.Path,
) -> UserArrays:
  """Reads the images of train/CLASS/ and test/CLASS/.

  If one image has colors, all images get three channels. The order of the files
  is by class, and within a class by name.

  Args:
    folder: holds train/ and one of test/, val/ and validation/.
    image_size: side in pixels to which images are cropped and resized; 0 keeps
      their size, which must then be the same for all images.
    needs_test: whether a folder without a test split is refused.
    memory_gib: limit in GiB above which the images of a split stay on disk.
    cache_dir: the data folder, which keeps many decoded images.
  Returns:
    The arrays, and the names of the classes in the order of the labels, which
    is alphabetical. Images may be an `images_on_disk.Images`.
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
  listings = {'train': train, 'test': test}
  orders = {name: listing.order for name, listing in listings.items()}
  limit = memory_gib * 2**30
  files = {name: listing.in_file_order() for name, listing in listings.items()}
  decoded = decoded_files.find_or_decode(
    decoded_files.Place(folder, files, image_size, cache_dir),
    lambda: _first_shape(files, image_size),
    limit=limit,
    like='an image of train' if image_size else str(files['train'][0]),
  )
  if decoded is None:
    arrays = _decode_in_memory(listings, image_size)
    digest = files_digest(arrays, orders)
  else:
    splits = {}
    for name, listing in listings.items():
      images = decoded.images(name, listing.order, limit)
      splits[name] = Split(images, listing.labels)
    arrays = named_arrays(splits['train'], splits['test'])
    digest = dataset_digest(
      digest
      for name, listing in listings.items()
      for digest in (
        decoded.digests[name],
        array_digest(listing.labels, listing.order),
      )
    )
  return UserArrays(arrays, orders, digest, class_names)


def _first_shape(
  files: Mapping[str, Sequence[pathlib.Path]], image_size: int
) -> tuple[int, ...]:
  """Returns the shape (H, W, C) that the images of a folder are to have."""
  is_gray = image_files.are_gray([*files['train'], *files['test']])
  if image_size:
    return image_size, image_size, 1 if is_gray else 3
  first = files['train'][0]
  image = image_files.decode(str(first), first, image_size=0, is_gray=is_gray)
  return image.shape


def _decode_in_memory(
  listings: Mapping[str, '_Listing'], image_size: int
) -> Arrays:
  """Returns the arrays of both splits, decoded."""
  train, test = listings['train'], listings['test']
  is_gray = image_files.are_gray([*train.paths, *test.paths])
  train_images = _decode(train.paths, image_size, is_gray)
  test_images = _decode(
    test.paths, image_size, is_gray, shape=train_images.shape[1:]
  )
  return named_arrays(
    Split(train_images, train.labels), Split(test_images, test.labels)
  )


def list_files(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Returns the image files by split, in the order of the files."""
  train_folder, test_folder = _split_folders(folder, needs_test=False)
  class_names = tuple(sorted(_class_folders(train_folder)))
  listings = {'train': _list_images(train_folder, class_names)}
  if test_folder is not None:
    listings['test'] = _list_images(test_folder, class_names)
  return {split: listing.in_file_order() for split, listing in listings.items()}


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

  def in_file_order(self) -> list[pathlib.Path]:
    """Returns the images by class and name."""
    return [self.paths[i] for i in np.argsort(self.order)]


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
