"""A run of three small students, and the export of its first student."""

import pathlib
import subprocess
import sys

import pytest

from configs import mnist, tables
from kd_jax.experiments.run import run_experiment
from kd_jax.export import artifact, onnx

ROOT = pathlib.Path(artifact.__file__).parents[2]


@pytest.fixture(name='run', scope='session')
def _run(tmp_path_factory):
  """The folder of a run of three rows with one seed each."""
  folder = tmp_path_factory.mktemp('export')
  config = mnist.get_config('h50')
  config.data.name = 'generated'
  config.teacher.model.update(hidden=(16,), filters=(4,))
  config.benchmark.enabled = False
  config.train.folds = 0
  rows = {
    'small': {'student.hidden': (20,)},
    'h50': {},
    'int8': {'student.hidden': (20,), 'student.quantization': 'int8'},
  }
  config = tables.make_table(config, rows)
  run_experiment(config, workdir=folder / 'run', teachers_dir=folder)
  return folder / 'run'


@pytest.fixture(name='exported', scope='session')
def _exported(run):
  """The folder that `python -m kd_jax.export RUN_DIR --onnx` wrote."""
  result = subprocess.run(
    [sys.executable, '-m', 'kd_jax.export', str(run), '--onnx'],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  folder = run / 'export' / 'small-seed-0'
  written = [line.split(': ')[0] for line in result.stdout.splitlines()]
  assert written == [
    str(folder / name) for name in (artifact.NETWORK, onnx.NETWORK)
  ]
  return folder
