"""Data sets as arrays: `load(name)`.

`mnist`, `fashion_mnist` and `cifar10` are prepared once with TFDS (no
TensorFlow needed) from the first source that has the original files, decoded
once, and checked at every load. `generated` and `generated_rgb` are made on the
spot, for tests.
"""

import os
import pathlib

from kd_jax.data import generated, store
from kd_jax.data.dataset import DataError, Dataset, Split
from kd_jax.data.specs import SPECS
from kd_jax.data.subsets import PATTERNS, SUBSETS, find_subset
from kd_jax.data.transfer import TRANSFER_SETS, transfer_set

__all__ = [
  'PATTERNS',
  'SUBSETS',
  'TRANSFER_SETS',
  'DataError',
  'Dataset',
  'Split',
  'class_names',
  'default_data_dir',
  'find_subset',
  'load',
  'names',
  'transfer_set',
]


def default_data_dir() -> pathlib.Path:
  """The per-user cache: $XDG_CACHE_HOME or ~/.cache, then kd_jax/data."""
  cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(cache).expanduser() / 'kd_jax' / 'data'


def names() -> tuple[str, ...]:
  """The names that `load` knows."""
  return (*SPECS, *generated.SHAPES)


def class_names(name: str, num_classes: int) -> tuple[str, ...]:
  """The names of a data set's classes, or their numbers as text."""
  spec = SPECS.get(name)
  return (spec and spec.class_names) or tuple(map(str, range(num_classes)))


def load(
  name: str,
  *,
  data_dir: str | os.PathLike | None = None,
  source_dir: str | os.PathLike | None = None,
) -> Dataset:
  """Loads a data set; the first time, gets and prepares it.

  Args:
    name: one of `names()`.
    data_dir: where prepared data is kept, `default_data_dir()` if None. May be
      a TFDS data folder: what is in it is used, and left as it is.
    source_dir: a folder to look in for the original files (loose, gzipped or
      in a known archive) or a TFDS data folder, before anything is downloaded.
  Returns:
    The data set, in canonical order; its arrays are read-only.
  Raises:
    DataError: if the name is unknown, no source has the data, or the data
      folder cannot be used; the message says what to do.
  """
  if name in generated.SHAPES:
    return generated.load(name)
  if name not in SPECS:
    raise DataError(
      f'there is no data set {name!r}; there are: {", ".join(names())}'
    )
  return store.load(
    SPECS[name],
    _path(data_dir) or default_data_dir(),
    _path(source_dir),
  )


def _path(path: str | os.PathLike | None) -> pathlib.Path | None:
  """An absolute path, as clients are run in other folders; None for none."""
  return pathlib.Path(path).expanduser().absolute() if path else None
