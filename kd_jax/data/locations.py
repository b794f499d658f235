"""Tries the places that may have a data set, in order, until one does."""

import dataclasses
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator

from absl import logging

from kd_jax.data import array_cache, original_files
from kd_jax.data.dataset import Arrays, DataError, named_arrays
from kd_jax.data.sources import Source
from kd_jax.data.specs import Spec


@dataclasses.dataclass(frozen=True)
class Place:
  """Somewhere to look.

  Attributes:
    label: what it is, for people.
    read: gets the arrays, or raises a DataError that says why not.
    is_prepared: whether it is a TFDS folder, with nothing left to prepare.
  """

  label: str
  read: Callable[[], Arrays]
  is_prepared: bool = False


def find(
  spec: Spec,
  data_dir: pathlib.Path,
  source_dir: pathlib.Path | None,
  scratch: pathlib.Path | None,
) -> tuple[Place, Arrays]:
  """Gets a data set from the first place that has it whole.

  Args:
    spec: the data set.
    data_dir: may be a TFDS folder of the user's.
    source_dir: the folder that the user names, searched first; or None.
    scratch: where downloads may go for a while; None for no downloads.
  Returns:
    The place, and the arrays, proven by their digests.
  Raises:
    DataError: listing every place and its reason.
  """
  refused = []
  for place in _places(spec, data_dir, source_dir, scratch):
    logging.info('%s: trying %s', spec.name, place.label)
    try:
      arrays = array_cache.check(place.read(), spec.array_digests)
    except (DataError, OSError) as error:
      logging.warning('%s: refused %s: %s', spec.name, place.label, error)
      refused.append(f'\n- {place.label}: {error}')
    else:
      logging.info('%s: using %s', spec.name, place.label)
      return place, arrays
  names = ', '.join(file.name for file in spec.files)
  raise DataError(
    f'{spec.name}: no source has it.{"".join(refused)}\nA folder with {names}'
    ' (each may be a .gz) can be named with --source_dir='
  )


def _places(
  spec: Spec,
  data_dir: pathlib.Path,
  source_dir: pathlib.Path | None,
  scratch: pathlib.Path | None,
) -> Iterator[Place]:
  if source_dir is not None:
    yield from _tfds_places(spec, source_dir)
    read = functools.partial(_read_raw, spec, source_dir)
    yield Place(f'folder {source_dir}', read)
  tfds_dir = os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  for root in dict.fromkeys([data_dir, pathlib.Path(tfds_dir).expanduser()]):
    yield from _tfds_places(spec, root)
  if scratch is not None:
    for source in spec.sources:
      read = functools.partial(_download, spec, source, scratch)
      yield Place(str(source), read)


def _tfds_places(spec: Spec, root: pathlib.Path) -> Iterator[Place]:
  """The prepared folders in a TFDS data folder, or `root` if it is one."""
  versions = sorted((root / spec.name).glob('*'), reverse=True)
  for folder in [root, *versions]:
    # os.path, here and in local.py: pathlib raises where it may not look.
    if os.path.isfile(folder / 'dataset_info.json'):
      read = functools.partial(_read_prepared, spec, folder)
      yield Place(f'TFDS folder {folder}', read, is_prepared=True)


def _read_prepared(spec: Spec, folder: pathlib.Path) -> Arrays:
  from kd_jax.data import tfds_folder

  return tfds_folder.read(folder, spec.image_shape)


def _read_raw(spec: Spec, folder: pathlib.Path) -> Arrays:
  content = original_files.read(folder, spec)
  train, test = (
    spec.parse([content[file.name] for file in files], spec.image_shape)
    for files in (spec.train, spec.test)
  )
  return named_arrays(train, test)


def _download(spec: Spec, source: Source, scratch: pathlib.Path) -> Arrays:
  # A transfer that was given up may still be about to leave a file there.
  with tempfile.TemporaryDirectory(
    dir=scratch, ignore_cleanup_errors=True
  ) as folder:
    source.fetch(pathlib.Path(folder))
    return _read_raw(spec, pathlib.Path(folder))
