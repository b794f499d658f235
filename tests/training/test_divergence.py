"""A training that diverges stops with an error that says where."""

import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.training import divergence, plan
from tests.training import toy_training as toy


def test_a_loss_that_is_not_finite_stops_with_step_and_hyperparameters():
  hyperparameters_of_epoch = lambda index: toy.HYPERPARAMETERS._replace(
    learning_rate=jnp.float32(jnp.inf if index == 3 else 0.1)
  )
  done = []
  with pytest.raises(
    divergence.NonFiniteLoss,
    match=r'step 1 of epoch 3 \(fold1\), with learning_rate=inf, '
    r'ce_weight=0, kd_weight=1, temperature=2',
  ):
    for result in toy.run_epochs(
      toy.make_epoch_functions(),
      toy.init_state(),
      hyperparameters_of_epoch=hyperparameters_of_epoch,
    ):
      done.append(result.epoch)
  assert done == [0, 1, 2]


def test_a_last_step_that_ruins_the_network_is_an_error():
  functions = toy.make_epoch_functions()
  subset = np.arange(toy.NUM_EXAMPLES) < toy.BATCH_SIZE
  phases = [plan.Phase('fit', 1, subset)]
  (loss,) = (
    result.sums['loss']
    for result in toy.run_epochs(functions, toy.init_state(), phases=phases)
  )
  # The loss of the only step is computed before its update.
  assert np.isfinite(loss)
  diverging = toy.HYPERPARAMETERS._replace(learning_rate=jnp.float32(jnp.inf))
  with pytest.raises(
    divergence.NonFiniteLoss,
    match=r"params\['w'\] is not finite.*epoch 0 \(fit\)",
  ):
    list(
      toy.run_epochs(
        functions,
        toy.init_state(),
        phases=phases,
        hyperparameters_of_epoch=lambda index: diverging,
      )
    )
