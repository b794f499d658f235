"""First calls in fresh processes, as the paper times them."""

from kd_jax.benchmark import cold_calls


def test_cold_calls_time_first_calls_in_fresh_processes():
  model = dict(kind='mlp', dropout_rate=0.0, temperature=3.5, dtype='float32')
  results = cold_calls.measure(
    {'teacher': model | {'hidden': [64]}, 's': model | {'hidden': [8]}},
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
    # The first call compiles each of its operations.
    assert first['median'] > second['median'] > 0
