"""Flax NNX modules as pure functions of their variables."""

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
from flax import nnx

from kd_jax.models.pure_networks import (
  FunctionError,
  Parts,
  call_arguments,
  with_features,
)

PyTree = Any
Path = tuple[str, ...]


def split(module: nnx.Module) -> Parts:
  """Takes an NNX module apart into its variables and a pure function."""
  forward = _Forward(module)
  return Parts(
    forward.collect(module),
    forward,
    tuple(getattr(module, 'feature_names', ())),
    forward.call,
  )


class _Forward:
  """The call of an NNX module as a pure function.

  The function sets the module to training or evaluation (`Module.train`,
  `Module.eval`), gives each of its random streams a key, and passes `train` and
  `rngs` if the module's `__call__` takes them. The features are what the module
  returns beside the logits, then what it sows as `nnx.Intermediate`, in order.
  """

  def __init__(self, module: nnx.Module):
    """Keeps a module's structure, and none of its arrays."""
    self._graph, state = nnx.split(module)
    # The arrays may belong to a trace that ends, so that shapes replace them.
    shapes = nnx.to_flat_state(jax.eval_shape(lambda: state))
    self._leaves = {_names(path): (path, leaf) for path, leaf in shapes}
    self._arguments = call_arguments(module).keys()
    taken = [name for name in ('train', 'rngs') if name in self._arguments]
    self.call = f'module({", ".join(["images [B, H, W, C]", *taken])})'
    _check_attributes(module, {path for path, _ in shapes})

  def collect(self, module: nnx.Module) -> dict[str, PyTree]:
    """Returns the module's variables, without its random streams.

    Args:
      module: a module of the structure that is kept here.
    Returns:
      'params': what is an `nnx.Param`. 'batch_stats': everything else.
    """
    collections: dict[str, dict[Path, Any]] = {'params': {}, 'batch_stats': {}}
    for path, leaf in nnx.to_flat_state(nnx.state(module)):
      name = _names(path)
      if name not in self._leaves or isinstance(leaf, nnx.RngState):
        continue
      collection = 'params' if isinstance(leaf, nnx.Param) else 'batch_stats'
      value = leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf
      collections[collection][name] = value
    return {
      name: flax.traverse_util.unflatten_dict(arrays)
      for name, arrays in collections.items()
    }

  def __call__(self, variables, images, *, train: bool, key: jax.Array | None):
    """Returns logits, features by name, and the batch statistics after it."""
    if key is None:
      # Not random: a module in evaluation ignores the key. The streams are no
      # part of the compiled function, and have untyped keys: jax2onnx knows
      # neither typed keys nor how streams are split, even if nothing uses them.
      with jax.ensure_compile_time_eval():
        key = jax.random.PRNGKey(0)
        streams = self._start_streams(key)
    else:
      streams = self._start_streams(key)
    module = self._merge(variables, streams)
    if train:
      module.train()
    else:
      module.eval()
    arguments: dict[str, Any] = {}
    if 'train' in self._arguments:
      arguments['train'] = train
    if 'rngs' in self._arguments:
      stream_key = jax.random.fold_in(key, len(self._leaves))
      arguments['rngs'] = nnx.Rngs(stream_key)
    with _note_sows() as noted:
      output, sown = nnx.capture(module, nnx.Intermediate)(images, **arguments)
    logits, features = with_features(output)
    batch_stats = self.collect(module)['batch_stats']
    order = _paths_in_order(noted, module)
    return logits, features | _sown_features(sown, order), batch_stats

  def _start_streams(self, key: jax.Array) -> dict[Path, jax.Array]:
    """Returns new random streams by name."""
    return {
      name: _start_stream(leaf, jax.random.fold_in(key, index))
      for index, (name, (_, leaf)) in enumerate(self._leaves.items())
      if isinstance(leaf, nnx.RngState)
    }

  def _merge(
    self, variables: PyTree, streams: dict[Path, jax.Array]
  ) -> nnx.Module:
    """Returns the module with given variables and random streams."""
    arrays = {
      **flax.traverse_util.flatten_dict(variables['params']),
      **flax.traverse_util.flatten_dict(variables['batch_stats']),
      **streams,
    }
    flat = [
      (path, leaf.replace(arrays[name]))
      if isinstance(leaf, nnx.Variable)
      else (path, arrays[name])
      for name, (path, leaf) in self._leaves.items()
    ]
    return nnx.merge(self._graph, nnx.from_flat_state(flat))


