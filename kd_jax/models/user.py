"""Networks that a user defines, found by the name of a function.

The name is `package.module:function`. As the `kind` of a model, it names a
function of the number of classes that returns an untrained network: a module of
Flax Linen, Flax NNX or Equinox, or an object with the pure functions `init` and
`apply`. As the `module` of a teacher, it names a function without arguments
that returns a trained network: such a module, or (apply, variables).
"""

import functools
import hashlib
import importlib
import inspect
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from kd_jax.models import apply, pure_networks
from kd_jax.models.pure_networks import FunctionError, PureNetwork

PyTree = Any
Features = dict[str, jax.Array]
# A function that makes an untrained NNX or Equinox module takes the first or
# the second as an argument.
_RANDOM_ARGUMENTS = {'rngs', 'key'}
# Parameters of every Linen module that are Flax' own.
_OF_FLAX = ('parent', 'name')
_ANY_ARGUMENTS = {
  inspect.Parameter.VAR_POSITIONAL,
  inspect.Parameter.VAR_KEYWORD,
}
_EXPECTED = (
  'expected package.module:function, in a package that Python can import from '
  'the current folder'
)


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
  except ModuleNotFoundError as error:
    missing = error.name or module
    if f'{module}.'.startswith(f'{missing}.'):
      raise FunctionError(f'{error}; {_EXPECTED}') from None
    raise FunctionError(
      f'{module} imports {missing}, which is not installed: pip install '
      f'{missing.partition(".")[0]}, or mend the import'
    ) from None
  except (ImportError, AttributeError, ValueError) as error:
    raise FunctionError(f'{error}; {_EXPECTED}') from None
  # Importing the user's module can raise any exception.
  except Exception as error:
    raise FunctionError(f'{type(error).__name__}: {error}') from error
  if not callable(found):
    raise FunctionError(f'{attribute} is no function')
  return found


def code_digest(name: str) -> str:
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


class UserModule(nn.Module):
  """A user's Flax module with the call signature of this project's networks.

  Attributes:
    inner: the user's module: (images [B, H, W, C] float32) -> logits [B, K], or
      logits and features by name; it gets `train`, a bool, if its `__call__`
      takes it. A module with features lists them from the first layer to the
      last in `feature_names`.
  """

  inner: nn.Module

  @property
  def call(self) -> str:
    """The call of the user's module, for messages."""
    taken = ', train=...' if apply.takes_train(self.inner) else ''
    return f'module(images [B, H, W, C]{taken})'

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
      train: passed to the user's module, if the module takes it.
    """
    taken = {'train': train} if apply.takes_train(self.inner) else {}
    return pure_networks.with_features(self.inner(images, **taken))


def make_module(name: str, num_classes: int) -> UserModule | PureNetwork:
  """Returns the network that a user's function makes for K classes.

  Args:
    name: `package.module:function`; see `call_maker`.
    num_classes: K.
  """
  return call_maker(find_function(name), num_classes)


def call_maker(
  function: Callable[..., Any], num_classes: int
) -> UserModule | PureNetwork:
  """Returns the network that a function makes for K classes.

  Args:
    function: takes the number of classes, and `rngs` (for NNX) or `key` (for
      Equinox) if it makes a module with random initial weights.
    num_classes: K.
  Raises:
    FunctionError: if the function does not take the number of classes alone, if
      it returns no network, or if all seeds would have the same initial
      weights.
  """
  make = _with_classes(function, num_classes)
  random = _signature(function).parameters.keys() & _RANDOM_ARGUMENTS
  if random:
    return pure_networks.from_maker(
      functools.partial(_make_with_key, make, 'rngs' in random), split
    )
  made = make()
  if isinstance(made, nn.Module):
    return UserModule(made)
  if is_module(made):
    raise FunctionError(
      'the function takes no key, so that all seeds would have the same '
      'initial weights: expected a function of (num_classes, *, rngs) for NNX, '
      'or of (num_classes, *, key) for Equinox'
    )
  if not (hasattr(made, 'init') and hasattr(made, 'apply')):
    raise FunctionError(_describe(made))
  return PureNetwork(made.init, made.apply, getattr(made, 'feature_names', ()))


def _with_classes(
  function: Callable[..., Any], num_classes: int
) -> Callable[..., Any]:
  """Binds the number of classes to a function, or to the class of a module.

  The first parameter of a class may be anything, such as a number of units, so
  that a class is asked for by the name of the parameter.

  Raises:
    FunctionError: if the function does not take the number of classes alone.
  """
  name = getattr(function, '__name__', type(function).__name__)
  signature = _signature(function)
  if inspect.isclass(function) and issubclass(function, nn.Module):
    own = [p for n, p in signature.parameters.items() if n not in _OF_FLAX]
    signature = signature.replace(parameters=own)
  given = {key: None for key in _RANDOM_ARGUMENTS & signature.parameters.keys()}
  is_named = inspect.isclass(function) and 'num_classes' in signature.parameters
  positional = () if is_named else (num_classes,)
  named = {'num_classes': num_classes} if is_named else {}
  try:
    signature.bind(*positional, **named, **given)
  except TypeError as error:
    problem = f'it cannot be called with the number of classes alone: {error}'
  else:
    if is_named or not (inspect.isclass(function) and _is_module(function)):
      return functools.partial(function, *positional, **named)
    problem = 'it has no parameter num_classes'
  if not inspect.isclass(function):
    raise FunctionError(f'{name} is a function, and {problem}')
  arguments = ', '.join(
    f'{parameter.name}=...'
    for parameter in signature.parameters.values()
    if parameter.kind not in _ANY_ARGUMENTS
  )
  raise FunctionError(
    f'{name} is a class, and {problem}; expected an instance, such as '
    f'{name}({arguments})'
  )


def _signature(function: Callable[..., Any]) -> inspect.Signature:
  """Returns the signature of a function, or of the `__init__` of a class.

  The metaclass of NNX modules takes any arguments, and Python shows its
  signature instead of that of `__init__`.
  """
  bound = functools.partial(function)  # Joins the arguments of a partial.
  kinds = {p.kind for p in inspect.signature(bound.func).parameters.values()}
  if inspect.isclass(bound.func) and kinds == _ANY_ARGUMENTS:
    init: Callable[..., None] = bound.func.__init__
    bound = functools.partial(init, None, *bound.args, **bound.keywords)
  return inspect.signature(bound)


def _make_with_key(
  make: Callable[..., Any], takes_rngs: bool, key: jax.Array
) -> Any:
  """Calls a user's function with `rngs` or `key`, whichever it takes."""
  if takes_rngs:
    from flax import nnx

    return make(rngs=nnx.Rngs(key))
  return make(key=key)


