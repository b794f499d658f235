"""A distillation method with its layers and options, as a term of a loss."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kd_jax import methods
from kd_jax.methods import vectors
from kd_jax.training.batch import Batch
from kd_jax.training.hyperparameters import Hyperparameters

PyTree = Any


class StudentOutputs(NamedTuple):
  """The student in one step.

  Attributes:
    logits: [B, K], of the batch's images.
    features: arrays [B, ...] by layer.
    forward: maps other images [B, H, W, C] to logits [B, K].
    key: a key of this step, for methods that draw random numbers.
  """

  logits: jax.Array
  features: dict[str, jax.Array]
  forward: Callable[[jax.Array], jax.Array] | None = None
  key: jax.Array | None = None


class MethodParams(NamedTuple):
  """The parameters that methods learn beside the network; {} without.

  Attributes:
    adapters: parameters that minimize the network's loss together with it.
    discriminators: parameters that minimize a loss against the network's, for
      which they are constants.
  """

  adapters: dict[str, PyTree]
  discriminators: dict[str, PyTree]


NO_METHOD_PARAMS = MethodParams({}, {})


class TermInputs(NamedTuple):
  """The inputs of the terms of a loss, in one step.

  Attributes:
    params: the parameters of the methods.
    student: the student's outputs.
    batch: images, targets and the teacher's outputs.
    hyperparameters: the weights and numeric options of the methods.
    peer_logits: [B, K], of the method's peer network; None without.
  """

  params: MethodParams
  student: StudentOutputs
  batch: Batch
  hyperparameters: Hyperparameters
  peer_logits: jax.Array | None = None


class MethodSetup(NamedTuple):
  """The networks and images that methods compare.

  Methods that take logits, labels and mask alone use none of it: the defaults
  are for them.

  Attributes:
    num_classes: K.
    student_shapes: shapes of the student's features without the batch, by
      layer, in order of depth.
    teacher_shapes: shapes of the teacher's features.
    feature_levels: the number of levels above 0 of rounded teacher features.
    image_range: the lowest and the highest values of scaled images,
      [1, 1, 1, C] each.
    init_peer: maps a key to the parameters of a second network of the
      student's kind.
    peer_fn: maps (peer parameters, images, key) to the peer's logits [B, K] in
      training.
    unroll: whether loops are best written out.
  """

  num_classes: int = 0
  student_shapes: methods.Shapes = {}
  teacher_shapes: methods.Shapes = {}
  feature_levels: int = 0
  image_range: tuple[jax.Array, jax.Array] | None = None
  init_peer: Callable[[jax.Array], PyTree] | None = None
  peer_fn: Callable[..., jax.Array] | None = None
  unroll: bool = False


class MethodTerm(NamedTuple):
  """A method with its layers and options bound.

  Attributes:
    loss: maps `TermInputs` to [B].
    discriminator_loss: maps `TermInputs` to the discriminator's loss [B].
    init_adapters: maps a key to the adapters, or None without; a peer's
      parameters are adapters.
    init_discriminator: maps a key to the discriminator, or None without.
    has_peer: whether the method takes a peer's logits.
  """

  loss: Callable[..., jax.Array]
  discriminator_loss: Callable[..., jax.Array]
  init_adapters: Callable[[jax.Array], PyTree | None]
  init_discriminator: Callable[[jax.Array], PyTree | None]
  has_peer: bool


def make_term(
  name: str, options: Mapping[str, Any], setup: MethodSetup
) -> MethodTerm:
  """Binds a method to its layers and static options.

  Args:
    name: the method.
    options: its static options.
    setup: the networks and images that it compares.
  """
  method = methods.METHODS[name]
  options = dict(options)
  pairs: tuple[tuple[str, str], ...] = ()
  if method.uses_features:
    pairs = methods.match_layers(
      options.pop('layers', method.layers),
      setup.student_shapes,
      setup.teacher_shapes,
    )
  call = functools.partial(_call_method, name, options, pairs, setup)
  has_peer = 'peer_logits' in method.inputs

  def init(make, key, **fields):
    if make is None:
      return None
    shapes = (
      tuple(setup.student_shapes[layer] for layer, _ in pairs),
      tuple(setup.teacher_shapes[layer] for _, layer in pairs),
    )
    return make(key, *shapes, **options, **fields)

  def init_discriminator(key):
    if method.init_discriminator is None:
      return None
    return init(method.init_discriminator, key, num_classes=setup.num_classes)

  init_adapters: Callable[[jax.Array], PyTree | None]
  init_adapters = functools.partial(init, method.init)
  if has_peer:
    assert setup.init_peer is not None
    init_adapters = setup.init_peer
  return MethodTerm(
    loss=functools.partial(call, method.fn),
    discriminator_loss=functools.partial(call, method.discriminator_loss),
    init_adapters=init_adapters,
    init_discriminator=init_discriminator,
    has_peer=has_peer,
  )


def _call_method(
  name: str,
  options: Mapping[str, Any],
  pairs: tuple[tuple[str, str], ...],
  setup: MethodSetup,
  fn: Callable[..., jax.Array],
  term_inputs: TermInputs,
) -> jax.Array:
  """Calls a method's function with the inputs that its parameters name.

  Args:
    name: the method.
    options: its static options.
    pairs: (student layer, teacher layer) that it compares.
    setup: the networks and images that it compares.
    fn: the method's loss, or its discriminator's.
    term_inputs: the inputs of the step.
  """
  params, student, batch, hyperparameters, peer_logits = term_inputs
  options = {**options, **hyperparameters.methods.get(name, {})}
  parameters = inspect.signature(fn).parameters
  if 'mask' not in parameters:
    batch = _without_padding(batch)
  # Each entry is a function: an input that the method does not take is never
  # computed, and may be missing.
  inputs: dict[str, Callable[[], Any]] = {
    'student_logits': lambda: student.logits,
    'teacher_logits': lambda: batch.teacher_logits,
    'labels': lambda: batch.labels,
    'mask': lambda: batch.mask,
    'temperature': lambda: hyperparameters.temperature,
    'student_features': lambda: _student_features(student, pairs),
    'teacher_features': lambda: _teacher_features(
      name, batch, pairs, setup.feature_levels
    ),
    'feature_levels': lambda: setup.feature_levels,
    'images': lambda: batch.images,
    'image_range': lambda: setup.image_range,
    'student_fn': lambda: student.forward,
    'peer_logits': lambda: peer_logits,
    'key': lambda: student.key,
    'unroll': lambda: setup.unroll,
    'adapters': lambda: params.adapters.get(name),
    'discriminator': lambda: params.discriminators.get(name),
  }
  chosen = {}
  for parameter in parameters:
    if parameter in inputs:
      chosen[parameter] = inputs[parameter]()
    elif parameter in options:
      chosen[parameter] = options[parameter]
  loss = fn(**chosen)
  _check_loss(loss, student.logits.shape[0], f'{name} ({fn.__name__})')
  return loss


def _check_loss(loss: Any, num_examples: int, name: str) -> None:
  """Raises a ValueError unless a method returned the loss of each example."""
  # The user's code may return anything, such as a Python number.
  shape, came = None, type(loss).__name__
  if hasattr(loss, 'shape') and hasattr(loss, 'dtype'):
    shape, came = loss.shape, f'{loss.dtype} {list(loss.shape)}'
    is_float = jnp.issubdtype(loss.dtype, jnp.floating)
    if shape == (num_examples,) and is_float:
      return
  mend = ''
  if shape == () or isinstance(loss, int | float):
    mend = ': leave out the mean or the sum over the batch'
  elif shape is not None and len(shape) > 1 and shape[0] == num_examples:
    mend = ': average over all axes except the first'
  raise ValueError(
    f'the method {name} returned {came}; expected the loss of each example, '
    f'float [{num_examples}]{mend}'
  )


def _without_padding(batch: Batch) -> Batch:
  """Sets the teacher's outputs for padding to 0, in case they are not finite.

  Otherwise the student's gradient at padding would be 0 times NaN.
  """
  logits, features = jax.tree.map(
    lambda x: vectors.without_padding(x, batch.mask),
    (batch.teacher_logits, batch.teacher_features),
  )
  return batch._replace(teacher_logits=logits, teacher_features=features)


def _student_features(
  student: StudentOutputs, pairs: tuple[tuple[str, str], ...]
) -> tuple[jax.Array, ...]:
  return tuple(
    student.features[layer].astype(jnp.float32) for layer, _ in pairs
  )


def _teacher_features(
  name: str, batch: Batch, pairs, feature_levels: int
) -> tuple[jax.Array, ...]:
  """Returns the teacher's features; rounded ones in units of the largest."""
  rounded = methods.METHODS[name].uses_rounded
  units = feature_levels if rounded else 1
  layers = [methods.stored_layer(layer, rounded) for _, layer in pairs]
  features = batch.teacher_features
  assert features is not None
  return tuple(
    jax.lax.stop_gradient(features[layer].astype(jnp.float32)) / units
    for layer in layers
  )
