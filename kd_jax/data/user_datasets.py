"""Data sets of the user: an .npz file, a folder of images, or a TFDS data set.

Each mistake is reported with its file and example before a training starts.
"""

import pathlib

import numpy as np

from kd_jax.data import image_folders, npz_files
from kd_jax.data.dataset import (
  SPLITS,
  Arrays,
  DataError,
  Dataset,
  array_digest,
  dataset_digest,
  make_dataset,
)

_TFDS = 'tfds:'


def load(
  name: str, data_dir: pathlib.Path, image_size: int, memory_gib: float
) -> Dataset:
  """Loads a data set of the user.

  Args:
    name: FILE.npz with train_images, train_labels, test_images and test_labels;
      a folder with train/CLASS/*.png (or .jpg) and test/CLASS/*.png; a folder
      that TFDS has prepared; or tfds:NAME, which TFDS prepares in `data_dir`.
    data_dir: the data folder, where TFDS stores prepared data.
    image_size: side in pixels: image files are cropped to a square around their
      middle and resized to this side; 0 keeps their size, which must then be
      the same for all images.
    memory_gib: limit in GiB; if the training images of a TFDS data set would
      take more memory, they stay in the files of TFDS and are an
      `images_on_disk.Images`.
  Returns:
    The data set.
  Raises:
    DataError: if the data cannot be used; names the mistake and its place.
  """
  path = pathlib.Path(name).expanduser()
  dataset_name, digest = path.name.removesuffix('.npz'), None
  class_names: tuple[str, ...] = ()
  if name.endswith('.npz'):
    if image_size:
      raise DataError(
        f'config.data.image_size={image_size}: the arrays of {name} are not '
        'resized; expected 0'
      )
    arrays = npz_files.read(path)
  elif name.startswith(_TFDS) or (path / 'dataset_info.json').is_file():
    # Other data sets need no TFDS.
    from kd_jax.data import tfds_folder, tfds_images

    if name.startswith(_TFDS):
      path = tfds_folder.prepare(name.removeprefix(_TFDS), data_dir)
    folder = tfds_folder.open_folder(path)
    dataset_name, class_names = folder.name, folder.class_names
    arrays, digest = tfds_images.read(
      folder,
      image_size=image_size,
      memory_gib=memory_gib,
      cache_dir=data_dir,
    )
  else:
    arrays, class_names = image_folders.read(path, image_size)
  _check_labels(arrays, class_names, name)
  return make_dataset(
    dataset_name,
    arrays,
    num_classes=_num_classes(arrays, class_names),
    digest=digest or dataset_digest(map(array_digest, arrays.values())),
    class_names=class_names,
  )


def _num_classes(arrays: Arrays, class_names: tuple[str, ...]) -> int:
  """Returns the number of names, or else of classes up to the largest label."""
  return len(class_names) or 1 + int(arrays['train_labels'].max())


def _check_labels(
  arrays: Arrays, class_names: tuple[str, ...], name: str
) -> None:
  """Checks that labels are numbers of classes that students can learn.

  Args:
    arrays: the arrays of the data set.
    class_names: the name of each label, in order; () if classes have no names.
      Named classes may lack examples.
    name: the data set, for error messages.
  Raises:
    DataError: if a split is empty, a label is outside the classes, or a class
      without a name has no training example.
  """
  for split in SPLITS:
    if not len(arrays[f'{split}_labels']):
      raise DataError(f'{name}: the split {split} has no examples')
  num_classes = _num_classes(arrays, class_names)
  for split in SPLITS:
    labels = arrays[f'{split}_labels']
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
      first = int(np.argmax(wrong))
      raise DataError(
        f'{name}: {split}_labels[{first}] is {labels[first]}; expected '
        f'integers from 0 to {num_classes - 1}, the largest class to train on'
      )
  if class_names:
    return
  train_labels = arrays['train_labels']
  found = np.unique(train_labels)
  if len(found) < num_classes:
    missing = int(np.argmax(found != np.arange(len(found))))
    first = int(np.argmax(train_labels > missing))
    raise DataError(
      f'{name}: train_labels[{first}] is {train_labels[first]}, but no '
      f'label is {missing}; expected integers from 0 on, with an example of '
      'each class'
    )
