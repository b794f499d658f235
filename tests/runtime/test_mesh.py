"""Batches divided among devices and processes give the same results."""

import os
import signal
import socket
from unittest import mock

import jax
import numpy as np
import optax
import pytest

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.models import from_config
from kd_jax.runtime import errors, files, mesh, run_records
from kd_jax.training import train, training_folder
from tests import helpers, mesh_runs


def _start(folder, *args, devices=1):
  """Starts mesh_runs.py with a number of CPU devices.

  Its output goes to a file that is named after the last argument.
  """
  flags = f'--xla_force_host_platform_device_count={devices}'
  return helpers.start_python(
    '-m',
    'tests.mesh_runs',
    folder,
    *args,
    env={'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} {flags}'},
    log=folder / f'log-{args[-1]}.txt',
  )


def _start_two(folder, network):
  """Starts the two processes of one run."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    coordinator = f'localhost:{free.getsockname()[1]}'
  return [
    _start(folder, '0', network, coordinator, '2', str(i)) for i in range(2)
  ]


def _wait(processes, timeout=300):
  """Waits for processes, and checks that they succeed."""
  codes = [process.wait(timeout) for process in processes]
  assert codes == [0] * len(codes)


@pytest.fixture(
  scope='module',
  params=[
    pytest.param(name, marks=() if name == 'mlp' else pytest.mark.slow)
    for name in mesh_runs.RUNS
  ],
)
def one_device(request, tmp_path_factory):
  """Returns a run's name, and a folder with the run done on one device.

  Each run has more than 50 steps. The splits of 1996, 996, 497 and 300 examples
  are no multiples of 8, nor are batches of 100, nor the last batches of the
  other runs.
  """
  folder = tmp_path_factory.mktemp('one')
  # A run can set the interval of checkpoints.
  with mock.patch.object(train, 'MID_EPOCH_EVERY_S', train.MID_EPOCH_EVERY_S):
    mesh_runs.run(folder, 1, request.param)
  return request.param, folder


def _end(folder, name, seed):
  """Returns the variables of a run's student, and its test errors."""
  config = mesh_runs.RUNS[name]()
  ((row, _),) = config.rows.items()
  shape = (32, 32, 3) if name == 'resnet' else (28, 28, 1)
  like = from_config.variables_like(
    config_lib.close_row(config, row).student, data.ImageTask(10, shape)
  )
  student = folder / f'{name}/students/{row}/seed-{seed}'
  record = files.read_json(student / 'result.json')
  variables = training_folder.restore(student, like)
  return variables, record['test']['errors']


def _assert_same_end(one_device, other):
  """Checks weights up to rounding, and the number of errors, of all seeds."""
  name, folder = one_device
  norm = lambda tree: float(optax.tree.norm(jax.device_get(tree)))
  for seed in range(mesh_runs.RUNS[name]().seeds):
    (first, errors), (second, other_errors) = (
      _end(f, name, seed) for f in (folder, other)
    )
    distance = norm(jax.tree.map(np.subtract, first, second))
    assert distance < 1e-5 * norm(first)
    assert errors == other_errors


def test_eight_devices_give_what_one_gives(one_device, tmp_path):
  _wait([_start(tmp_path, '8', one_device[0], devices=8)])
  _assert_same_end(one_device, tmp_path)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(one_device, tmp_path):
  name, _ = one_device
  _wait(_start_two(tmp_path, name))
  _assert_same_end(one_device, tmp_path)
  run = files.read_json(tmp_path / name / 'run.json')
  assert run['status'] == 'complete'
  assert run['students'][0]['environment']['num_processes'] == 2
  lines = run_records.MetricsLog(tmp_path / name / 'metrics.jsonl').read()
  epochs = [line['epoch'] for line in lines]
  config = mesh_runs.RUNS[name]()
  assert sorted(epochs) == sorted([*range(config.train.epochs)] * config.seeds)


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize('one_device', ['resnet'], indirect=True)
def test_a_run_resumes_after_one_process_was_killed(one_device, tmp_path):
  """One of two processes killed: the run resumes."""
  first, second = _start_two(tmp_path, 'resnet')
  saved = 'resnet/students/ideal/seed-0/checkpoints/1'
  helpers.wait_until((tmp_path / saved).exists)
  second.kill()
  assert (first.wait(300), second.wait()) == (1, -signal.SIGKILL)
  log = (tmp_path / 'log-0.txt').read_text()
  assert 'error: process 0 of 2 cannot continue' in log
  assert 'test accuracy' not in log
  _wait(_start_two(tmp_path, 'resnet'))
  assert 'resumed after ' in (tmp_path / 'log-0.txt').read_text()
  _assert_same_end(one_device, tmp_path)


@pytest.mark.faults
@pytest.mark.slow
def test_processes_end_at_sigterm(tmp_path):
  """SIGTERM to two processes: both end."""
  both = _start_two(tmp_path, 'mlp')
  helpers.wait_until((tmp_path / 'mlp/run.json').exists)
  for process in both:
    process.send_signal(signal.SIGTERM)
  assert [process.wait(60) for process in both] == [-signal.SIGTERM] * 2


def test_more_devices_than_there_are_is_an_error(tmp_path):
  config = helpers.tiny_mnist(fields={'mesh.data': 1000})
  expected = 'config.mesh.data=1000: expected at most 1'
  with pytest.raises(errors.UserError, match=expected):
    helpers.run(config, tmp_path)
  config.mesh.data = -1
  with pytest.raises(errors.UserError, match='config.mesh.data=-1'):
    helpers.run(config, tmp_path)


def test_one_device_leaves_arrays_unchanged():
  tree = {'x': object()}
  assert mesh.shard(tree) is tree
  assert mesh.put_sharded(tree) is tree
  assert mesh.put_replicated(tree) is tree
  np.testing.assert_array_equal(
    mesh.put_examples(np.arange(10), 7, 3), [7, 8, 9]
  )


def test_the_shares_of_processes_are_a_batch(monkeypatch):
  indices = np.arange(24)
  batches = indices.reshape(3, 8)
  shares = []
  for process in range(2):
    monkeypatch.setattr('jax.process_count', lambda: 2)
    monkeypatch.setattr('jax.process_index', lambda process=process: process)
    shares.append(
      [mesh.process_share(indices, start, 4) for start in range(0, 12, 4)]
    )
  np.testing.assert_array_equal(np.concatenate(shares, axis=1), batches)
