"""The train step: pure, not jitted, the same for every network and method."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kd_jax import data
from kd_jax.models import costs
from kd_jax.models.apply import ApplyFn
from kd_jax.training import method_terms
from kd_jax.training import objective as objectives
from kd_jax.training.batch import Batch
from kd_jax.training.hyperparameters import Hyperparameters

PyTree = Any
Sums = dict[str, jax.Array]

# Folded into a step's key to get the key of the methods.
_METHODS_KEY = 1
# The sums of every train step, besides those of the objective's terms.
SUM_NAMES = ('loss', 'correct', 'count')
# The name of the number of labeled examples, if some have no label.
LABELED = 'labeled'
# Discriminators train at a constant learning rate, with b1=0.5 instead of 0.9,
# as is customary for generative adversarial networks.
_DISCRIMINATOR_OPTIMIZER = optax.scale_by_adam(b1=0.5)


class TrainState(NamedTuple):
  """Everything that training carries from step to step; arrays only.

  Attributes:
    step: int32 scalar, the number of optimizer steps taken.
    params: the network's parameters.
    batch_stats: running statistics of normalization layers; {} without.
    method_params: what distillation methods learn beside the network.
    opt_state: optax's state for the network and the methods' adapters.
    discriminators_opt_state: optax's state for the methods' discriminators.
  """

  step: jax.Array
  params: PyTree
  batch_stats: PyTree
  method_params: method_terms.MethodParams
  opt_state: PyTree
  discriminators_opt_state: PyTree

  def __repr__(self) -> str:
    """Returns the step and the number of parameters, in a line."""
    parameters = costs.count_parameters(self.params)
    return f'TrainState(step={self.step}, parameters={parameters:,})'

  @property
  def variables(self) -> dict[str, PyTree]:
    """The network's variables: parameters and running statistics."""
    return {'params': self.params, 'batch_stats': self.batch_stats}


TrainStep = Callable[
  [TrainState, Batch, jax.Array, Hyperparameters], tuple[TrainState, Sums]
]


def init_state(
  variables: dict[str, PyTree],
  optimizer: optax.GradientTransformation,
  method_params: method_terms.MethodParams = method_terms.NO_METHOD_PARAMS,
) -> TrainState:
  """Returns the state before the first step, from a network's variables."""
  state = TrainState(
    step=jnp.int32(0),
    params=variables['params'],
    batch_stats=variables['batch_stats'],
    method_params=method_params,
    opt_state=None,
    discriminators_opt_state=None,
  )
  # A step returns strongly typed leaves. Weakly typed leaves, such as those of
  # `jnp.full`, would make JAX compile each function of the state twice.
  state = jax.tree.map(
    lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), state
  )
  return reset_optimizer(state, optimizer)


def reset_optimizer(
  state: TrainState, optimizer: optax.GradientTransformation
) -> TrainState:
  """Returns the state with optimizers that have taken no step."""
  adapters, discriminators = state.method_params
  return state._replace(
    opt_state=optimizer.init((state.params, adapters)),
    discriminators_opt_state=_DISCRIMINATOR_OPTIMIZER.init(discriminators),
  )


def make_train_step(
  apply_fn: ApplyFn,
  objective: objectives.Objective,
  optimizer: optax.GradientTransformation,
  schedule: Callable[[jax.Array], jax.Array],
) -> TrainStep:
  """Returns `train_step(state, batch, key, hyperparameters) -> (state, sums)`.

  Args:
    apply_fn: the network.
    objective: what it learns.
    optimizer: the update direction, without the learning rate.
    schedule: maps the step to a factor on the learning rate.
  Returns:
    The step. `sums` are totals over the batch's examples, to be added up over
    an epoch: 'loss', each term, each discriminator's loss, 'correct' and
    'count'; and 'labeled' if examples may have no label.
  """
  loss_fn = _make_loss(apply_fn, objective)

  def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    hyperparameters: Hyperparameters,
  ) -> tuple[TrainState, Sums]:
    learned = (state.params, state.method_params.adapters)
    (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      learned, state, batch, key, hyperparameters
    )
    direction, opt_state = optimizer.update(grads, state.opt_state, learned)
    rate = hyperparameters.learning_rate * schedule(state.step)
    params, adapters = jax.tree.map(
      lambda p, d: (p - rate * d).astype(p.dtype), learned, direction
    )
    state = TrainState(
      step=state.step + 1,
      params=params,
      batch_stats=aux.batch_stats,
      method_params=method_terms.MethodParams(
        adapters, aux.discriminator_update.discriminators
      ),
      opt_state=opt_state,
      discriminators_opt_state=aux.discriminator_update.opt_state,
    )
    sums = _sum_over_batch(loss, aux.means, aux.logits, batch)
    if objective.partly_labeled:
      sums[LABELED] = jnp.sum((batch.labels != data.NO_LABEL) * batch.mask)
    return state, sums

  return train_step


