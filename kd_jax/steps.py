"""The train step: pure, not jitted, the same for every model and method."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kd_jax import objectives

PyTree = Any
Batch = dict[str, jax.Array]
# (variables, images, *, train, dropout key or None) -> (logits, features, new
# batch_stats), where variables are {'params': ..., 'batch_stats': ...};
# build.py makes it from a Flax module.
ApplyFn = Callable[..., tuple[jax.Array, dict[str, jax.Array], PyTree]]
Sums = dict[str, jax.Array]


class TrainState(NamedTuple):
  """Everything that training carries; arrays only.

  Attributes:
    step: int32 scalar, optimizer steps taken.
    params: the model's parameters.
    batch_stats: running statistics of normalization layers; {} without.
    adapters: parameters that distillation methods learn, by method, which are
      no part of the network; {} without.
    opt_state: optax's state, of both.
  """

  step: jax.Array
  params: PyTree
  batch_stats: PyTree
  adapters: PyTree
  opt_state: PyTree

  @property
  def variables(self) -> dict[str, PyTree]:
    """What the model is applied with."""
    return {'params': self.params, 'batch_stats': self.batch_stats}


# What every train step totals, besides the objective's terms.
SUMS = ('loss', 'correct', 'count')


class Settings(NamedTuple):
  """The traced settings of a step: a sweep over them compiles once."""

  learning_rate: jax.Array
  weights: objectives.Weights


def init_state(
  variables: dict[str, PyTree],
  optimizer: optax.GradientTransformation,
  adapters: PyTree | None = None,
) -> TrainState:
  """Returns the state before the first step, from a model's variables."""
  state = TrainState(
    step=jnp.int32(0),
    params=variables['params'],
    batch_stats=variables['batch_stats'],
    adapters=adapters or {},
    opt_state=None,
  )
  return reset_optimizer(state, optimizer)


def reset_optimizer(
  state: TrainState, optimizer: optax.GradientTransformation
) -> TrainState:
  """Returns the state with an optimizer that has taken no step."""
  return state._replace(
    opt_state=optimizer.init((state.params, state.adapters))
  )


def make_train_step(
  apply_fn: ApplyFn,
  objective: objectives.Objective,
  optimizer: optax.GradientTransformation,
  schedule: Callable[[jax.Array], jax.Array],
) -> Callable[..., tuple[TrainState, Sums]]:
  """Returns `train_step(state, batch, key, settings) -> (state, sums)`.

  A batch holds images [B, H, W, C] as the network takes them, labels [B],
  mask [B] (0 for padding) and, for distillation, teacher_logits [B, K] and
  perhaps teacher_features, [B, ...] by name.
  `sums` are totals over the batch's examples ('loss', each term, 'correct',
  'count'), to be added up over an epoch.
  """

  def train_step(
    state: TrainState, batch: Batch, key: jax.Array, settings: Settings
  ) -> tuple[TrainState, Sums]:
    def loss_fn(trained):
      params, adapters = trained
      logits, features, batch_stats = apply_fn(
        state._replace(params=params).variables,
        batch['images'],
        train=True,
        key=key,
      )
      outputs = objectives.Outputs(logits, features)
      terms = objective.fn(adapters, outputs, batch, settings.weights)
      loss, means = objectives.combine(terms, settings.weights, batch['mask'])
      return loss, (means, logits, batch_stats)

    trained = (state.params, state.adapters)
    (loss, (means, logits, batch_stats)), grads = jax.value_and_grad(
      loss_fn, has_aux=True
    )(trained)
    direction, opt_state = optimizer.update(grads, state.opt_state, trained)
    rate = settings.learning_rate * schedule(state.step)
    params, adapters = jax.tree.map(
      lambda p, d: (p - rate * d).astype(p.dtype), trained, direction
    )
    correct = jnp.argmax(logits, axis=-1) == batch['labels']
    count = jnp.sum(batch['mask'])
    sums = {name: value * count for name, value in means.items()}
    sums['loss'] = loss * count
    sums['correct'] = jnp.sum(correct * batch['mask'])
    sums['count'] = count
    state = TrainState(state.step + 1, params, batch_stats, adapters, opt_state)
    return state, sums

  return train_step
