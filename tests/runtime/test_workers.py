"""Workers: their shares of a machine, their end, and the claims on students."""

import contextlib
import os
import time
import types

import pytest

from configs import tables
from kd_jax.runtime import errors, files, locks, workers
from tests import helpers


@pytest.mark.parametrize('count', [1, 2, 3, 8])
def test_all_cores_are_shared_out(count):
  cores = [0, 1, 4, 5, 6, 7, 9, 11]
  shares = [
    workers.worker_cores(workers.Share(index, count), cores)
    for index in range(count)
  ]
  assert sorted(sum(shares, [])) == cores
  sizes = [len(share) for share in shares]
  assert max(sizes) - min(sizes) <= 1


def test_more_workers_than_cores_have_one_each():
  shares = [workers.worker_cores(workers.Share(i, 5), [3, 4]) for i in range(5)]
  assert all(len(share) == 1 for share in shares)
  assert {core for (core,) in shares} == {3, 4}


def test_each_worker_has_a_gpu_or_a_part_of_one():
  gpus = ['0', '2']
  alone = [workers.gpu_variables(workers.Share(i, 2), gpus) for i in range(2)]
  assert alone == [{'CUDA_VISIBLE_DEVICES': gpu} for gpu in gpus]
  third = workers.gpu_variables(workers.Share(2, 3), gpus)
  assert third['CUDA_VISIBLE_DEVICES'] == '0'
  # Two workers share the first GPU.
  assert 0.4 <= float(third['XLA_PYTHON_CLIENT_MEM_FRACTION']) <= 0.5
  assert workers.gpu_variables(workers.Share(0, 2), []) == {}


def test_a_tpu_is_not_shared(tmp_path, monkeypatch):
  monkeypatch.setattr(workers, 'TPUS', (str(tmp_path),))
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  with pytest.raises(errors.UserError, match='--workers=2: a TPU serves one'):
    workers.run_workers(['-c', 'raise SystemExit(1)'], 2)
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  with pytest.raises(SystemExit):
    workers.run_workers(['-c', 'raise SystemExit(1)'], 2)


_SCRIPT = """
import os, pathlib, signal, sys, time
from kd_jax.runtime import workers
assert workers.limit_to_share()
folder = pathlib.Path(sys.argv[1])
share = workers.share()
if share is None:
  assert workers.is_preparing()
  (folder / 'prepared').touch()
  sys.exit()
assert (folder / 'prepared').exists()
(folder / str(share.index)).write_text(str(os.getpid()))
if share.index == 1:
  while not (folder / '0').exists():
    time.sleep(0.01)
  exec(sys.argv[2])
"""
_SLEEP = 'time.sleep(60)'


def _command(folder, first_does, second_does=_SLEEP):
  """Returns a command whose two workers execute these statements."""
  script = _SCRIPT + f'else:\n  {first_does}\n'
  return ['-c', script, str(folder), second_does]


def _is_alive(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  return True


def test_workers_come_after_the_preparation(tmp_path, monkeypatch):
  monkeypatch.chdir(helpers.ROOT)
  workers.run_workers(_command(tmp_path, 'pass', 'pass'), 2)
  assert {path.name for path in tmp_path.iterdir()} == {'prepared', '0', '1'}


def test_a_failed_worker_ends_all(tmp_path, monkeypatch):
  monkeypatch.chdir(helpers.ROOT)
  with pytest.raises(SystemExit) as raised:
    workers.run_workers(_command(tmp_path, _SLEEP, 'sys.exit(3)'), 2)
  assert raised.value.code == 3
  assert not _is_alive(int((tmp_path / '0').read_text()))


def test_a_killed_worker_ends_all_and_is_reported(tmp_path, monkeypatch):
  monkeypatch.chdir(helpers.ROOT)
  with pytest.raises(errors.UserError, match='killed .signal 9.*fewer'):
    workers.run_workers(
      _command(tmp_path, _SLEEP, 'os.kill(os.getpid(), signal.SIGKILL)'), 2
    )
  assert not _is_alive(int((tmp_path / '0').read_text()))


_RUN_WORKERS = """
import sys
from kd_jax.runtime import workers
workers.run_workers(sys.argv[1:], 2)
"""


def test_no_worker_outlives_the_command(tmp_path):
  command = helpers.start_python(
    '-c', _RUN_WORKERS, *_command(tmp_path, _SLEEP), log=tmp_path / 'log'
  )
  pids = [tmp_path / str(index) for index in range(2)]
  helpers.wait_until(
    lambda: all(pid.exists() and pid.read_text() for pid in pids), timeout_s=30
  )
  command.kill()
  command.wait()
  is_over = lambda: not any(_is_alive(int(pid.read_text())) for pid in pids)
  helpers.wait_until(is_over, timeout_s=30)
  assert is_over()


def _config():
  return tables.make_table(
    helpers.tiny_mnist(),
    {
      'first': {'teacher.rows': ('teacher',)},
      'taught_by_it': {'teacher.rows': ('first',)},
      'apart': {'teacher.rows': ('teacher',), 'optim.learning_rate': 2e-3},
    },
  )


def test_a_worker_skips_students_that_another_worker_trains(
  tmp_path, monkeypatch
):
  """A worker skips locked students, and students that wait for those."""
  run = lambda: helpers.run(_config(), tmp_path)
  students = tmp_path / 'run' / 'students'
  trained = lambda: {
    path.parts[-3] for path in students.glob('*/*/result.json')
  }

  monkeypatch.setenv('KD_JAX_WORKER', 'prepare')
  run()
  assert (tmp_path / 'run' / 'run.json').exists() and not trained()

  monkeypatch.setenv('KD_JAX_WORKER', '0/2')
  other = contextlib.ExitStack()
  other.enter_context(files.locked(students / 'first' / 'seed-0'))
  seen = []

  def other_is_gone(_):
    seen.append(trained())
    other.close()

  clock = types.SimpleNamespace(sleep=other_is_gone, monotonic=time.monotonic)
  monkeypatch.setattr(locks, 'time', clock)
  run()
  assert seen == [{'apart'}]
  assert trained() == {'first', 'taught_by_it', 'apart'}
  assert not (tmp_path / 'run' / 'report.md').exists()

  monkeypatch.delenv('KD_JAX_WORKER')
  record = run()
  assert record['status'] == 'complete'
  assert {s['environment']['workers'] for s in record['students']} == {2}
