"""Networks of pure functions, called in the way that Linen modules are called.

A `PureNetwork` makes two pure functions, `init` and `forward`, look like a Flax
Linen module, so that training, checkpoints, exports and benchmarks treat all
networks alike. nnx_modules.py and equinox_modules.py turn modules into such
functions.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any
# Maps (variables, images, *, train, key) to (logits, features, batch_stats),
# see apply.py.
Forward = Callable[..., tuple[Any, Mapping[str, Any], PyTree]]


class FunctionError(ValueError):
  """A user's function is missing, or returns a wrong type."""


def with_features(output: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns a network's logits as float32, and its features by name.

  Losses and files take float32; .npy files cannot hold bfloat16.

  Args:
    output: logits, or (logits, features by name).
  Raises:
    FunctionError: if the output is a tuple of anything else.
  """
  logits = output
  features: Mapping[str, Any] = {}
  if isinstance(output, tuple):
    if len(output) != 2 or not isinstance(output[1], Mapping):
      kinds = ', '.join(type(part).__name__ for part in output)
      raise FunctionError(
        f'the network returned ({kinds}); expected logits, or (logits, '
        'features), where features is a dictionary'
      )
    logits, features = output
  if isinstance(logits, jax.Array):  # The user's code may return anything.
    logits = logits.astype(jnp.float32)
  return logits, dict(features)


class Parts(NamedTuple):
  """A module, taken apart.

  Attributes:
    variables: {'params': ..., 'batch_stats': ...}, nested dictionaries.
      'batch_stats' holds all arrays that are not trained.
    forward: the module's call as a pure function. It holds no arrays of the
      module.
    feature_names: the names of the features from the first layer to the last;
      () if the order in which the module returns them is their order.
    call: how `forward` calls the module, for messages.
  """

  variables: dict[str, PyTree]
  forward: Forward
  feature_names: tuple[str, ...] = ()
  call: str = ''


class PureNetwork:
  """A network of pure functions, with the interface of a Linen module.

  Attributes:
    feature_names: the names of the features from the first layer to the last;
      () if the order in which the network returns them is their order.
    call: how the network calls the user's code, for messages.
  """

  def __init__(
    self,
    init: Callable[[jax.Array, jax.Array], PyTree],
    forward: Forward,
    feature_names: Iterable[str] = (),
    call: str = 'apply(variables, images, train=..., key=...)',
  ):
    """Wraps two functions.

    Args:
      init: (key, images) -> {'params': ..., 'batch_stats': ...}.
      forward: (variables, images, *, train, key) -> (logits, features by name,
        batch_stats after the call).
      feature_names: see the class.
      call: see the class.
    """
    self._init = init
    self._forward = forward
    self.feature_names = tuple(feature_names)
    self.call = call

  def init(self, key: jax.Array, images: jax.Array, *, train: bool) -> PyTree:
    """Returns the initial variables."""
    del train
    return {'batch_stats': {}, **self._init(key, images)}

  def apply(
    self,
    variables: PyTree,
    images: jax.Array,
    *,
    train: bool,
    rngs: Mapping[str, jax.Array] | None = None,
    mutable: Iterable[str] = (),
  ) -> Any:
    """Returns (logits [B, K], features by name).

    Args:
      variables: {'params': ..., 'batch_stats': ...}.
      images: [B, H, W, C] float32.
      train: whether dropout is on and batch statistics are updated.
      rngs: {'dropout': key}; None unless `train`.
      mutable: the collections to return beside the output; 'batch_stats' is the
        only one that changes.
    """
    key = rngs['dropout'] if rngs else None
    returned = self._forward(variables, images, train=train, key=key)
    if not (isinstance(returned, tuple) and len(returned) == 3):
      raise FunctionError(
        f'apply returned {type(returned).__name__}; expected (logits, features '
        'by name, batch_stats)'
      )
    logits, features, batch_stats = returned
    output = with_features((logits, features))
    return (output, {'batch_stats': batch_stats}) if mutable else output

  def init_with_output(self, key: jax.Array, images: jax.Array, *, train: bool):
    """Returns the network's output and its variables, as Linen modules do."""
    variables = self.init(key, images, train=train)
    rngs = {'dropout': key} if train else None
    return self.apply(variables, images, train=train, rngs=rngs), variables


def from_maker(
  make: Callable[[jax.Array], Any], split: Callable[[Any], Parts]
) -> PureNetwork:
  """Returns the network of a function that makes a module.

  Args:
    make: maps a key to the module.
    split: takes the module apart.
  """
  kept: list[Parts] = []

  def init(key):
    parts = split(make(key))
    kept.append(parts)
    return parts.variables

  jax.eval_shape(init, jax.random.key(0))  # Traces the module once.
  return PureNetwork(
    lambda key, images: split(make(key)).variables, *kept[0][1:]
  )


def call_arguments(module: Any) -> Mapping[str, inspect.Parameter]:
  """Returns the parameters of a module's `__call__` by name."""
  return inspect.signature(type(module).__call__).parameters
