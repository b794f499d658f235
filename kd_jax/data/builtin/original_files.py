"""Reads the original files of a data set from a folder, in any packaging.

The folder may hold loose files, gzipped files or known archives; all are found
by their names. Files are read into memory up to their known size, and nothing
is extracted to disk.
"""

import contextlib
import functools
import gzip
import hashlib
import io
import os
import pathlib
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import IO, TypeVar

from kd_jax.data.builtin import file_formats
from kd_jax.data.builtin.specs import Archive, OriginalFile, Spec
from kd_jax.data.dataset import DataError, error_text

T = TypeVar('T')
# The paths of all files of each name.
Index = Mapping[str, list[pathlib.Path]]
Stream = IO[bytes] | io.BufferedIOBase


def read(folder: pathlib.Path, spec: Spec) -> dict[str, bytes]:
  """Reads the original files of a data set and checks their MD5.

  Args:
    folder: a folder, searched two levels deep; or the path of a single file.
    spec: the data set.
  Returns:
    The contents of `spec.files` by name.
  Raises:
    DataError: if the files are missing or refused; gives each reason.
  """
  index = _index(folder)
  attempts = []
  if any(_loose_paths(index, file) for file in spec.files):
    attempts.append(functools.partial(_read_loose, index, spec))
  for archive in spec.archives:
    for path in index.get(archive.name, ()):
      attempts.append(functools.partial(_read_archive, path, archive, spec))
  if not attempts:
    if not os.path.exists(folder):
      raise DataError('no such folder')
    names = [file.name for file in spec.files]
    names += [archive.name for archive in spec.archives]
    raise DataError(f'holds none of {", ".join(names)}')
  return _first_success(attempts)


def _first_success(attempts: Iterable[Callable[[], T]]) -> T:
  """Returns the result of the first attempt that raises no DataError.

  Raises:
    DataError: if all attempts fail; joins their messages.
  """
  reasons = []
  for attempt in attempts:
    try:
      return attempt()
    except DataError as error:
      reasons.append(str(error))
  raise DataError('; '.join(reasons))


def _index(folder: pathlib.Path) -> Index:
  """Returns the paths below a folder by normalized name, top level first."""
  paths = [folder] if os.path.isfile(folder) else []
  for pattern in ('*', '*/*'):
    paths += sorted(filter(os.path.isfile, folder.glob(pattern)))
  index: dict[str, list[pathlib.Path]] = {}
  for path in paths:
    index.setdefault(_normalized(path.name), []).append(path)
  return index


def _normalized(name: str) -> str:
  """Returns the base name of a file, with `-idx` for MNIST's other `.idx`."""
  return pathlib.PurePosixPath(name).name.replace('.idx', '-idx')


def _loose_paths(index: Index, file: OriginalFile) -> list[pathlib.Path]:
  """Returns the paths of an original file, plain ones before gzipped ones."""
  return index.get(file.name, []) + index.get(f'{file.name}.gz', [])


def _read_loose(index: Index, spec: Spec) -> dict[str, bytes]:
  files = {}
  for file in spec.files:
    paths = _loose_paths(index, file)
    if not paths:
      raise DataError(f'{file.name}: missing')
    files[file.name] = _first_success(
      functools.partial(_read_file, path, file) for path in paths
    )
  return files


def _read_file(path: pathlib.Path, file: OriginalFile) -> bytes:
  with _named_errors(path.name):
    open_file = gzip.open if path.suffix == '.gz' else open
    opened: Stream = open_file(path, 'rb')
    with opened as stream:
      content = _read_at_most(stream, file.size)
    file_formats.check_md5(content, file.md5)
  return content


def _read_archive(
  path: pathlib.Path, archive: Archive, spec: Spec
) -> dict[str, bytes]:
  with _named_errors(path.name):
    with open(path, 'rb') as content:
      digest = hashlib.file_digest(content, 'sha256').hexdigest()
    if digest != archive.sha256:
      raise DataError(f'corrupt, or not the known archive (sha256 {digest})')
    limits = archive.members or {file.name: file.size for file in spec.files}
    members = {}
    for name, stream in _members(path, limits):
      with _named_errors(name):
        members[name] = _read_at_most(stream, limits[name])
    missing = limits.keys() - members.keys()
    if missing:
      raise DataError(f'lacks {", ".join(sorted(missing))}')
    files = archive.rebuild(members) if archive.rebuild else members
    for file in spec.files:
      with _named_errors(file.name):
        file_formats.check_md5(files[file.name], file.md5)
  return dict(files)


def _members(
  path: pathlib.Path, names: Collection[str]
) -> Iterator[tuple[str, Stream]]:
  """Yields the regular files of an archive whose normalized name is wanted.

  Args:
    path: a wheel, a zip file or a tar file.
    names: the wanted normalized names.
  Yields:
    (normalized name, stream).
  """
  if path.suffix in ('.whl', '.zip'):
    with zipfile.ZipFile(path) as zip_file:
      for info in zip_file.infolist():
        if not info.is_dir() and _normalized(info.filename) in names:
          with zip_file.open(info) as stream:
            yield _normalized(info.filename), stream
  else:
    with tarfile.open(path) as tar_file:
      for member in tar_file:
        if member.isfile() and _normalized(member.name) in names:
          content = tar_file.extractfile(member)
          assert content is not None  # Every regular file has a stream.
          yield _normalized(member.name), content


def _read_at_most(stream: Stream, size: int) -> bytes:
  """Reads a stream, at most one byte beyond its expected size.

  Raises:
    DataError: if the stream is longer than `size` bytes.
  """
  content = stream.read(size + 1)
  if len(content) > size:
    raise DataError(f'holds more than the {size} bytes of the original')
  return content


@contextlib.contextmanager
def _named_errors(name: str) -> Iterator[None]:
  """Turns any error into a DataError that names the file."""
  try:
    yield
  except Exception as error:
    # gzip, zipfile and tarfile raise many types of errors for damaged files.
    raise DataError(f'{name}: {error_text(error)}') from error
