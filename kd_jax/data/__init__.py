"""Data sets as arrays: `load(name)`.

`mnist`, `fashion_mnist` and `cifar10` are prepared once with TFDS (without
TensorFlow) from the first location that has the original files. Their images
are decoded once and checked at every load. `generated` and `generated_rgb` are
computed at each start, for tests. Paths and names that begin with `tfds:`
denote the user's data sets.

The modules in reading order:
  The type: `dataset`, and `images_on_disk` if the images exceed the memory.
  Where data sets come from: the folder `builtin` has the built-in data sets,
    `user_data` the user's, and `generated` needs no files. Both folders use
    `tfds_record_files`, `tfds_classes`, `preparation_lock` and `progress`.
    `ordering` puts the user's examples into a fixed order.
  What a run takes of a data set: `selection`, `subsets` and `transfer_sets`.
  What a step does to images: `preprocessing` and `augmentation`.
"""

import os
import pathlib

from kd_jax.data import generated
from kd_jax.data.builtin import prepared_store
from kd_jax.data.builtin.specs import SPECS
from kd_jax.data.dataset import (
  NO_LABEL,
  SPLITS,
  DataError,
  Dataset,
  ImageTask,
  Split,
  is_on_disk,
)
from kd_jax.data.subsets import PATTERNS, SUBSETS, find_subset
from kd_jax.data.transfer_sets import TRANSFER_SETS, transfer_set
from kd_jax.runtime import local_paths, suggestions

__all__ = [
  'NO_LABEL',
  'PATTERNS',
  'SPLITS',
  'SUBSETS',
  'TRANSFER_SETS',
  'DataError',
  'Dataset',
  'ImageTask',
  'Split',
  'default_data_dir',
  'find_subset',
  'is_on_disk',
  'list_image_files',
  'load',
  'names',
  'transfer_set',
]


def default_data_dir() -> pathlib.Path:
  """Returns the data folder of this user: $XDG_CACHE_HOME/kd_jax/data.

  If XDG_CACHE_HOME is not set, ~/.cache replaces it.
  """
  # Imported here, as `files` imports JAX, which loading data does not need.
  from kd_jax.runtime import files

  return files.cache_dir() / 'data'


def names() -> tuple[str, ...]:
  """Returns the names of the built-in data sets."""
  return (*SPECS, *generated.SHAPES)


def load(
  name: str,
  *,
  data_dir: str | os.PathLike | None = None,
  source_dir: str | os.PathLike | None = None,
  image_size: int = 0,
  memory_gib: float = 4.0,
  needs_test: bool = True,
) -> Dataset:
  """Loads a data set. The first load also fetches and prepares it.

  Args:
    name: one of `names()`, or a data set of the user: FILE.npz, a folder with
      train/CLASS/*.png and test/CLASS/*.png, a folder that TFDS has prepared,
      or tfds:NAME.
    data_dir: the folder for prepared data; None for `default_data_dir()`. A
      TFDS data folder may be given: its data sets are read and not changed.
    source_dir: a folder that is searched before anything is downloaded: it
      holds the original files (loose, gzipped or in a known archive), or is a
      TFDS data folder.
    image_size: side in pixels to which the user's image files are cropped and
      resized; 0 keeps their size. See `user_datasets.Options`.
    memory_gib: limit in GiB; images of a folder, and training images of TFDS,
      that would take more memory stay on disk. See `user_datasets.Options`.
    needs_test: whether the user's data must have a test split; if not, an empty
      one replaces it.
  Returns:
    The data set, in canonical order; its arrays are read-only.
  Raises:
    DataError: if the name is unknown, no location has the data, or the data
      folder cannot be used; the message says what to do.
  """
  local_paths.expand(name, 'config.data.name')
  is_user_dataset = _is_user_dataset(name)
  if image_size and not is_user_dataset:
    raise DataError(
      f'config.data.image_size={image_size}: the images of {name} have a fixed '
      'size; expected 0'
    )
  if name in generated.SHAPES:
    return generated.load(name)
  if not is_user_dataset and name not in SPECS:
    raise DataError(
      f'unknown data set {name!r}; known: {", ".join(names())}; for your data, '
      'give FILE.npz, a folder of images, or tfds:NAME'
      f'{suggestions.nearest(name, names())}'
    )
  data_dir = _absolute(data_dir, 'data_dir') or default_data_dir()
  if is_user_dataset:
    # Imported here, as it imports TFDS and Pillow.
    from kd_jax.data.user_data import user_datasets

    options = user_datasets.Options(image_size, memory_gib, needs_test)
    return user_datasets.load(name, data_dir, options)
  return prepared_store.load(
    SPECS[name], data_dir, _absolute(source_dir, 'source_dir')
  )


def add_unlabeled(
  dataset: Dataset,
  name: str,
  *,
  data_dir: str | os.PathLike | None = None,
  image_size: int = 0,
  memory_gib: float = 4.0,
) -> Dataset:
  """Returns a data set with images without labels in its training split.

  Args:
    dataset: the data set.
    name: a folder with PNG or JPEG files, or FILE.npz with an array 'images'.
    data_dir: see `load`.
    image_size: side in pixels to which image files are cropped and resized; 0
      keeps their size.
    memory_gib: limit in GiB above which the images of a folder stay on disk.
  Returns:
    The data set; see `unlabeled_images.add`.
  Raises:
    DataError: if the images cannot be read, or have another shape.
  """
  # Imported here, as it imports Pillow.
  from kd_jax.data.user_data import unlabeled_images

  return unlabeled_images.add(
    dataset,
    name,
    image_size=image_size,
    memory_gib=memory_gib,
    cache_dir=_absolute(data_dir, 'data_dir') or default_data_dir(),
  )


def list_image_files(name: str) -> dict[str, list[pathlib.Path]]:
  """Returns the image files of a user's folder by split, in their order.

  Args:
    name: the name of a data set, see `load`.
  Returns:
    The files; {} for a data set that is no folder of images.
  """
  folder = local_paths.expand(name, 'config.data.name')
  is_prepared = (folder / 'dataset_info.json').is_file()
  if name in names() or not folder.is_dir() or is_prepared:
    return {}
  from kd_jax.data.user_data import image_folders

  return image_folders.list_files(folder)


def _is_user_dataset(name: str) -> bool:
  return name not in names() and (
    name.startswith('tfds:')
    or name.endswith('.npz')
    or local_paths.expand(name, 'config.data.name').is_dir()
  )


def _absolute(path: str | os.PathLike | None, name: str) -> pathlib.Path | None:
  # pip and npm run in other folders, where a relative path would be wrong.
  return local_paths.expand(path, name).absolute() if path else None