def _names(path: tuple[Any, ...]) -> Path:
  """Returns a path as strings; in lists, NNX has numbers."""
  return tuple(map(str, path))


def _check_attributes(module: nnx.Module, known: set[tuple[Any, ...]]) -> None:
  """Checks that NNX knows all arrays of a module.

  If a module is made inside a compiled function, NNX takes an array that is a
  plain attribute for a constant, and the array outlives its trace.
  """
  for path, inner in nnx.iter_modules(module):
    for name, value in vars(inner).items():
      if isinstance(value, jax.core.Tracer) and (*path, name) not in known:
        raise FunctionError(
          f'the attribute {name!r} of {type(inner).__name__} is an array; '
          'expected nnx.Variable(array), or nnx.Param(array) if it is trained'
        )


def _start_stream(leaf: nnx.RngState, key: jax.Array) -> jax.Array:
  """Returns the value of a random stream's key or counter at its start."""
  shape = leaf.get_value().shape
  if not isinstance(leaf, nnx.RngKey):
    return jnp.zeros(shape, leaf.get_value().dtype)
  # A stream that was split for several layers has several keys.
  return jax.random.split(key, shape) if shape else key


class _Sow(NamedTuple):
  """A call of `sow`: the `id` of its module, and the name of its value."""

  module: int
  name: str


# One call at a time notes what is sown.
_notes_sows = threading.RLock()


@contextlib.contextmanager
def _note_sows() -> Iterator[list[_Sow]]:
  """Yields a list to which each call of `nnx.Module.sow` adds itself.

  `nnx.capture` gives the values by name, not in the order of the calls.
  """
  noted: list[_Sow] = []
  sow = nnx.Module.sow

  @functools.wraps(sow)
  def note(self: nnx.Module, variable_type: Any, name: str, *args, **kwargs):
    noted.append(_Sow(id(self), name))
    return sow(self, variable_type, name, *args, **kwargs)

  with _notes_sows:
    nnx.Module.sow = note  # type: ignore[method-assign]
    try:
      yield noted
    finally:
      nnx.Module.sow = sow  # type: ignore[method-assign]


def _paths_in_order(noted: list[_Sow], module: nnx.Module) -> list[Path]:
  """Returns the paths of sown values in the order of their first `sow`.

  Values of modules that a transform of NNX has copied are left out.
  """
  paths = {id(inner): _names(path) for path, inner in nnx.iter_modules(module)}
  found = [
    (*paths[sow.module], sow.name) for sow in noted if sow.module in paths
  ]
  return list(dict.fromkeys(found))


def _sown_features(sown: nnx.State, order: list[Path]) -> dict[str, jax.Array]:
  """Returns sown values by name, such as `block.hidden`.

  The values of a layer that is called several times are `hidden.0`, `hidden.1`
  and so on.

  Args:
    sown: what `nnx.capture` returns.
    order: the paths of the values in order; others come last, by name.
  """
  features: dict[str, jax.Array] = {}
  places = {path: place for place, path in enumerate(order)}
  leaves = sorted(
    nnx.to_flat_state(sown),
    key=lambda item: places.get(_names(item[0]), len(places)),
  )
  for path, leaf in leaves:
    name = '.'.join(_names(path))
    values = leaf.get_value()
    if not isinstance(values, tuple):
      features[name] = values
    elif len(values) == 1:
      features[name] = values[0]
    else:
      features |= {f'{name}.{i}': value for i, value in enumerate(values)}
  return features
