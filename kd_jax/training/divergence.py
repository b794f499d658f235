"""Checks that a training has not diverged."""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.runtime import errors
from kd_jax.training.epoch import NO_STEP, EpochTotals
from kd_jax.training.hyperparameters import Hyperparameters
from kd_jax.training.step import TrainState


class NonFiniteLoss(errors.UserError):
  """The loss became NaN or infinite."""


def check_loss(
  totals: EpochTotals, where: str, hyperparameters: Hyperparameters
) -> None:
  """Checks the losses of the steps so far.

  Raises:
    NonFiniteLoss: names the first step whose loss is not finite.
  """
  step = int(np.min(totals.nonfinite_step))
  if step != NO_STEP:
    raise _non_finite(
      f'the loss is not finite at step {step}', where, hyperparameters
    )


def check_state(
  state: TrainState, where: str, hyperparameters: Hyperparameters
) -> None:
  """Checks the state: a finite loss says nothing about the state after it.

  Raises:
    NonFiniteLoss: names the first array that is not finite.
  """
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.all(
      np.isfinite(jax.device_get(leaf))
    ):
      name = jax.tree_util.keystr(path)[1:]
      raise _non_finite(
        f'{name} is not finite after a step', where, hyperparameters
      )


def _non_finite(
  problem: str, where: str, hyperparameters: Hyperparameters
) -> NonFiniteLoss:
  values = hyperparameters._asdict()
  for name, options in values.pop('methods').items():
    values |= {f'{name}.{option}': value for option, value in options.items()}
  return NonFiniteLoss(
    f'{problem} {where}, with '
    + ', '.join(f'{name}={float(value):g}' for name, value in values.items())
    + '; the last good checkpoint is kept. Lower the learning rate, or look '
    'for bad values in the data and the teacher outputs'
  )
