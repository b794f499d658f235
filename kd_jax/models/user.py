"""Networks of the user's own, by the name of a function that gives them.

`package.module:function` in the place of a model's kind is a function of K that
returns a Flax module; as a teacher's module, it is a function without arguments
that returns an apply function and its variables, of Flax, plain JAX or anything
that computes with JAX.
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

PyTree = Any
Features = dict[str, jax.Array]


class NotFound(ValueError):
  """There is no such function, or it does not return what it should."""


def is_name(kind: str) -> bool:
  """Whether a model's kind names a function of the user's."""
  return ':' in kind


@functools.cache
def function(name: str) -> Callable[..., Any]:
  """Returns the function that `package.module:function` names.

  Raises:
    NotFound: if it is not there.
  """
  module, _, attribute = name.partition(':')
  try:
    # Which importlib would take as relative to a package that there is not.
    if module.startswith('.'):
      raise ImportError(f'{module!r} is no package')
    found = getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError, ValueError) as error:
    raise NotFound(
      f'{error}; expected package.module:function, of a package that Python '
      'finds from here'
    ) from None
  except Exception as error:  # It is the user's code.
    raise NotFound(f'{type(error).__name__}: {error}') from error
  if not callable(found):
    raise NotFound(f'{attribute} is no function')
  return found


def source(name: str) -> str:
  """Returns what the function that a name names is made of: a digest (hex).

  It is of the file of the module, and of that where the function is defined, so
  that what was trained by an earlier state of them is known to be.
  """
  named = importlib.import_module(name.partition(':')[0])
  defined = inspect.getmodule(function(name))
  paths = [getattr(module, '__file__', None) for module in (named, defined)]
  content = [pathlib.Path(path).read_bytes() for path in filter(None, paths)]
  return hashlib.sha256(b''.join(dict.fromkeys(content))).hexdigest()


def _with_features(output: Any) -> tuple[jax.Array, Features]:
  return output if isinstance(output, tuple) else (output, {})


class Own(nn.Module):
  """A Flax module of the user's, called as ours are.

  Attributes:
    inner: (images [B, H, W, C] float32, *, train) -> logits [B, K], or logits
      and features by name. With features, its `feature_names` give their order.
  """

  inner: nn.Module

  @property
  def feature_names(self) -> tuple[str, ...]:
    """Names of the features, in the order of depth."""
    return tuple(getattr(self.inner, 'feature_names', ()))

  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> tuple[jax.Array, Features]:
    """Args: images [B, ...] float. Returns: logits [B, K] and features."""
    return _with_features(self.inner(images, train=train))


def module(name: str, num_classes: int) -> Own:
  """Returns the Flax module that a function of the user's gives for K classes.

  Raises:
    NotFound: if it gives something else.
  """
  inner = function(name)(num_classes)
  if not isinstance(inner, nn.Module):
    raise NotFound(
      f'returned {type(inner).__name__}; expected a Flax module (flax.linen)'
    )
  return Own(inner)


class Trained:
  """A trained network of the user's, called as a Flax module is.

  Attributes:
    variables: of it.
    feature_names: there are none.
  """

  feature_names = ()

  def __init__(self, apply: Callable[..., Any], params: PyTree):
    """Args: apply: (params, images [B, H, W, C] float32) -> logits [B, K]."""
    self._apply = apply
    self.variables = {'params': params, 'batch_stats': {}}

  def init(self, key: jax.Array, images: jax.Array, *, train: bool) -> PyTree:
    """Returns its variables: it is trained."""
    del key, images, train
    return self.variables

  def apply(
    self, variables: PyTree, images: jax.Array, *, train: bool, rngs=None
  ) -> tuple[jax.Array, Features]:
    """Returns logits [B, K], and no features."""
    del train, rngs
    return self._apply(variables['params'], images), {}

  def init_with_output(self, key, images, *, train: bool):
    """As Flax modules have it."""
    variables = self.init(key, images, train=train)
    return self.apply(variables, images, train=train), variables


@functools.cache
def trained(name: str) -> Trained:
  """Returns the trained network that a function of the user's gives.

  Raises:
    NotFound: if it gives something else.
  """
  given = function(name)()
  if not (isinstance(given, tuple) and len(given) == 2 and callable(given[0])):
    raise NotFound(
      f'returned {type(given).__name__}; expected (apply, variables), where '
      'apply(variables, images) gives logits'
    )
  return Trained(*given)
