"""Data sets of the user: an .npz file, a folder of images, or a TFDS data set.

Each mistake is reported with its file and example before a training starts.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kd_jax.data.dataset import (
  SPLITS,
  Arrays,
  DataError,
  Dataset,
  UserArrays,
  make_dataset,
)
from kd_jax.data.user_data import image_folders, npz_files
from kd_jax.runtime import local_paths

_TFDS = 'tfds:'


class Options(NamedTuple):
  """Options for reading the user's files.

  Attributes:
    image_size: side in pixels: image files are cropped to a square around their
      middle and resized to this side; 0 keeps their size, which must then be
      the same for all images.
    memory_gib: limit in GiB; if the images of a split of a folder, or the
      training images of a TFDS data set, would take more memory, they stay on
      disk and are an `images_on_disk.Images`.
    needs_test: whether data without a test split is refused. If not, its test
      split is empty.
  """

  image_size: int = 0
  memory_gib: float = 4.0
  needs_test: bool = True


def load(name: str, data_dir: pathlib.Path, options: Options) -> Dataset:
  """Loads a data set of the user.

  Args:
    name: FILE.npz with train_images, train_labels, test_images and test_labels;
      a folder with train/CLASS/*.png (or .jpg) and test/CLASS/*.png; a folder
      that TFDS has prepared; or tfds:NAME, which TFDS prepares in `data_dir`.
    data_dir: the data folder, where TFDS stores prepared data, and where the
      decoded images of a folder are kept.
    options: how the files are read.
  Returns:
    The data set. Each split is in `ordering.stratified`, so that every part of
    it that is chosen by position has its share of each class.
  Raises:
    DataError: if the data cannot be used; names the mistake and its place.
  """
  path = local_paths.expand(name, 'config.data.name')
  dataset_name = path.name.removesuffix('.npz')
  if name.endswith('.npz'):
    if options.image_size:
      raise DataError(
        f'config.data.image_size={options.image_size}: the arrays of {name} '
        'are not resized; expected 0'
      )
    content = npz_files.read(path, needs_test=options.needs_test)
  elif name.startswith(_TFDS) or (path / 'dataset_info.json').is_file():
    # Other data sets need no TFDS.
    from kd_jax.data.user_data import tfds_folder, tfds_images

    if name.startswith(_TFDS):
      path = tfds_folder.prepare(name.removeprefix(_TFDS), data_dir)
    folder = tfds_folder.open_folder(path, needs_test=options.needs_test)
    dataset_name = folder.name
    content = tfds_images.read(
      folder,
      image_size=options.image_size,
      memory_gib=options.memory_gib,
      cache_dir=data_dir,
    )
  else:
    content = image_folders.read(
      path,
      options.image_size,
      needs_test=options.needs_test,
      memory_gib=options.memory_gib,
      cache_dir=data_dir,
    )
  _check_labels(content, name, options.needs_test)
  return make_dataset(
    dataset_name,
    content.arrays,
    num_classes=_num_classes(content.arrays, content.class_names),
    digest=content.digest,
    class_names=content.class_names,
    orders=content.orders,
  )


def _num_classes(arrays: Arrays, class_names: tuple[str, ...]) -> int:
  """Returns the number of names, or else of classes up to the largest label."""
  return len(class_names) or 1 + int(arrays['train_labels'].max())


def _check_labels(content: UserArrays, name: str, needs_test: bool) -> None:
  """Checks that labels are numbers of classes that students can learn.

  Named classes may lack examples.

  Args:
    content: the content of the files.
    name: the data set, for error messages.
    needs_test: whether the test split must have examples.
  Raises:
    DataError: if a split is empty, a label is outside the classes, or a class
      without a name has no training example.
  """
  arrays = content.arrays
  for split in SPLITS if needs_test else SPLITS[:1]:
    if not len(arrays[f'{split}_labels']):
      raise DataError(f'{name}: the split {split} has no examples')
  num_classes = _num_classes(arrays, content.class_names)
  for split in SPLITS:
    position, label = _first_example(
      content, split, lambda labels: (labels < 0) | (labels >= num_classes)
    )
    if position is not None:
      labels = arrays[f'{split}_labels']
      from_1 = npz_files.start_at_1(labels, num_classes)
      mend = npz_files.FROM_1 if from_1 else ''
      raise DataError(
        f'{name}: {split}_labels[{position}] is {label}; expected integers '
        f'from 0 to {num_classes - 1}, the largest class to train on{mend}'
      )
  if content.class_names:
    return
  found = np.unique(arrays['train_labels'])
  if len(found) < num_classes:
    missing = int(np.argmax(found != np.arange(len(found))))
    mend = npz_files.FROM_1 if found[0] == 1 else ''
    position, label = _first_example(
      content, 'train', lambda labels: labels > missing
    )
    raise DataError(
      f'{name}: train_labels[{position}] is {label}, but no label is '
      f'{missing}; expected integers from 0 on, with an example of each '
      f'class{mend}'
    )


def _first_example(
  content: UserArrays,
  split: str,
  is_such: Callable[[np.ndarray], np.ndarray],
) -> tuple[int | None, int | None]:
  """Returns the first example in the files whose label is such.

  Args:
    content: the content of the files.
    split: the split to look in.
    is_such: maps labels [N] to bool [N].
  Returns:
    The example's position in the files, and its label; (None, None) if there is
    no such example.
  """
  labels = content.arrays[f'{split}_labels']
  such = np.flatnonzero(is_such(labels))
  if not len(such):
    return None, None
  positions = content.orders[split][such]
  first = np.argmin(positions)
  return int(positions[first]), int(labels[such[first]])
