"""Finds a data set's raw files in a folder, in whatever packaging.

Loose files (as they are, or gzipped) and the known archives are looked for by
name. Members are read into memory, within a size limit; nothing is extracted.
"""

import contextlib
import functools
import gzip
import hashlib
import os
import pathlib
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import IO, TypeVar

from kd_jax.data import file_formats
from kd_jax.data.dataset import DataError
from kd_jax.data.specs import Archive, RawFile, Spec

T = TypeVar('T')


def read(folder: pathlib.Path, spec: Spec) -> dict[str, bytes]:
  """Reads the raw files of a data set from a folder and checks their md5.

  Args:
    folder: searched two levels deep; or the path of a single file.
    spec: the data set.
  Returns:
    The contents of `spec.files` by name.
  Raises:
    DataError: naming what was refused and why, or that nothing was found.
  """
  found = _index(folder)
  attempts = []
  if any(_variants(found, file) for file in spec.files):
    attempts.append(functools.partial(_read_loose, found, spec))
  for archive in spec.archives:
    for path in found.get(archive.name, ()):
      attempts.append(functools.partial(_read_archive, path, archive, spec))
  if not attempts:
    names = [file.name for file in spec.files]
    names += [archive.name for archive in spec.archives]
    is_there = os.path.exists(folder)
    raise DataError(
      f'holds none of {", ".join(names)}' if is_there else 'no such folder'
    )
  return _first_success(attempts)


def _first_success(attempts: Iterable[Callable[[], T]]) -> T:
  refused = []
  for attempt in attempts:
    try:
      return attempt()
    except DataError as error:
      refused.append(str(error))
  raise DataError('; '.join(refused))


def _index(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Paths by normalized name; the shallower ones first."""
  paths = [folder] if os.path.isfile(folder) else []
  for pattern in ('*', '*/*'):
    paths += sorted(filter(os.path.isfile, folder.glob(pattern)))
  found: dict[str, list[pathlib.Path]] = {}
  for path in paths:
    found.setdefault(_normal(path.name), []).append(path)
  return found


def _normal(name: str) -> str:
  """A file's base name; MNIST's go by two spellings."""
  return pathlib.PurePosixPath(name).name.replace('.idx', '-idx')


def _variants(
  found: Mapping[str, list[pathlib.Path]], file: RawFile
) -> list[pathlib.Path]:
  """Where a raw file may be: plain first, then gzipped."""
  return found.get(file.name, []) + found.get(f'{file.name}.gz', [])


def _read_loose(
  found: Mapping[str, list[pathlib.Path]], spec: Spec
) -> dict[str, bytes]:
  files = {}
  for file in spec.files:
    paths = _variants(found, file)
    if not paths:
      raise DataError(f'{file.name}: missing')
    files[file.name] = _first_success(
      functools.partial(_read_file, path, file) for path in paths
    )
  return files


def _read_file(path: pathlib.Path, file: RawFile) -> bytes:
  with _naming(path.name):
    opened = gzip.open(path) if path.suffix == '.gz' else open(path, 'rb')
    with opened as stream:
      content = _read_at_most(stream, file.size)
    file_formats.check_md5(content, file.md5)
  return content


def _read_archive(
  path: pathlib.Path, archive: Archive, spec: Spec
) -> dict[str, bytes]:
  with _naming(path.name):
    with open(path, 'rb') as stream:
      digest = hashlib.file_digest(stream, 'sha256').hexdigest()
    if digest != archive.sha256:
      raise DataError(f'corrupt, or not the known archive (sha256 {digest})')
    limits = archive.members or {file.name: file.size for file in spec.files}
    members = {}
    for name, stream in _members(path, limits):
      with _naming(name):
        members[name] = _read_at_most(stream, limits[name])
    missing = limits.keys() - members.keys()
    if missing:
      raise DataError(f'lacks {", ".join(sorted(missing))}')
    files = archive.rebuild(members) if archive.rebuild else members
    for file in spec.files:
      with _naming(file.name):
        file_formats.check_md5(files[file.name], file.md5)
  return dict(files)


def _members(
  path: pathlib.Path, names: Collection[str]
) -> Iterator[tuple[str, IO[bytes]]]:
  """Yields (normal name, stream) of the plain files that go by `names`."""
  if path.suffix in ('.whl', '.zip'):
    with zipfile.ZipFile(path) as archive:
      for info in archive.infolist():
        if not info.is_dir() and _normal(info.filename) in names:
          with archive.open(info) as stream:
            yield _normal(info.filename), stream
  else:
    with tarfile.open(path) as archive:
      for info in archive:
        if info.isfile() and _normal(info.name) in names:
          yield _normal(info.name), archive.extractfile(info)


def _read_at_most(stream: IO[bytes], size: int) -> bytes:
  """Reads a stream, and no further than one byte past its limit."""
  content = stream.read(size + 1)
  if len(content) > size:
    raise DataError(f'holds more than the {size} bytes that it should')
  return content


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
  """Names the file in whatever goes wrong with it."""
  try:
    yield
  except Exception as error:
    # Each packaging has its own ways to say that a file is damaged.
    raise DataError(f'{name}: {str(error) or type(error).__name__}') from error
