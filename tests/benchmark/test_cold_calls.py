"""First calls in fresh processes, as the paper times them."""

import subprocess

import pytest

from kd_jax.benchmark import cold_calls, timing
from kd_jax.runtime import errors
from tests import helpers

MODEL = dict(kind='mlp', dropout_rate=0.0, temperature=3.5, dtype='float32')


@pytest.mark.slow
def test_cold_calls_time_first_calls_in_fresh_processes():
  results = cold_calls.measure(
    {'teacher': MODEL | {'hidden': [64]}, 's': MODEL | {'hidden': [8]}},
    num_classes=10,
    image_shape=(28, 28, 1),
    examples=100,
    processes=2,
  )
  assert list(results) == ['teacher', 's']
  assert results['teacher']['first_call_ratio']['median'] == 1
  for result in results.values():
    first, second = result['first_call_s'], result['second_call_s']
    assert first['n'] == second['n'] == 2
    assert first['lower'] > 0 and second['lower'] > 0


def test_the_first_call_compiles_and_the_second_does_not():
  # No other test has these shapes, whose operations JAX would keep.
  spec = {
    'models': {'network': MODEL | {'hidden': [29]}},
    'num_classes': 10,
    'image_shape': [28, 28, 1],
    'examples': 97,
  }
  with helpers.compilations_as_seconds(cold_calls, timing):
    calls = cold_calls.call_each(spec)
  assert calls['network']['first'] >= 1 > calls['network']['second']


@pytest.mark.faults
@pytest.mark.parametrize(
  'code, reason',
  [
    ('import os; os.kill(os.getpid(), 9)', 'exit status -9: perhaps for lack'),
    ('raise ValueError("no device")', 'exit status 1: ValueError: no device'),
    ('import time; time.sleep(60)', 'did not end within 1 s'),
  ],
)
def test_a_process_that_fails_is_one_line_and_the_students_are_kept(
  monkeypatch, code, reason
):
  """A process that times networks fails or hangs: one line has the mend."""
  run = subprocess.run
  command = lambda args, **options: run([args[0], '-c', code], **options)
  monkeypatch.setattr(cold_calls.subprocess, 'run', command)
  monkeypatch.setattr(cold_calls, '_LIMIT_S', 1)
  with pytest.raises(errors.UserError, match=f'{reason}.*cold_calls=0'):
    cold_calls.measure(
      {'teacher': {}}, num_classes=2, image_shape=(1,), examples=1, processes=1
    )
