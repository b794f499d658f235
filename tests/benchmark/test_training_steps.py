"""Timing of training steps; the tests assert no times."""

import jax

from configs import mnist
from kd_jax import config as config_lib
from kd_jax.benchmark import timing, training_steps
from kd_jax.models import apply, from_config
from tests import helpers


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


def test_a_live_step_calls_the_teacher_and_a_stored_step_does_not(
  generated, monkeypatch
):
  config = config_lib.close_row(helpers.tiny_mnist(), 'h50')
  module = from_config.make_module(config.teacher.model, 10)

  def losses(seed):
    """Returns the loss of each kind of step, for a teacher of a seed."""
    teacher = apply.init_variables(module, (28, 28, 1), jax.random.key(seed))
    results = training_steps.measure_stored_and_live(
      {'h50': config}, teacher, generated, budget_s=0.01
    )
    return {name: loss['median'] for name, loss in results['h50'].items()}

  # Instead of a step's seconds, the results hold its loss.
  loss_of_a_call = lambda call: [float(call()[1].sums['loss'])]
  monkeypatch.setattr(
    timing,
    'interleave',
    lambda calls, budget_s: {k: loss_of_a_call(c) for k, c in calls.items()},
  )
  first, second = losses(0), losses(1)
  assert first['stored_step_s'] == second['stored_step_s']
  assert first['live_step_s'] != second['live_step_s']


def test_the_seconds_of_a_step_are_those_of_calls_by_their_steps(
  generated, monkeypatch
):
  config = config_lib.close_row(helpers.tiny_mnist(), 'h50')
  clock = iter(range(0, 1000, 10))
  monkeypatch.setattr(
    training_steps.time, 'perf_counter', lambda: float(next(clock))
  )
  seconds = training_steps.seconds_per_step(
    config,
    generated,
    training_steps.random_teacher_outputs(config, generated),
    budget_s=25.0,
  )
  # The clock moves by 10 s a call, and a call takes 20 steps.
  assert seconds == 10 / 20
