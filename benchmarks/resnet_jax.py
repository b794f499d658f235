"""Our training of resnet_training.py, and the same with plain Flax layers."""

import functools
import types
from collections.abc import Callable

import harness
import jax
import jax.numpy as jnp
import networks
import resnet_systems
from flax import linen as nn

from kd_jax.models import apply, resnet
from kd_jax.training import objective as objectives
from kd_jax.training import optimizers
from kd_jax.training import step as steps
from kd_jax.training.batch import Batch
from kd_jax.training.hyperparameters import Hyperparameters
from kd_jax.training.method_terms import MethodSetup


def make(
  network: str, system: str, *, quantization: str = 'float'
) -> harness.System:
  """Returns our training of a network.

  On a CPU, Python loops over calls of the compiled step; on a GPU, the loop
  over steps is in the compiled program.

  Args:
    network: the student.
    system: a system of the table; names the type, and a live teacher.
    quantization: the student's field of this name.
  """
  live = 'live' in system
  dtype = 'bfloat16' if 'bfloat16' in system else 'float32'
  optimizer = optimizers.make_optimizer(
    'sgd',
    momentum=resnet_systems.MOMENTUM,
    nesterov=True,
    weight_decay=resnet_systems.WEIGHT_DECAY,
  )
  module = networks.make_module(network, quantization=quantization, dtype=dtype)
  train_step = _make_train_step(module, optimizer, live=live, dtype=dtype)
  arrays = jax.tree.map(jnp.asarray, resnet_systems.make_batch())
  batch = Batch(**arrays, mask=jnp.ones(resnet_systems.BATCH))
  teacher_variables = networks.make_variables('teacher') if live else {}
  args = batch, teacher_variables, jax.random.key(0), _make_hyperparameters()
  take_steps = (
    _in_one_program(train_step) if harness.on_gpu() else _by_calls(train_step)
  )
  state = steps.init_state(networks.make_variables(network), optimizer)
  # Copies, because the step donates the buffers of its state.
  state = jax.tree.map(jnp.copy, state)

  def take(count):
    nonlocal state
    state, sums = take_steps(state, count, *args)
    jax.block_until_ready((state, sums))
    return float(sums['loss'] / resnet_systems.BATCH)

  check = None
  if dtype == 'float32':
    check = [take(1) for _ in range(resnet_systems.CHECKED_STEPS)]
  return resnet_systems.make_system(system, take, check)


def _make_train_step(
  module: nn.Module, optimizer, *, live: bool, dtype: str
) -> Callable:
  """Returns a step that takes the live teacher's variables, too.

  The step maps (state, batch, teacher variables, key, hyperparameters) to
  (state, sums).
  """
  step = steps.make_train_step(
    apply.make_apply(module),
    objectives.make_objective({'kl': {}}, MethodSetup()),
    optimizer,
    lambda step: jnp.float32(1),
  )
  teacher = networks.make_module('teacher', dtype=dtype)

  def train_step(state, batch, teacher_variables, key, hyperparameters):
    if live:
      logits, _ = teacher.apply(teacher_variables, batch.images, train=False)
      batch = batch._replace(teacher_logits=logits)
    return step(state, batch, key, hyperparameters)

  return train_step


def _make_hyperparameters() -> Hyperparameters:
  """Returns the learning rate, weights and temperature of the step."""
  return Hyperparameters(
    learning_rate=jnp.float32(resnet_systems.RATE),
    ce_weight=jnp.float32(1),
    kd_weight=jnp.float32(1),
    temperature=jnp.float32(resnet_systems.TEMPERATURE),
  )


def _in_one_program(train_step: Callable) -> Callable:
  """Returns (state, count, ...) -> state, sums: steps in a compiled loop."""

  @functools.partial(jax.jit, donate_argnums=0)
  def take_steps(state, count, *args):
    body = lambda i, carry: train_step(carry[0], *args)
    sums = jax.eval_shape(train_step, state, *args)[1]
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums)
    return jax.lax.fori_loop(0, count, body, (state, zeros))

  return take_steps


def _by_calls(train_step: Callable) -> Callable:
  """Returns (state, count, ...) -> state, sums: calls of a compiled step."""
  call_step = jax.jit(train_step, donate_argnums=0)

  def take_steps(state, count, *args):
    for _ in range(count):
      state, sums = call_step(state, *args)
    return state, sums

  return take_steps


def make_plain_flax(network: str) -> harness.System:
  """Returns our training with Flax' standard layers instead of ours."""
  resnet.layers = types.SimpleNamespace(  # type: ignore[assignment]
    BatchNorm=_FlaxBatchNorm,
    max_pool=_flax_max_pool,
    plain_max_pool=_flax_max_pool,
  )
  return make(network, 'flax', quantization='flax')


class _FlaxBatchNorm(nn.Module):
  """Flax' batch norm with the interface of `kd_jax.models.layers`."""

  scale_init: float = 1.0

  @nn.compact
  def __call__(self, x, *, train: bool):
    return nn.BatchNorm(
      not train,
      momentum=0.9,
      epsilon=1e-5,
      scale_init=nn.initializers.constant(self.scale_init),
      name='norm',
    )(x)


def _flax_max_pool(x):
  return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
