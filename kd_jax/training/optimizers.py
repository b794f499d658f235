"""Optimizers as optax chains, without their learning rate.

The learning rate is an argument of the train step (see step.py), so that a
sweep over it compiles once. A schedule is a factor on the learning rate, as a
function of the step.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

PyTree = Any
Schedule = Callable[[jax.Array], jax.Array]


def scale_by_adam(
  *, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-7
) -> optax.GradientTransformation:
  """Returns Adam's direction in the form that Keras computes, "epsilon hat".

  m / (sqrt(v) + epsilon) * sqrt(1 - b2^t) / (1 - b1^t)

  optax's `scale_by_adam` adds epsilon after the bias correction; this form adds
  epsilon before. This form also divides once for each parameter instead of
  three times, which matters where the update is a large part of the step.

  Args:
    b1: the decay of the first moment.
    b2: the decay of the second moment.
    epsilon: added to the root of the second moment.

  Reference: Kingma and Ba 2015, arXiv:1412.6980, end of section 2.
  """

  def init(params):
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    return optax.ScaleByAdamState(jnp.int32(0), zeros(), zeros())

  def update(grads, state, params=None):
    del params
    count = state.count + 1
    mu = jax.tree.map(lambda m, g: m + (1 - b1) * (g - m), state.mu, grads)
    nu = jax.tree.map(lambda v, g: v + (1 - b2) * (g * g - v), state.nu, grads)
    t = count.astype(jnp.float32)
    scale = jnp.sqrt(1 - b2**t) / (1 - b1**t)
    direction = jax.tree.map(
      lambda m, v: scale * m / (jnp.sqrt(v) + epsilon), mu, nu
    )
    return direction, optax.ScaleByAdamState(count, mu, nu)

  return optax.GradientTransformation(init, update)


def _adam(*, momentum: float, nesterov: bool) -> optax.GradientTransformation:
  del momentum, nesterov  # SGD has these.
  return scale_by_adam()


def _sgd(*, momentum: float, nesterov: bool) -> optax.GradientTransformation:
  if momentum == 0:
    return optax.identity()
  return optax.trace(decay=momentum, nesterov=nesterov)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
  'adam': _adam,
  'sgd': _sgd,
}


def make_optimizer(
  name: str,
  *,
  momentum: float,
  nesterov: bool,
  weight_decay: float,
  bias_factor: float = 1.0,
  scale_factor: float = 1.0,
) -> optax.GradientTransformation:
  """Returns the update direction, to be scaled by -learning_rate.

  Args:
    name: a name in OPTIMIZERS.
    momentum: the momentum of SGD; Adam has moments instead.
    nesterov: whether SGD's momentum is Nesterov's.
    weight_decay: the factor of an L2 term that is added to the gradient of
      every parameter, biases and normalization included. PyTorch's optimizers
      do the same.
    bias_factor: a factor on the learning rate of each bias beside a scale, as
      in batch norm. Its weight decay is divided by the factor, so that it
      shrinks as much in a step as other parameters do.
    scale_factor: the same for these scales. 0 keeps them at their first values.
  Raises:
    ValueError: if `name` is unknown.
  """
  if name not in OPTIMIZERS:
    raise ValueError(f'unknown optimizer {name!r}; known: {sorted(OPTIMIZERS)}')
  direction = OPTIMIZERS[name](momentum=momentum, nesterov=nesterov)
  if bias_factor != 1 or scale_factor != 1:
    factors = functools.partial(_factors, bias=bias_factor, scale=scale_factor)
    return optax.chain(
      _add_decayed_weights(weight_decay, factors),
      direction,
      _multiply(factors),
    )
  if weight_decay == 0:
    return direction
  return optax.chain(optax.add_decayed_weights(weight_decay), direction)


def _factors(params: PyTree, *, bias: float, scale: float) -> PyTree:
  """Returns the factor on the learning rate of each parameter.

  Args:
    params: the parameters.
    bias: the factor of a parameter `bias` beside a `scale`, as in batch norm.
    scale: the factor of a parameter `scale` beside a `bias`.
  """
  paths = {path for path, _ in jax.tree.leaves_with_path(params)}
  names = {(path[:-1], _name(path)) for path in paths}

  def factor(path, _):
    beside = {'bias': 'scale', 'scale': 'bias'}.get(_name(path))
    if beside is None or (path[:-1], beside) not in names:
      return 1.0
    return bias if beside == 'scale' else scale

  return jax.tree.map_with_path(factor, params)


def _name(path: tuple[Any, ...]) -> str:
  """Returns the last part of a parameter's path."""
  return jax.tree_util.keystr(path[-1:], simple=True)


def _add_decayed_weights(
  weight_decay: float, factors: Callable[[PyTree], PyTree]
) -> optax.GradientTransformation:
  """Adds weight_decay / factor * parameter to each gradient."""

  def add(grad, param, factor):
    return grad + weight_decay / factor * param if factor else grad

  return optax.stateless(
    lambda grads, params: jax.tree.map(add, grads, params, factors(params))
  )


def _multiply(
  factors: Callable[[PyTree], PyTree],
) -> optax.GradientTransformation:
  """Multiplies the update of each parameter by its factor."""
  return optax.stateless(
    lambda updates, params: jax.tree.map(
      lambda update, factor: factor * update, updates, factors(params)
    )
  )


def _constant(step: jax.Array, *, total_steps: int, warmup_fraction: float):
  del step, total_steps, warmup_fraction
  return jnp.float32(1)


def _cosine(step: jax.Array, *, total_steps: int, warmup_fraction: float):
  schedule = optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=1.0,
    warmup_steps=int(total_steps * warmup_fraction),
    decay_steps=total_steps,
  )
  return schedule(step)


SCHEDULES: dict[str, Callable[..., jax.Array]] = {
  'constant': _constant,
  'cosine': _cosine,
}


def make_schedule(
  name: str, *, total_steps: int, warmup_fraction: float
) -> Schedule:
  """Returns `schedule(step) -> factor on the learning rate`, float32.

  Args:
    name: a name in SCHEDULES.
    total_steps: the steps of the whole training.
    warmup_fraction: the share of the steps over which 'cosine' rises linearly
      from 0.
  Raises:
    ValueError: if `name` is unknown.
  """
  if name not in SCHEDULES:
    raise ValueError(f'unknown schedule {name!r}; known: {sorted(SCHEDULES)}')
  schedule = SCHEDULES[name]
  return lambda step: schedule(
    step, total_steps=total_steps, warmup_fraction=warmup_fraction
  )
