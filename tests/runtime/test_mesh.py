"""Batches shared out over devices and processes: the same results."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import optax
import pytest

from configs import mnist
from kd_jax.experiments import experiment
from kd_jax.runtime import errors, files, mesh, processes, run_records
from kd_jax.training import build, jobs
from tests import mesh_runs

ROOT = pathlib.Path(__file__).parents[2]


def _start(folder, *args, devices=1):
  """Starts a process with so many CPU devices; its output goes to a file."""
  folder.mkdir(exist_ok=True)
  flags = f'--xla_force_host_platform_device_count={devices}'
  with open(folder / f'log-{"-".join(args[-1:])}.txt', 'a') as log:
    return subprocess.Popen(
      [sys.executable, 'tests/mesh_runs.py', str(folder), *args],
      cwd=ROOT,
      env=os.environ
      | {
        'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} {flags}',
        'PYTHONPATH': str(ROOT),
      },
      stdout=log,
      stderr=log,
    )


def _start_two(folder, network):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    coordinator = f'localhost:{free.getsockname()[1]}'
  return [
    _start(folder, '0', network, coordinator, '2', str(i)) for i in range(2)
  ]


def _wait(processes, timeout=300):
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
  """A run's name, and a folder with it on one device.

  More than 50 steps of each. Splits of 1996, 996, 497 and 300 do not divide by
  8, nor do batches of 100 and what is left of the others for the last.
  """
  folder = tmp_path_factory.mktemp('one')
  _wait([_start(folder, '1', request.param)])
  return request.param, folder


def _end(folder, name, seed):
  """Returns the variables of a run's student, and its test errors."""
  config = mesh_runs.RUNS[name]()
  ((row, _),) = config.rows.items()
  model = build.model(build.close_row(config, row).student, 10)
  shape = (32, 32, 3) if name == 'resnet' else (28, 28, 1)
  student = folder / f'{name}/students/{row}/seed-{seed}'
  record = files.read_json(student / 'result.json')
  variables = jobs.restore(student, model, np.zeros((1, *shape), 'u1'))
  return variables, record['test']['errors']


def _assert_same_end(one_device, other):
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
def test_a_job_of_which_one_process_was_killed_goes_on(one_device, tmp_path):
  first, second = _start_two(tmp_path, 'resnet')
  saved = 'resnet/students/ideal/seed-0/checkpoints/1'
  deadline = time.monotonic() + 300
  while not (tmp_path / saved).exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)
  second.kill()
  assert (first.wait(300), second.wait()) == (1, -signal.SIGKILL)
  log = (tmp_path / 'log-0.txt').read_text()
  assert 'error: process 0 of 2 cannot go on' in log
  assert 'test accuracy' not in log
  _wait(_start_two(tmp_path, 'resnet'))
  assert 'resumed after ' in (tmp_path / 'log-0.txt').read_text()
  _assert_same_end(one_device, tmp_path)


@pytest.mark.faults
@pytest.mark.slow
def test_processes_that_are_told_to_end_do(tmp_path):
  both = _start_two(tmp_path, 'mlp')
  deadline = time.monotonic() + 300
  while not (tmp_path / 'mlp/run.json').exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)
  for process in both:
    process.send_signal(signal.SIGTERM)
  assert [process.wait(60) for process in both] == [-signal.SIGTERM] * 2


def test_more_devices_than_there_are_is_an_error(tmp_path):
  config = mnist.get_config('h50')
  config.data.name = 'generated'
  config.mesh.data = 1000
  expected = 'config.mesh.data=1000: there are 1 devices'
  with pytest.raises(errors.UserError, match=expected):
    experiment.run(config, workdir=tmp_path, teachers_dir=tmp_path)
  config.mesh.data = -1
  with pytest.raises(errors.UserError, match='config.mesh.data=-1'):
    experiment.run(config, workdir=tmp_path, teachers_dir=tmp_path)


def test_with_one_device_nothing_is_moved():
  tree = {'x': object()}
  assert mesh.shard(tree) is tree
  assert mesh.put_sharded(tree) is tree
  assert mesh.put_replicated(tree) is tree
  np.testing.assert_array_equal(
    mesh.put_examples(np.arange(10), 7, 3), [7, 8, 9]
  )


def test_processes_that_are_half_described_are_an_error():
  for given in [('localhost:1',), (None, 2), (None, None, 0)]:
    with pytest.raises(errors.UserError, match='--process_id go together'):
      processes.start(*given)


def test_one_process_is_the_first_and_tells_itself():
  assert processes.is_first() and processes.count() == 1
  assert processes.from_first(lambda: [1, 'a']) == [1, 'a']
  with pytest.raises(ValueError, match='as it is'), processes.guard():
    raise ValueError('as it is')


def test_of_several_processes_one_that_fails_leaves_at_once(monkeypatch, capfd):
  class Left(BaseException):
    pass

  def leave(status):
    assert status == 1
    raise Left

  monkeypatch.setattr(processes, 'count', lambda: 2)
  monkeypatch.setattr(os, '_exit', leave)
  for error, said in (
    (errors.UserError('no data on this host'), r'(no data on this host)'),
    (OSError('gone'), '(OSError: gone); if another one has ended'),
  ):
    with pytest.raises(Left), processes.guard():
      raise error
    assert f'process 0 of 2 cannot go on {said}' in capfd.readouterr().err