def _is_module(kind: type) -> bool:
  """Returns whether a class is that of a module of Linen, NNX or Equinox."""
  nnx, equinox = map(sys.modules.get, ('flax.nnx', 'equinox'))
  bases = [
    nn.Module,
    *(library.Module for library in (nnx, equinox) if library),
  ]
  return issubclass(kind, tuple(bases))


def _is_nnx(made: Any) -> bool:
  """Returns whether `made` is an NNX module."""
  nnx = sys.modules.get('flax.nnx')  # Whoever makes a module has imported it.
  return nnx is not None and isinstance(made, nnx.Module)


def _is_equinox(made: Any) -> bool:
  """Returns whether `made` is an Equinox module, or (module, state)."""
  equinox = sys.modules.get('equinox')
  if equinox is None:
    return False
  if isinstance(made, tuple) and len(made) == 2:
    return isinstance(made[1], equinox.nn.State)
  return isinstance(made, equinox.Module)


def is_module(made: Any) -> bool:
  """Returns whether `split` takes what a user's function returns."""
  return _is_nnx(made) or _is_equinox(made)


def split(made: Any) -> pure_networks.Parts:
  """Takes an NNX or Equinox module apart."""
  # NNX takes 0.4 s to import, and Equinox need not be installed.
  if _is_nnx(made):
    from kd_jax.models import nnx_modules

    return nnx_modules.split(made)
  if _is_equinox(made):
    from kd_jax.models import equinox_modules

    return equinox_modules.split(made)
  raise FunctionError(_describe(made))


def _describe(made: Any) -> str:
  """Returns the message for something that is no untrained network."""
  return (
    f'returned {type(made).__name__}; expected a module of Flax Linen from '
    'a function of (num_classes), of Flax NNX from (num_classes, *, rngs), of '
    'Equinox from (num_classes, *, key), or an object with init and apply'
  )


class UserTrainedNetwork(PureNetwork):
  """A user's trained network.

  Attributes:
    variables: {'params': ..., 'batch_stats': ...}.
  """

  def __init__(self, parts: pure_networks.Parts):
    """Wraps a trained network.

    Args:
      parts: the network, taken apart.
    """
    super().__init__(
      lambda key, images: parts.variables,
      parts.forward,
      parts.feature_names,
      parts.call,
    )
    self.variables = parts.variables


@functools.cache
def load_trained(name: str) -> UserTrainedNetwork:
  """Returns the trained network that a user's function returns.

  Args:
    name: `package.module:function`.
  Raises:
    FunctionError: if the function returns no trained network.
  """
  return as_trained(find_function(name)())


def as_trained(returned: Any) -> UserTrainedNetwork:
  """Returns a trained network from what a user's function returns.

  Args:
    returned: (apply, variables), or a trained module of NNX or Equinox.
  Raises:
    FunctionError: if it is no trained network.
  """
  if is_module(returned):
    return UserTrainedNetwork(split(returned))
  is_pair = isinstance(returned, tuple) and len(returned) == 2
  if not (is_pair and callable(returned[0])):
    raise FunctionError(
      f'{type(returned).__name__} is no trained network; expected (apply, '
      'variables), where apply(variables, images) returns logits, or a trained '
      'module of Flax NNX or Equinox'
    )
  network, params = returned
  if inspect.isclass(network):
    name = network.__name__
    raise FunctionError(
      f'the network is the class {name}; expected an instance, as in '
      f'({name}(), variables)'
    )
  if isinstance(network, nn.Module):
    taken: dict[str, Any] = {}
    if apply.takes_train(network):
      taken = {'train': False}
    network = functools.partial(network.apply, **taken)
  return UserTrainedNetwork(_with_fixed_variables(network, params))


def _with_fixed_variables(
  apply: Callable[..., Any], params: PyTree
) -> pure_networks.Parts:
  """Returns the parts of a network whose variables never change.

  Args:
    apply: maps (params, images [B, H, W, C] float32) to logits [B, K], or to
      (logits, features by name).
    params: the variables that `apply` takes.
  """

  def forward(variables, images, *, train, key):
    del train, key
    output = pure_networks.with_features(apply(variables['params'], images))
    return *output, variables['batch_stats']

  variables = {'params': params, 'batch_stats': {}}
  return pure_networks.Parts(
    variables, forward, call='apply(variables, images [B, H, W, C])'
  )


# The types of the networks that users define.
NETWORKS = (UserModule, PureNetwork)
