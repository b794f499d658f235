"""A run of three small students, and the export of its first student."""

import contextlib
import fcntl
import io
import os
import pathlib
import runpy
import sys
from unittest import mock

import pytest

from configs import tables
from kd_jax.export import artifact, onnx
from tests import helpers


@pytest.fixture(scope='package', autouse=True)
def _timed_briefly():
  with helpers.timed_briefly():
    yield


@pytest.fixture(name='run', scope='session')
def _run(tmp_path_factory):
  """The folder of a run of three rows with one seed each."""
  folder = _shared_folder(tmp_path_factory)
  _make_once(folder / 'run', _train)
  return folder / 'run'


@pytest.fixture(name='exported', scope='session')
def _exported(run):
  """The folder that `python -m kd_jax.export RUN_DIR --onnx` wrote."""
  folder = run / 'export' / 'small-seed-0'
  _make_once(folder, _export)
  return folder


def _shared_folder(tmp_path_factory) -> pathlib.Path:
  """Returns a folder that all workers of a test run share."""
  base = tmp_path_factory.getbasetemp()
  # The base folder of a pytest-xdist worker is inside that of the test run.
  if 'PYTEST_XDIST_WORKER' in os.environ:
    base = base.parent
  folder = base / 'export'
  folder.mkdir(exist_ok=True)
  return folder


def _make_once(folder: pathlib.Path, make) -> None:
  """Calls `make(folder)` in the first worker; the other workers wait for it."""
  folder.parent.mkdir(exist_ok=True)
  done = folder.with_name(f'{folder.name}.done')
  with open(folder.with_name(f'{folder.name}.lock'), 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not done.exists():
      make(folder)
      done.touch()


def _train(run_dir: pathlib.Path) -> None:
  fields = {'teacher.model.hidden': (16,), 'train.epochs': 2, 'train.folds': 0}
  rows = {
    'small': {'student.hidden': (20,)},
    'h50': {},
    'int8': {'student.hidden': (20,), 'student.quantization': 'int8'},
  }
  config = tables.make_table(helpers.tiny_mnist(fields=fields), rows)
  helpers.run(config, run_dir.parent, run_dir.name)


def _export(folder: pathlib.Path) -> None:
  argv = ['kd_jax.export', str(folder.parents[1]), '--row=small', '--onnx']
  stdout = io.StringIO()
  with (
    helpers.timed_briefly(),
    mock.patch.object(sys, 'argv', argv),
    contextlib.redirect_stdout(stdout),
  ):
    runpy.run_module('kd_jax.export', run_name='__main__')
  *written, following = stdout.getvalue().splitlines()
  assert [line.split(': ')[0] for line in written] == [
    str(folder / name) for name in (artifact.NETWORK, onnx.NETWORK)
  ]
  assert following.startswith('classify images: ')
  assert following.endswith(f'-m kd_jax.predict {folder} IMAGE...')
