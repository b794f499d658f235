"""Gives names to network objects, so that a config can name them.

A config names a user's network as `package.module:function`. An object, such as
a module that was made in a notebook, has no such name. `register` gives it one:
an attribute of this module, for as long as the process lives.
"""

import hashlib
import inspect
import re
import types
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_jax.models import apply, user
from kd_jax.models.pure_networks import FunctionError

PyTree = Any

_functions: dict[str, Callable[..., Any]] = {}


def __getattr__(name: str) -> Callable[..., Any]:
  if name in _functions:
    return _functions[name]
  raise AttributeError(
    f'the network {name} was given as an object in another process: make the '
    'object again, or name it as package.module:function'
  )


def register_student(
  model: Any, num_classes: int, image_shape: tuple[int, ...]
) -> str:
  """Returns the name of an untrained network.

  The name depends on what the network computes, so that a stopped training goes
  on if an equal object is given again.

  Args:
    model: a module of Linen, NNX or Equinox, an object with `init` and `apply`,
      or a function that returns one (see `user.call_maker`).
    num_classes: K.
    image_shape: (H, W, C).
  Raises:
    FunctionError: if it is no network.
  """
  function = _as_maker(model)
  # Users' networks have the interface of a Flax module.
  module: Any = user.call_maker(function, num_classes)
  variables = apply.variables_like(module, image_shape)
  init = lambda key: apply.init_variables(module, image_shape, key)
  programs = [_program(init, jax.random.key(0))]
  programs += _forward_programs(module, variables, image_shape)
  return _register(function, _label(model), programs)


def register_teacher(network: Any, image_shape: tuple[int, ...]) -> str:
  """Returns the name of a trained network.

  Args:
    network: (apply, variables), or a trained module of NNX or Equinox.
    image_shape: (H, W, C).
  Raises:
    FunctionError: if it is no trained network.
  """
  trained = user.as_trained(network)
  # Its digest is part of what determines outputs, so that the weights need not
  # be part of the name: `find_function` keeps a function for each name.
  values = [
    hashlib.sha256(jnp.asarray(leaf).tobytes()).hexdigest()
    for leaf in jax.tree.leaves(trained.variables)
  ]
  programs = _forward_programs(trained, trained.variables, image_shape)
  label = _label(network[0] if isinstance(network, tuple) else network)
  return _register(lambda: network, label, [*values, *programs])


def _as_maker(model: Any) -> Callable[..., Any]:
  """Returns a function of the number of classes that returns a network."""
  is_object = isinstance(model, nn.Module) or hasattr(model, 'init')
  if is_object and not inspect.isclass(model):
    return lambda num_classes: model
  if user.is_module(model):
    # It is where the training starts, for every seed.
    parts = user.split(model)
    network = types.SimpleNamespace(
      init=lambda key, images: parts.variables,
      apply=parts.forward,
      feature_names=parts.feature_names,
    )
    return lambda num_classes: network
  if callable(model):
    return model
  raise FunctionError(
    f'it is of type {type(model).__name__}; expected a module of Flax Linen, '
    'Flax NNX or Equinox, an object with init and apply, or a function of the '
    'number of classes that returns one'
  )


def _register(
  function: Callable[..., Any], label: str, contents: list[str]
) -> str:
  digest = hashlib.sha256('\n'.join(contents).encode()).hexdigest()
  name = f'{label}_{digest[:12]}'
  _functions[name] = function
  return f'{__name__}:{name}'


def _label(model: Any) -> str:
  """Returns the name of a function, or of an object's type."""
  name = getattr(model, '__name__', type(model).__name__)
  return re.sub(r'\W', '', name) or 'network'


def _forward_programs(
  module: Any, variables: PyTree, image_shape: tuple[int, ...]
) -> list[str]:
  """Returns the programs of a network's call, in evaluation and in training."""
  images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
  forward = apply.make_apply(module)
  return [
    _program(
      lambda variables, images, train=train: forward(
        variables,
        images,
        train=train,
        key=jax.random.key(0) if train else None,
      ),
      variables,
      images,
    )
    for train in (False, True)
  ]


def _program(fn: Callable[..., Any], *args: Any) -> str:
  """Returns the compiler's input for a function, with all constants."""
  return jax.jit(fn).lower(*args).as_text()
