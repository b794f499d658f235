"""The store of prepared data sets, in the data folder.

  <data_dir>/<name>/<version>/   the array_record files, the arrays decoded from
                                 them, and a mark that kd_jax made the folder
  <data_dir>/.kd_jax/            locks, and downloads during preparation

A data set is prepared once, decoded once, and checked at every load. Everything
else in the data folder belongs to the user: it is read and never changed.
"""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from absl import logging

from kd_jax.data import preparation_lock
from kd_jax.data.builtin import array_cache, locations
from kd_jax.data.builtin.specs import VERSION, Spec
from kd_jax.data.dataset import (
  Arrays,
  DataError,
  Dataset,
  dataset_digest,
  make_dataset,
)

_MARK = 'made_by_kd_jax.json'


def load(
  spec: Spec, data_dir: pathlib.Path, source_dir: pathlib.Path | None
) -> Dataset:
  """Loads a built-in data set. The first load also fetches and prepares it.

  Args:
    spec: the data set.
    data_dir: the folder for prepared data; created if necessary.
    source_dir: the folder that is searched first for the original files; or
      None.
  Returns:
    The data set; the digests of its arrays have been checked.
  Raises:
    DataError: if no location has the data, with the reason of each location; or
      if the data folder cannot be used.
  """
  home = data_dir / spec.name / VERSION
  arrays, damaged = array_cache.read(home, spec.array_digests)
  if damaged:
    try:
      with _locked_scratch_dir(data_dir, spec.name) as scratch_dir:
        arrays = _restore(spec, home, source_dir, scratch_dir)
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
def _locked_scratch_dir(
  data_dir: pathlib.Path, name: str
) -> Iterator[pathlib.Path]:
  """Holds the lock of a data set and provides a temporary folder."""
  with preparation_lock.hold(data_dir, name) as lock_dir:
    # A killed process leaves its folder behind.
    for abandoned in lock_dir.glob(f'{name}.scratch-*'):
      shutil.rmtree(abandoned)
    scratch_dir = tempfile.mkdtemp(prefix=f'{name}.scratch-', dir=lock_dir)
    try:
      yield pathlib.Path(scratch_dir)
    finally:
      shutil.rmtree(scratch_dir, ignore_errors=True)


def _restore(
  spec: Spec,
  home: pathlib.Path,
  source_dir: pathlib.Path | None,
  scratch_dir: pathlib.Path,
) -> Arrays:
  """Completes a prepared folder in the cheapest way; the caller has the lock.

  Args:
    spec: the data set.
    home: the prepared folder; it may be missing, incomplete or damaged.
    source_dir: the folder that is searched first, or None.
    scratch_dir: a temporary folder in the data folder.
  Returns:
    The arrays.
  Raises:
    DataError: if no location has the data, or `home` belongs to the user.
  """
  arrays, damaged = array_cache.read(home, spec.array_digests)
  if not damaged:
    return arrays  # Another process has completed the folder.
  if (home / _MARK).exists():
    for path, reason in damaged.items():
      logging.warning('%s: %s; decoding it again', path, reason)
      if path.is_dir():
        shutil.rmtree(path)
      else:
        path.unlink(missing_ok=True)
    try:
      return _decode(spec, home)
    except DataError as error:
      logging.warning('%s: damaged (%s); preparing it again', home, error)
  elif home.exists():
    raise DataError(
      f'{home} is in the way, and kd_jax did not make it: move the folder, or '
      'name another data folder with --data_dir='
    )
  prepared, arrays = _prepare(spec, home, source_dir, scratch_dir)
  if home.exists():
    shutil.rmtree(home)
    logging.warning('%s: removed, because it was damaged', home)
  home.parent.mkdir(exist_ok=True)
  os.replace(prepared, home)
  logging.info('%s: prepared in %s', spec.name, home)
  return arrays


def _prepare(
  spec: Spec,
  home: pathlib.Path,
  source_dir: pathlib.Path | None,
  scratch_dir: pathlib.Path,
) -> tuple[pathlib.Path, Arrays]:
  """Prepares a data set in `scratch_dir`, from the first good location.

  Returns:
    The prepared folder, which will replace `home`, and the arrays.
  """
  data_dir = home.parent.parent
  location, arrays = locations.find(spec, data_dir, source_dir, scratch_dir)
  if location.is_prepared:
    # The records stay in the user's TFDS folder; only the arrays are stored.
    folder = scratch_dir / 'decoded'
    folder.mkdir()
    array_cache.write(folder, arrays)
  else:
    from kd_jax.data.builtin import tfds_builder

    folder = tfds_builder.prepare(spec, arrays, scratch_dir / 'tfds')
    arrays = _decode(spec, folder)
  (folder / _MARK).write_text(json.dumps({'source': location.label}))
  return folder, arrays


def _decode(spec: Spec, folder: pathlib.Path) -> Arrays:
  """Decodes a prepared folder and stores the arrays in the folder."""
  from kd_jax.data.builtin import tfds_canonical

  arrays = tfds_canonical.read(folder, spec.image_shape)
  array_cache.write(folder, array_cache.check(arrays, spec.array_digests))
  return arrays


def _find_without_writing(
  spec: Spec,
  data_dir: pathlib.Path,
  source_dir: pathlib.Path | None,
  error: OSError,
) -> Arrays:
  """Finds local data although the data folder cannot be written.

  Args:
    spec: the data set.
    data_dir: the data folder.
    source_dir: the folder that is searched first, or None.
    error: the reason why the data folder cannot be written.
  Returns:
    The arrays.
  Raises:
    DataError: if no folder has the data; names the data folder, the error and
      the remedy.
  """
  try:
    location, arrays = locations.find(
      spec, data_dir, source_dir, scratch_dir=None
    )
  except DataError:
    raise DataError(
      f'the data folder {data_dir} cannot be written ({error}): name another '
      'folder with --data_dir='
    ) from error
  logging.warning(
    '%s cannot be written (%s): %s will be decoded at every start',
    data_dir,
    error,
    location.label,
  )
  return arrays
