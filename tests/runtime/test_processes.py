"""Several processes of one run, and a run of one process."""

import os

import jax
import pytest

from kd_jax.runtime import errors, processes
from tests import helpers


def test_half_described_processes_are_an_error():
  for given in [('localhost:1',), (None, 2), (None, None, 0)]:
    with pytest.raises(errors.UserError, match='--process_id go together'):
      processes.start(*given)


def test_the_first_process_listens_at_its_address_alone(monkeypatch):
  given = {}
  monkeypatch.setattr(jax.config, 'update', lambda *_: None)
  monkeypatch.setattr(
    jax.distributed, 'initialize', lambda *_, **kwargs: given.update(kwargs)
  )
  monkeypatch.setattr(processes.addresses, 'check_free', lambda *_: None)
  processes.start('10.0.0.1:1234', 2, 0)
  assert given['coordinator_bind_address'] == '10.0.0.1:1234'


def test_a_long_wait_for_the_others_is_said(monkeypatch, caplog):
  monkeypatch.setattr(processes, '_SAID_AFTER_S', 0.0)
  monkeypatch.setattr(jax.config, 'update', lambda *_: None)
  monkeypatch.setattr(
    jax.distributed,
    'initialize',
    lambda *_, **__: helpers.wait_until(lambda: 'waits at' in caplog.text, 10),
  )
  processes.start('10.0.0.1:1234', 2, 1)
  assert 'waits at 10.0.0.1:1234 for the other processes' in caplog.text


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