class _DiscriminatorUpdate(NamedTuple):
  """The discriminators after a step.

  Attributes:
    discriminators: their parameters, by method.
    opt_state: optax's state for them.
    means: the mean loss of each, by the name under which it is logged.
  """

  discriminators: dict[str, PyTree]
  opt_state: PyTree
  means: dict[str, jax.Array]


class _LossAux(NamedTuple):
  """The outputs of the loss of a step, beside its value.

  Attributes:
    means: the mean of each term over the batch, by name.
    logits: [B, K], the student's.
    batch_stats: the running statistics after the step.
    discriminator_update: the discriminators after the step.
  """

  means: dict[str, jax.Array]
  logits: jax.Array
  batch_stats: PyTree
  discriminator_update: _DiscriminatorUpdate


def _make_loss(
  apply_fn: ApplyFn, objective: objectives.Objective
) -> Callable[..., tuple[jax.Array, _LossAux]]:
  """Returns `loss_fn(learned, state, batch, key, hyperparameters)`.

  It is differentiated with respect to `learned = (params, adapters)`.
  """

  def loss_fn(
    learned: tuple[PyTree, dict[str, PyTree]],
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    hyperparameters: Hyperparameters,
  ) -> tuple[jax.Array, _LossAux]:
    params, adapters = learned
    variables = state._replace(params=params).variables
    forward = lambda images: apply_fn(variables, images, train=True, key=key)
    logits, features, batch_stats = forward(batch.images)
    student = method_terms.StudentOutputs(
      logits,
      features,
      forward=lambda images: forward(images)[0],
      key=jax.random.fold_in(key, _METHODS_KEY),
    )
    # The student's loss uses the updated discriminators.
    discriminator_update = jax.lax.stop_gradient(
      _update_discriminators(objective, state, student, batch, hyperparameters)
    )
    terms = objective.terms(
      method_terms.TermInputs(
        method_terms.MethodParams(
          adapters, discriminator_update.discriminators
        ),
        student,
        batch,
        hyperparameters,
      )
    )
    loss, means = objectives.combine(terms, hyperparameters, batch.mask)
    return loss, _LossAux(
      means=means | discriminator_update.means,
      logits=logits,
      batch_stats=batch_stats,
      discriminator_update=discriminator_update,
    )

  return loss_fn


def _sum_over_batch(
  loss: jax.Array, means: dict[str, jax.Array], logits: jax.Array, batch: Batch
) -> Sums:
  """Returns totals over a batch: see `make_train_step`."""
  correct = jnp.argmax(logits, axis=-1) == batch.labels
  count = jnp.sum(batch.mask)
  sums = {name: value * count for name, value in means.items()}
  sums['loss'] = loss * count
  sums['correct'] = jnp.sum(correct * batch.mask)
  sums['count'] = count
  return sums


def _update_discriminators(
  objective: objectives.Objective,
  state: TrainState,
  student: method_terms.StudentOutputs,
  batch: Batch,
  hyperparameters: Hyperparameters,
) -> _DiscriminatorUpdate:
  """Takes a step of the discriminators, before the student learns from them.

  Without discriminators nothing is computed.
  """
  student = student._replace(
    logits=jax.lax.stop_gradient(student.logits),
    features=jax.lax.stop_gradient(student.features),
  )

  def loss_fn(discriminators):
    terms = objective.discriminator_terms(
      method_terms.TermInputs(
        state.method_params._replace(discriminators=discriminators),
        student,
        batch,
        hyperparameters,
      )
    )
    means = objectives.mean_terms(terms, batch.mask)
    return sum(means.values(), jnp.float32(0)), means

  old = state.method_params.discriminators
  grads, means = jax.grad(loss_fn, has_aux=True)(old)
  direction, opt_state = _DISCRIMINATOR_OPTIMIZER.update(
    grads, state.discriminators_opt_state
  )
  new = {}
  for name, params in old.items():
    rate = hyperparameters.discriminator_rate(name)
    move = lambda p, d, rate=rate: p - rate * d
    new[name] = jax.tree.map(move, params, direction[name])
  named = {
    objectives.discriminator_term(name): value for name, value in means.items()
  }
  return _DiscriminatorUpdate(
    discriminators=new, opt_state=opt_state, means=named
  )
