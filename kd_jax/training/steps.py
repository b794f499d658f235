"""The train step: pure, not jitted, the same for every model and method."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kd_jax.training import objectives

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
    learned: what distillation methods learn, which is no part of the network.
    opt_state: optax's state, of the model and the methods' adapters.
    rivals_opt_state: likewise, of the methods' rivals.
  """

  step: jax.Array
  params: PyTree
  batch_stats: PyTree
  learned: objectives.Learned
  opt_state: PyTree
  rivals_opt_state: PyTree

  @property
  def variables(self) -> dict[str, PyTree]:
    """What the model is applied with."""
    return {'params': self.params, 'batch_stats': self.batch_stats}


# Folded into a step's key for what methods draw.
_METHODS = 1

# What every train step totals, besides the objective's terms.
SUMS = ('loss', 'correct', 'count')


class Settings(NamedTuple):
  """The traced settings of a step: a sweep over them compiles once."""

  learning_rate: jax.Array
  weights: objectives.Weights


# Of the rivals, whose rates are constant; the first moment of half the usual
# memory is what generative adversarial networks have.
_RIVALS_OPTIMIZER = optax.scale_by_adam(b1=0.5)


def init_state(
  variables: dict[str, PyTree],
  optimizer: optax.GradientTransformation,
  learned: objectives.Learned | None = None,
) -> TrainState:
  """Returns the state before the first step, from a model's variables."""
  state = TrainState(
    step=jnp.int32(0),
    params=variables['params'],
    batch_stats=variables['batch_stats'],
    learned=learned or objectives.Learned({}, {}),
    opt_state=None,
    rivals_opt_state=None,
  )
  # Strongly typed, as a step returns it: of a weakly typed leaf, such as
  # `jnp.full` makes, every program would be compiled twice.
  state = jax.tree.map(
    lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), state
  )
  return reset_optimizer(state, optimizer)


def reset_optimizer(
  state: TrainState, optimizer: optax.GradientTransformation
) -> TrainState:
  """Returns the state with optimizers that have taken no step."""
  return state._replace(
    opt_state=optimizer.init((state.params, state.learned.adapters)),
    rivals_opt_state=_RIVALS_OPTIMIZER.init(state.learned.rivals),
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
    batch = batch | {'key': jax.random.fold_in(key, _METHODS)}

    def loss_fn(trained):
      params, adapters = trained
      forward = lambda images: apply_fn(
        state._replace(params=params).variables, images, train=True, key=key
      )
      logits, features, batch_stats = forward(batch['images'])
      student = objectives.Outputs(logits, features)
      # In turn: rivals first, and the student against what they are then.
      rivals, rivals_opt_state, rival_means = jax.lax.stop_gradient(
        _update_rivals(
          objective,
          state,
          jax.lax.stop_gradient(student),
          batch,
          settings.weights,
        )
      )
      terms = objective.fn(
        objectives.Learned(adapters, rivals),
        student,
        batch | {'student_fn': lambda images: forward(images)[0]},
        settings.weights,
      )
      loss, means = objectives.combine(terms, settings.weights, batch['mask'])
      learned = rivals, rivals_opt_state
      return loss, (means | rival_means, student, batch_stats, learned)

    trained = (state.params, state.learned.adapters)
    (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(trained)
    means, student, batch_stats, (rivals, rivals_opt_state) = aux
    direction, opt_state = optimizer.update(grads, state.opt_state, trained)
    rate = settings.learning_rate * schedule(state.step)
    params, adapters = jax.tree.map(
      lambda p, d: (p - rate * d).astype(p.dtype), trained, direction
    )
    correct = jnp.argmax(student.logits, axis=-1) == batch['labels']
    count = jnp.sum(batch['mask'])
    sums = {name: value * count for name, value in means.items()}
    sums['loss'] = loss * count
    sums['correct'] = jnp.sum(correct * batch['mask'])
    sums['count'] = count
    state = TrainState(
      state.step + 1,
      params,
      batch_stats,
      objectives.Learned(adapters, rivals),
      opt_state,
      rivals_opt_state,
    )
    return state, sums

  return train_step


def _update_rivals(objective, state: TrainState, student, batch, weights):
  """Returns rivals and their optimizer after a step, and their mean losses.

  They learn from what the student gives, before it learns from them; without
  any, nothing is computed.
  """
  learned = state.learned

  def loss_fn(rivals):
    terms = objective.rival_fn(
      learned._replace(rivals=rivals), student, batch, weights
    )
    means = objectives.mean_terms(terms, batch['mask'])
    return sum(means.values(), jnp.float32(0)), means

  grads, means = jax.grad(loss_fn, has_aux=True)(learned.rivals)
  direction, opt_state = _RIVALS_OPTIMIZER.update(grads, state.rivals_opt_state)
  rivals = {}
  for name, own in learned.rivals.items():
    rate = weights.rival_rate(name)
    move = lambda p, d, rate=rate: p - rate * d
    rivals[name] = jax.tree.map(move, own, direction[name])
  named = {objectives.rival_term(name): value for name, value in means.items()}
  return rivals, opt_state, named
