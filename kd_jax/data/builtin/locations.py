"""The locations that may hold a data set, and the search through them."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator

from absl import logging

from kd_jax.data.builtin import array_cache, original_files
from kd_jax.data.builtin.downloads import Source
from kd_jax.data.builtin.specs import Spec
from kd_jax.data.dataset import Arrays, DataError, named_arrays


@dataclasses.dataclass(frozen=True)
class Location:
  """A folder or a download that may hold a data set.

  Attributes:
    label: the location's name in messages.
    read: returns the arrays, or raises a DataError with the reason.
    is_prepared: whether the location is a TFDS folder, which needs no
      preparation.
  """

  label: str
  read: Callable[[], Arrays]
  is_prepared: bool = False


def find(
  spec: Spec,
  data_dir: pathlib.Path,
  source_dir: pathlib.Path | None,
  scratch_dir: pathlib.Path | None,
) -> tuple[Location, Arrays]:
  """Reads a data set from the first location that has all of it.

  Args:
    spec: the data set.
    data_dir: the data folder; it may be a TFDS data folder of the user.
    source_dir: a folder named by the user, which is searched first; or None.
    scratch_dir: a folder for temporary downloads; None prevents downloads.
  Returns:
    The location, and its arrays, whose digests have been checked.
  Raises:
    DataError: if no location has the data; lists each location and its reason.
  """
  refused = []
  for location in _locations(spec, data_dir, source_dir, scratch_dir):
    logging.info('%s: trying %s', spec.name, location.label)
    try:
      arrays = array_cache.check(location.read(), spec.array_digests)
    except (DataError, OSError) as error:
      logging.warning(
        '%s: no data from %s: %s', spec.name, location.label, error
      )
      refused.append(f'\n- {location.label}: {error}')
    else:
      logging.info('%s: read from %s', spec.name, location.label)
      return location, arrays
  names = ', '.join(file.name for file in spec.files)
  raise DataError(
    f'{spec.name}: not found in any location.{"".join(refused)}\nIf a folder '
    f'holds {names} (each may be a .gz), name the folder with --source_dir='
  )


def _locations(
  spec: Spec,
  data_dir: pathlib.Path,
  source_dir: pathlib.Path | None,
  scratch_dir: pathlib.Path | None,
) -> Iterator[Location]:
  """Yields the locations in the order of the search; see `find`."""
  if source_dir is not None:
    yield from _tfds_locations(spec, source_dir)
    read = functools.partial(_read_original, spec, source_dir)
    yield Location(f'folder {source_dir}', read)
  tfds_dir = os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  roots = [data_dir]
  # A user without a home folder has no such folder there.
  with contextlib.suppress(RuntimeError):
    roots.append(pathlib.Path(tfds_dir).expanduser())
  for root in dict.fromkeys(roots):
    yield from _tfds_locations(spec, root)
  if scratch_dir is not None:
    for source in spec.sources:
      read = functools.partial(_download, spec, source, scratch_dir)
      yield Location(str(source), read)


def _tfds_locations(spec: Spec, root: pathlib.Path) -> Iterator[Location]:
  """Yields the prepared folders of a data set.

  Args:
    spec: the data set.
    root: a TFDS data folder, or a prepared folder.
  Yields:
    `root` if it is a prepared folder, then its versions in descending order.
  """
  versions = sorted((root / spec.name).glob('*'), reverse=True)
  for folder in [root, *versions]:
    # os.path.isfile, here and in original_files.py, returns False if the
    # permission is missing, whereas pathlib raises an error.
    if os.path.isfile(folder / 'dataset_info.json'):
      read = functools.partial(_read_prepared, spec, folder)
      yield Location(f'TFDS folder {folder}', read, is_prepared=True)


def _read_prepared(spec: Spec, folder: pathlib.Path) -> Arrays:
  from kd_jax.data.builtin import tfds_canonical

  return tfds_canonical.read(folder, spec.image_shape)


def _read_original(spec: Spec, folder: pathlib.Path) -> Arrays:
  contents = original_files.read(folder, spec)
  train, test = (
    spec.parse([contents[file.name] for file in files], spec.image_shape)
    for files in (spec.train, spec.test)
  )
  return named_arrays(train, test)


def _download(spec: Spec, source: Source, scratch_dir: pathlib.Path) -> Arrays:
  # A download that timed out may still write a file during the cleanup.
  with tempfile.TemporaryDirectory(
    dir=scratch_dir, ignore_cleanup_errors=True
  ) as folder:
    source.fetch(pathlib.Path(folder))
    return _read_original(spec, pathlib.Path(folder))
