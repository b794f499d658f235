"""Networks that a user defines, found by the name of a function.

The name is `package.module:function`. As the `kind` of a model, it names a
function of the number of classes that returns a Flax module. As the `module` of
a teacher, it names a function without arguments that returns a trained network
as (apply, variables). `apply` may be Flax, plain JAX or anything else that
computes with JAX.
"""

import functools
import hashlib
import importlib
import inspect
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

PyTree = Any
Features = dict[str, jax.Array]


class FunctionError(ValueError):
  """A user's function is missing, or returns a wrong type."""


def is_function_name(kind: str) -> bool:
  """Returns whether a model's kind names a user's function."""
  return ':' in kind


@functools.cache
def find_function(name: str) -> Callable[..., Any]:
  """Imports a user's function.

  Args:
    name: `package.module:function`.
  Raises:
    FunctionError: if Python finds no such function, or the import fails.
  """
  module, _, attribute = name.partition(':')
  try:
    # importlib would take the name as relative, and no package is given.
    if module.startswith('.'):
      raise ImportError(f'{module!r} is no package')
    found = getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError, ValueError) as error:
    raise FunctionError(
      f'{error}; expected package.module:function, in a package that Python '
      'can import from the current folder'
    ) from None
  # Importing the user's module can raise any exception.
  except Exception as error:
    raise FunctionError(f'{type(error).__name__}: {error}') from error
  if not callable(found):
    raise FunctionError(f'{attribute} is no function')
  return found


def source_digest(name: str) -> str:
  """Returns a digest (hex) of the source files of a user's function.

  The digest covers the file of the named module and the file that defines the
  function. It tells results that an earlier state of these files has produced.

  Args:
    name: `package.module:function`.
  """
  named = importlib.import_module(name.partition(':')[0])
  defining = inspect.getmodule(find_function(name))
  paths = [getattr(module, '__file__', None) for module in (named, defining)]
  content = [pathlib.Path(path).read_bytes() for path in filter(None, paths)]
  return hashlib.sha256(b''.join(dict.fromkeys(content))).hexdigest()


def _with_features(output: Any) -> tuple[jax.Array, Features]:
  """Returns logits as float32, and features by name.

  Losses and files take float32; .npy files cannot hold bfloat16.
  """
  logits, features = output if isinstance(output, tuple) else (output, {})
  if isinstance(logits, jax.Array):  # The user's code may return anything.
    logits = logits.astype(jnp.float32)
  return logits, features


class UserModule(nn.Module):
  """A user's Flax module with the call signature of this project's networks.

  Attributes:
    inner: the user's module: (images [B, H, W, C] float32, *, train) -> logits
      [B, K], or logits and features by name. A module with features lists
      them from the first layer to the last in `feature_names`.
  """

  inner: nn.Module

  @property
  def feature_names(self) -> tuple[str, ...]:
    """The names of the features, from the first layer to the last."""
    return tuple(getattr(self.inner, 'feature_names', ()))

  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> tuple[jax.Array, Features]:
    """Returns logits [B, K] and features by name; {} without features.

    Args:
      images: [B, ...] float.
      train: passed to the user's module.
    """
    return _with_features(self.inner(images, train=train))


def make_module(name: str, num_classes: int) -> UserModule:
  """Returns the Flax module that a user's function makes for K classes.

  Args:
    name: `package.module:function`.
    num_classes: K.
  Raises:
    FunctionError: if the function does not return a Flax module.
  """
  inner = find_function(name)(num_classes)
  if not isinstance(inner, nn.Module):
    raise FunctionError(
      f'returned {type(inner).__name__}; expected a Flax module (flax.linen)'
    )
  return UserModule(inner)


class TrainedNetwork:
  """A user's trained network, with the interface of a Flax module.

  Attributes:
    variables: {'params': the user's variables, 'batch_stats': {}}.
    feature_names: (); the network has no features.
  """

  feature_names = ()

  def __init__(self, apply: Callable[..., Any], params: PyTree):
    """Wraps a function and its variables.

    Args:
      apply: (params, images [B, H, W, C] float32) -> logits [B, K].
      params: the variables that `apply` takes.
    """
    self._apply = apply
    self.variables = {'params': params, 'batch_stats': {}}

  def init(self, key: jax.Array, images: jax.Array, *, train: bool) -> PyTree:
    """Returns the trained variables; all arguments are ignored."""
    del key, images, train
    return self.variables

  def apply(
    self, variables: PyTree, images: jax.Array, *, train: bool, rngs=None
  ) -> tuple[jax.Array, Features]:
    """Returns logits [B, K], and {} for the features."""
    del train, rngs
    return _with_features(self._apply(variables['params'], images))[0], {}

  def init_with_output(self, key, images, *, train: bool):
    """Returns the network's output and its variables, as Flax modules do."""
    variables = self.init(key, images, train=train)
    return self.apply(variables, images, train=train), variables


@functools.cache
def load_trained(name: str) -> TrainedNetwork:
  """Returns the trained network that a user's function returns.

  Args:
    name: `package.module:function`.
  Raises:
    FunctionError: if the function does not return (apply, variables).
  """
  returned = find_function(name)()
  is_pair = isinstance(returned, tuple) and len(returned) == 2
  if not (is_pair and callable(returned[0])):
    raise FunctionError(
      f'returned {type(returned).__name__}; expected (apply, variables), where '
      'apply(variables, images) returns logits'
    )
  return TrainedNetwork(*returned)
