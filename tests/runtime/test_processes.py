"""Several processes of one run, and a run of one process."""

import os

import pytest

from kd_jax.runtime import errors, processes


def test_half_described_processes_are_an_error():
  for given in [('localhost:1',), (None, 2), (None, None, 0)]:
    with pytest.raises(errors.UserError, match='--process_id go together'):
      processes.start(*given)


def test_one_process_is_the_first_and_calls_functions_itself():
  assert processes.is_first() and processes.count() == 1
  assert processes.from_first(lambda: [1, 'a']) == [1, 'a']
  with pytest.raises(ValueError, match='unchanged'), processes.guard():
    raise ValueError('unchanged')


def test_a_failing_process_of_several_exits_at_once(monkeypatch, capfd):
  class Exited(BaseException):
    pass

  def exit_now(status):
    assert status == 1
    raise Exited

  monkeypatch.setattr(processes, 'count', lambda: 2)
  monkeypatch.setattr(os, '_exit', exit_now)
  for error, line in (
    (errors.UserError('no data on this host'), '(no data on this host)'),
    (OSError('gone'), '(OSError: gone). If another process has ended'),
  ):
    with pytest.raises(Exited), processes.guard():
      raise error
    assert f'process 0 of 2 cannot continue {line}' in capfd.readouterr().err
