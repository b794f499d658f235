"""Locks: who holds one, and waits that have an end."""

import os
import signal

import pytest

from kd_jax.experiments import students
from kd_jax.runtime import errors, files, locks
from tests import helpers

pytestmark = pytest.mark.faults

_HOLD = """
import sys, time
from kd_jax.runtime import files
with files.locked(sys.argv[1]):
  print('held', flush=True)
  time.sleep(600)
"""


@pytest.fixture(name='limit', autouse=True)
def _limit():
  """Restores the limit of waits after the test."""
  yield
  locks.limit_waits(locks.MAX_WAIT_H)


@pytest.fixture(name='held', scope='module')
def _held(tmp_path_factory):
  """Returns a folder, and the process that has its lock."""
  folder = tmp_path_factory.mktemp('held') / 'run'
  holder = helpers.start_python('-c', _HOLD, folder)
  assert holder.stdout.readline() == 'held\n'
  yield folder, holder
  holder.kill()
  holder.communicate()


def test_a_refusal_names_the_process_that_has_the_lock(held):
  """A second command in a folder: it is refused, and the first is named."""
  folder, holder = held
  named = (
    rf'at work in {folder} \(process {holder.pid} on .* since 20.*: python'
  )
  for wait in (True, False):
    locks.limit_waits(0)
    with (
      pytest.raises(locks.Busy, match=named),
      files.locked(folder, wait=wait),
    ):
      pass


def test_a_wait_ends_at_its_limit_with_the_mend(held):
  """A process that never ends: waits for it end, and the line has the mend."""
  folder, holder = held
  locks.limit_waits(0.1 / 3600)
  with pytest.raises(errors.UserError) as raised:
    with files.locked(folder, wait=True):
      pass
  line = str(raised.value)
  assert line.startswith('waited 0 s for another process, which is at work in')
  assert f'process {holder.pid} on ' in line
  assert 'end it, which frees what it holds' in line and '--max_wait_h' in line


def test_a_stopped_process_is_named_with_the_command_that_continues_it(held):
  """The process with the lock was stopped: the line says how to continue it."""
  folder, holder = held
  os.kill(holder.pid, signal.SIGSTOP)
  try:
    helpers.wait_until(lambda: locks._state(holder.pid) == 'T', timeout_s=10)
    with pytest.raises(
      locks.Busy, match=f'stopped, and `kill -CONT {holder.pid}'
    ):
      with files.locked(folder):
        pass
  finally:
    os.kill(holder.pid, signal.SIGCONT)


def test_a_wait_says_how_long_it_will_wait(held, monkeypatch, caplog):
  """A wait of seconds: one line says for what, and for how long at most."""
  folder, _ = held
  monkeypatch.setattr(locks, '_FIRST_LINE_S', 0.0)
  with caplog.at_level('INFO'), pytest.raises(locks.Busy):
    with files.locked(folder, wait=True, limit_s=0.05):
      pass
  assert caplog.text.count('waiting for another process') == 1
  assert 'so far, at most 0 s)' in caplog.text
  assert locks._duration(24 * 3600) == '24 h'
  assert locks._duration(600) == '10 min'


@pytest.mark.parametrize('content', [b'', b'[]', b'\xff', b'{"process": "x"}'])
def test_a_lock_of_an_unknown_process_is_refused_without_its_name(
  held, content
):
  """A lock file with other content: the folder is named, and no process."""
  folder, _ = held
  path = folder.with_name('.run.lock')
  record = path.read_bytes()
  path.write_bytes(content)
  try:
    with pytest.raises(locks.Busy, match=f'at work in {folder}: wait for it'):
      with files.locked(folder):
        pass
  finally:
    path.write_bytes(record)


@pytest.mark.parametrize('hours', [-1.0, float('nan'), float('inf')])
def test_a_limit_that_is_no_time_is_refused(hours):
  """A limit that is no time: it is refused by the flag's name."""
  with pytest.raises(errors.UserError, match='--max_wait_h'):
    locks.limit_waits(hours)


def test_a_worker_does_not_wait_for_ever_for_the_others(
  generated, tmp_path, monkeypatch
):
  """A worker that hangs: the others stop waiting, and name its students."""
  run = helpers.make_rows(helpers.tiny_mnist(), generated)
  run = run._replace(workdir=tmp_path)
  (row,) = run.by_name.values()
  monkeypatch.setattr(students, '_train_row', lambda run, row: False)
  locks.limit_waits(0)
  with pytest.raises(
    locks.Busy, match=r'other workers, which train h50 .seeds .0'
  ):
    students.train_students(run)
