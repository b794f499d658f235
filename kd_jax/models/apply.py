"""A network as pure functions of its variables and of images."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

PyTree = Any
# apply(variables, images, *, train, key) -> (logits, features, batch_stats)
#
#   variables: {'params': ..., 'batch_stats': ...}.
#   images: float [B, H, W, C], scaled.
#   train: whether dropout is on and batch statistics are used and updated.
#   key: for dropout; None unless `train`.
#   logits: [B, K].
#   features: arrays [B, ...] by layer.
#   batch_stats: running statistics after the call.
ApplyFn = Callable[..., tuple[jax.Array, dict[str, jax.Array], PyTree]]


def make_apply(module: nn.Module) -> ApplyFn:
  """Returns a module's forward pass as a pure function of arrays.

  Args:
    module: maps images to logits, or to (logits, features by name); it gets
      `train` if its call takes it.
  """

  def apply(variables, images, *, train, key):
    batch_stats = variables['batch_stats']
    arguments = _train_argument(module, train)
    arguments['rngs'] = {'dropout': key} if train else None
    if train and batch_stats:
      output, updates = module.apply(
        variables, images, mutable=['batch_stats'], **arguments
      )
      return *_with_features(output), updates['batch_stats']
    output = module.apply(variables, images, **arguments)
    return *_with_features(output), batch_stats

  return apply


def _with_features(output: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
  return output if isinstance(output, tuple) else (output, {})


def _train_argument(module: Any, train: bool) -> dict[str, Any]:
  return {'train': train} if takes_train(module) else {}


def takes_train(module: Any) -> bool:
  """Returns whether the call of a Linen module, or a layer, takes `train`."""
  if isinstance(module, nn.Sequential):
    # It passes all arguments to its first layer, and none to the others.
    return bool(module.layers) and takes_train(module.layers[0])
  call = type(module).__call__ if isinstance(module, nn.Module) else module
  if not callable(call):  # A `PureNetwork`, whose `apply` always takes it.
    return True
  parameters = inspect.signature(call).parameters
  return 'train' in parameters or any(
    parameter.kind is inspect.Parameter.VAR_KEYWORD
    for parameter in parameters.values()
  )


def init_variables(
  module: nn.Module, image_shape: tuple[int, ...], key: jax.Array
) -> dict[str, PyTree]:
  """Returns a module's initial variables.

  Args:
    module: the network.
    image_shape: (H, W, C).
    key: one key.
  Returns:
    {'params': ..., 'batch_stats': ...}; the latter is {} without batch norm.
  """
  init = functools.partial(module.init, **_train_argument(module, False))
  # Compiled as a whole. Run eagerly, each operation would be compiled apart.
  variables = jax.jit(init)(key, jnp.zeros((1, *image_shape)))
  return {'batch_stats': {}, **variables}


def variables_like(
  module: nn.Module, image_shape: tuple[int, ...]
) -> dict[str, PyTree]:
  """Returns the shapes and types of a module's variables."""
  return jax.eval_shape(
    lambda key: init_variables(module, image_shape, key), jax.random.key(0)
  )


def feature_shapes(
  module: nn.Module, image_shape: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
  """Returns the shape of each feature without the batch, in order of depth.

  Without `module.feature_names`, it is the order in which the module returns
  the features.
  """
  returned: list[str] = []

  def forward(key):
    images = jnp.zeros((1, *image_shape))
    output, _ = module.init_with_output(
      key, images, **_train_argument(module, False)
    )
    _, features = _with_features(output)
    returned.extend(features)  # JAX sorts the names of what it returns.
    return features

  features = jax.eval_shape(forward, jax.random.key(0))
  names = module.feature_names or returned
  return {name: features[name].shape[1:] for name in names}
