"""Timing of training steps; the tests assert no times."""

from configs import mnist
from kd_jax import config as config_lib
from kd_jax.benchmark import training_steps


def test_steps_of_rows_are_compared_with_those_of_a_reference(generated):
  config = mnist.get_config('methods')
  config.student.hidden = (8,)
  rows = {
    name: config_lib.close_row(config, name)
    for name in ('kl', 'dkd', 'hint', 'born_again')
  }
  results = training_steps.measure_against_row(
    rows, 'kl', generated, budget_s=0.01
  )
  # born_again takes the steps of kl, and is not timed.
  assert results.keys() == {'kl', 'dkd', 'hint'}
  for result in results.values():
    assert result['step_s']['median'] > 0 and result['ratio']['n'] >= 5
