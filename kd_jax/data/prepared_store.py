"""The data folder: prepared once, decoded once, checked at every load.

  <data_dir>/<name>/<version>/   ours: the array_record files, the arrays
                                 decoded from them, and a mark of who made it
  <data_dir>/.kd_jax/            locks, and downloads while they are needed

Whatever else lies in the data folder is the user's: read, never changed.
"""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from absl import logging

from kd_jax.data import array_cache, locations, preparation_lock
from kd_jax.data.dataset import (
  Arrays,
  DataError,
  Dataset,
  dataset_digest,
  make_dataset,
)
from kd_jax.data.specs import VERSION, Spec

_MARK = 'made_by_kd_jax.json'


def load(
  spec: Spec, data_dir: pathlib.Path, source_dir: pathlib.Path | None
) -> Dataset:
  """Loads a data set; the first time, gets and prepares it.

  Args:
    spec: the data set.
    data_dir: where prepared data is kept; made if need be.
    source_dir: the first place to look for the original files, or None.
  Returns:
    The data set, its arrays proven by their digests.
  Raises:
    DataError: if no source has it, with the reason of each; or if the data
      folder cannot be used.
  """
  home = data_dir / spec.name / VERSION
  arrays, damaged = array_cache.read(home, spec.array_digests)
  if damaged:
    try:
      with _exclusive(data_dir, spec.name) as scratch:
        arrays = _restore(spec, home, source_dir, scratch)
    except OSError as error:
      arrays = _find_without_writing(spec, data_dir, source_dir, error)
  return make_dataset(
    spec.name,
    arrays,
    num_classes=spec.num_classes,
    digest=dataset_digest(spec.array_digests.values()),
    class_names=spec.class_names,
  )


@contextlib.contextmanager
def _exclusive(data_dir: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
  """Holds the lock of a data set; yields a folder that is removed after."""
  with preparation_lock.exclusive(data_dir, name) as private:
    for left_behind in private.glob(f'{name}.scratch-*'):
      shutil.rmtree(left_behind)
    scratch = tempfile.mkdtemp(prefix=f'{name}.scratch-', dir=private)
    try:
      yield pathlib.Path(scratch)
    finally:
      shutil.rmtree(scratch, ignore_errors=True)


def _restore(
  spec: Spec,
  home: pathlib.Path,
  source_dir: pathlib.Path | None,
  scratch: pathlib.Path,
) -> Arrays:
  """Makes `home` whole in the cheapest way; runs under the lock."""
  arrays, damaged = array_cache.read(home, spec.array_digests)
  if not damaged:
    return arrays  # Another process was first.
  if (home / _MARK).exists():
    for path, reason in damaged.items():
      logging.warning('%s: %s; decoding it again', path, reason)
      path.unlink(missing_ok=True)
    try:
      return _decode(spec, home)
    except DataError as error:
      logging.warning('%s: damaged (%s); preparing it again', home, error)
  elif home.exists():
    raise DataError(
      f'{home} is in the way and not ours to remove: move it, or name another'
      ' folder with --data_dir='
    )
  prepared, arrays = _prepare(spec, home, source_dir, scratch)
  if home.exists():
    shutil.rmtree(home)
    logging.warning('%s: removed, as it was damaged', home)
  home.parent.mkdir(exist_ok=True)
  os.replace(prepared, home)
  logging.info('%s: prepared in %s', spec.name, home)
  return arrays


def _prepare(
  spec: Spec,
  home: pathlib.Path,
  source_dir: pathlib.Path | None,
  scratch: pathlib.Path,
) -> tuple[pathlib.Path, Arrays]:
  """Makes what becomes `home`, in `scratch`, from the first good source."""
  data_dir = home.parent.parent
  place, arrays = locations.find(spec, data_dir, source_dir, scratch)
  if place.is_prepared:
    # Used as it is: only its arrays are kept.
    folder = scratch / 'decoded'
    folder.mkdir()
    array_cache.write(folder, arrays)
  else:
    from kd_jax.data import tfds_builder

    folder = tfds_builder.prepare(spec, arrays, scratch / 'tfds')
    arrays = _decode(spec, folder)
  (folder / _MARK).write_text(json.dumps({'source': place.label}))
  return folder, arrays


def _decode(spec: Spec, folder: pathlib.Path) -> Arrays:
  """Decodes a prepared folder, and keeps the arrays in it."""
  from kd_jax.data import tfds_folder

  arrays = tfds_folder.read(folder, spec.image_shape)
  array_cache.write(folder, array_cache.check(arrays, spec.array_digests))
  return arrays


def _find_without_writing(
  spec: Spec,
  data_dir: pathlib.Path,
  source_dir: pathlib.Path | None,
  error: OSError,
) -> Arrays:
  """What can still be had if `data_dir` cannot be written: local data.

  Raises:
    DataError: naming the folder, its error, and the way out.
  """
  try:
    place, arrays = locations.find(spec, data_dir, source_dir, scratch=None)
  except DataError:
    raise DataError(
      f'the data folder {data_dir} cannot be written ({error}): name another'
      ' with --data_dir='
    ) from error
  logging.warning(
    '%s cannot be written (%s): %s will be decoded at every start',
    data_dir,
    error,
    place.label,
  )
  return arrays
