"""Data sets as arrays: `load(name)`.

`mnist`, `fashion_mnist` and `cifar10` are prepared once with TFDS (no
TensorFlow needed) from the first source that has the original files, decoded
once, and checked at every load. `generated` and `generated_rgb` are made on the
spot, for tests. Paths, and names that begin with `tfds:`, are data sets of the
user's own.
"""

import os
import pathlib

from kd_jax.data import generated, prepared_store
from kd_jax.data.dataset import DataError, Dataset, Split
from kd_jax.data.specs import SPECS
from kd_jax.data.subsets import PATTERNS, SUBSETS, find_subset
from kd_jax.data.transfer_sets import TRANSFER_SETS, transfer_set
from kd_jax.runtime import files

__all__ = [
  'PATTERNS',
  'SUBSETS',
  'TRANSFER_SETS',
  'DataError',
  'Dataset',
  'Split',
  'default_data_dir',
  'find_subset',
  'is_on_disk',
  'load',
  'names',
  'transfer_set',
]


def default_data_dir() -> pathlib.Path:
  """The per-user cache: $XDG_CACHE_HOME or ~/.cache, then kd_jax/data."""
  return files.cache_dir() / 'data'


def names() -> tuple[str, ...]:
  """The names that `load` knows."""
  return (*SPECS, *generated.SHAPES)


def is_on_disk(split: Split) -> bool:
  """Whether a split's images are an `images_on_disk.Images`, and no array."""
  return hasattr(split.images, 'batches')


def load(
  name: str,
  *,
  data_dir: str | os.PathLike | None = None,
  source_dir: str | os.PathLike | None = None,
  image_size: int = 0,
  memory_gib: float = 4.0,
) -> Dataset:
  """Loads a data set; the first time, gets and prepares it.

  Args:
    name: one of `names()`, or of the user's own: FILE.npz, a folder with
      train/CLASS/*.png and test/CLASS/*.png, a folder that TFDS has prepared,
      or tfds:NAME.
    data_dir: where prepared data is kept, `default_data_dir()` if None. May be
      a TFDS data folder: what is in it is used, and left as it is.
    source_dir: a folder to look in for the original files (loose, gzipped or
      in a known archive) or a TFDS data folder, before anything is downloaded.
    image_size: of the user's own images, see `own.load`.
    memory_gib: likewise.
  Returns:
    The data set, in canonical order; its arrays are read-only.
  Raises:
    DataError: if the name is unknown, no source has the data, or the data
      folder cannot be used; the message says what to do.
  """
  is_own = _is_own(name)
  if image_size and not is_own:
    raise DataError(
      f'config.data.image_size={image_size}: the images of {name} have a size '
      'of their own; expected 0'
    )
  if name in generated.SHAPES:
    return generated.load(name)
  if is_own:
    from kd_jax.data import user_datasets

    folder = _path(data_dir) or default_data_dir()
    return user_datasets.load(name, folder, image_size, memory_gib)
  if name not in SPECS:
    raise DataError(
      f'there is no data set {name!r}; there are: {", ".join(names())}, and of '
      'your own FILE.npz, a folder of images, and tfds:NAME'
    )
  return prepared_store.load(
    SPECS[name],
    _path(data_dir) or default_data_dir(),
    _path(source_dir),
  )


def _is_own(name: str) -> bool:
  return name not in names() and (
    name.startswith('tfds:')
    or name.endswith('.npz')
    or pathlib.Path(name).expanduser().is_dir()
  )


def _path(path: str | os.PathLike | None) -> pathlib.Path | None:
  """An absolute path, as clients are run in other folders; None for none."""
  return pathlib.Path(path).expanduser().absolute() if path else None
