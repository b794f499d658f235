"""Equinox modules as pure functions of their variables.

This file is imported only if the user's file has imported Equinox.
"""

from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp

from kd_jax.models.pure_networks import (
  FunctionError,
  Parts,
  call_arguments,
  with_features,
)

PyTree = Any


def split(made: Any) -> Parts:
  """Takes an Equinox module apart into its variables and a pure function.

  Args:
    made: a module, or (module, state) as `equinox.nn.make_with_state` returns.
  """
  import equinox as eqx

  if isinstance(made, tuple):
    module, state = made
  else:
    module, state = eqx.nn.delete_init_state(made), eqx.nn.State(made)
  forward = _Forward(module, state)
  return Parts(
    forward.collect(module, state),
    forward,
    tuple(getattr(module, 'feature_names', ())),
    forward.call,
  )


class _Forward:
  """The call of an Equinox module as a pure function.

  An Equinox module takes one image, channels first. The function maps the
  module over the batch, as an axis with the name `batch`. It passes each image
  a `key` if the module's `__call__` takes one, and the state if there is one.
  """

  def __init__(self, module: Any, state: Any):
    """Keeps a module's structure, and none of its arrays."""
    import equinox as eqx

    arrays, self._static = eqx.partition((module, state), eqx.is_array)
    flat, self._tree = jax.tree.flatten_with_path(arrays)
    self._names = [_names(path) for path, _ in flat]
    self._is_stateful = bool(jax.tree.leaves(state))
    self._takes_key = 'key' in call_arguments(module)
    taken = ['state'] * self._is_stateful + ['key'] * self._takes_key
    self.call = (
      f'module({", ".join(["image [C, H, W]", *taken])}), mapped over the axis '
      "'batch'"
    )

  def collect(self, module: Any, state: Any) -> dict[str, PyTree]:
    """Returns the variables of a module and its state.

    Args:
      module: a module of the structure that is kept here.
      state: its state.
    Returns:
      'params': the module's arrays of floats. 'batch_stats': its other arrays,
      and the state.
    """
    import equinox as eqx

    leaves = jax.tree.leaves(eqx.filter((module, state), eqx.is_array))
    collections: dict[str, dict[tuple[str, ...], Any]]
    collections = {'params': {}, 'batch_stats': {}}
    for name, leaf in zip(self._names, leaves, strict=True):
      is_trained = name[0] == 'module' and eqx.is_inexact_array(leaf)
      collections['params' if is_trained else 'batch_stats'][name] = leaf
    return {
      name: flax.traverse_util.unflatten_dict(arrays)
      for name, arrays in collections.items()
    }

  def __call__(self, variables, images, *, train: bool, key: jax.Array | None):
    """Returns logits, features by name, and the batch statistics after it."""
    import equinox as eqx

    arrays = {
      **flax.traverse_util.flatten_dict(variables['params']),
      **flax.traverse_util.flatten_dict(variables['batch_stats']),
    }
    leaves = [arrays[name] for name in self._names]
    module, state = eqx.combine(
      jax.tree.unflatten(self._tree, leaves), self._static
    )
    called = eqx.nn.inference_mode(module, value=not train)
    keys = None if key is None else jax.random.split(key, images.shape[0])
    (logits, features), state = jax.vmap(
      lambda image, key: self._call(called, image, state, key),
      in_axes=(0, None if key is None else 0),
      out_axes=(0, None),
      axis_name='batch',
    )(jnp.moveaxis(images, -1, 1), keys)
    return logits, features, self.collect(module, state)['batch_stats']

  def _call(self, module, image, state, key):
    """Calls the module with one image; returns its output and the state."""
    arguments = {'key': key} if self._takes_key else {}
    if not self._is_stateful:
      return with_features(module(image, **arguments)), state
    returned = module(image, state, **arguments)
    if not (isinstance(returned, tuple) and len(returned) == 2):
      raise FunctionError(
        f'the network returned {type(returned).__name__}; expected (logits, '
        'state), or ((logits, features), state)'
      )
    output, state = returned
    return with_features(output), state


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
  """Returns the path of an array in (module, state) as strings."""
  part, *inner = (jax.tree_util.keystr((key,), simple=True) for key in path)
  return ('module', 'state')[int(part)], *inner
