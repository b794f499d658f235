"""First calls in fresh processes, as the paper times them."""

import types

import jax.monitoring

from kd_jax.benchmark import cold_calls

MODEL = dict(kind='mlp', dropout_rate=0.0, temperature=3.5, dtype='float32')


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


def test_the_first_call_compiles_and_the_second_does_not(monkeypatch):
  compilations = []

  def listen(event, duration, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      compilations.append(duration)

  # A clock that shows the number of compilations.
  clock = types.SimpleNamespace(perf_counter=lambda: len(compilations))
  monkeypatch.setattr(cold_calls, 'time', clock)
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    # No other test has these shapes, whose operations JAX would keep.
    calls = cold_calls.call_each(
      {
        'models': {'network': MODEL | {'hidden': [29]}},
        'num_classes': 10,
        'image_shape': [28, 28, 1],
        'examples': 97,
      }
    )
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert calls['network']['first'] > 0 == calls['network']['second']
