"""The loss that a network trains on, from the terms of several methods.

An objective maps a student's outputs and a batch to named terms, a value for
each example: 'ce', one term for each distillation method, and the cross-entropy
of each method's peer network. `combine` averages and weighs the terms.
Weights, temperature and numeric options of methods are traced, so that a sweep
over them compiles once.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kd_jax import losses, methods
from kd_jax.training.batch import Batch

PyTree = Any
Terms = dict[str, jax.Array]


class Student(NamedTuple):
  """The student in one step.

  Attributes:
    logits: [B, K], of the batch's images.
    features: arrays [B, ...] by layer.
    forward: maps other images [B, H, W, C] to logits [B, K].
    key: the step's key, for methods that draw random numbers.
  """

  logits: jax.Array
  features: dict[str, jax.Array]
  forward: Callable[[jax.Array], jax.Array] | None = None
  key: jax.Array | None = None


class Weights(NamedTuple):
  """The traced numbers of an objective; every leaf is a float32 scalar.

  Attributes:
    ce_weight: the weight of the cross-entropy on labels, a peer's included.
    kd_weight: the weight of all distillation methods together.
    temperature: the temperature of the methods that have one.
    methods: by method, its 'weight' and its numeric options. A missing entry
      means the method's default.
  """

  ce_weight: jax.Array
  kd_weight: jax.Array
  temperature: jax.Array
  methods: Mapping[str, Mapping[str, jax.Array]] = {}

  def discriminator_rate(self, name: str) -> jax.Array:
    """Returns the learning rate of a method's discriminator."""
    options = self.methods.get(name, {})
    default = methods.METHODS[name].discriminator_rate
    return options.get('discriminator_rate', default)

  def weight_of(self, term: str) -> jax.Array:
    """Returns the weight of a term."""
    if term not in methods.METHODS:  # A cross-entropy: the student's, a peer's.
      return self.ce_weight
    options = self.methods.get(term, {})
    return self.kd_weight * options.get('weight', methods.METHODS[term].weight)


class MethodParams(NamedTuple):
  """What methods learn beside the network, by method; {} without.

  Attributes:
    adapters: parameters that minimize the network's loss together with it.
    discriminators: parameters that minimize a loss against the network's, for
      which they are constants.
  """

  adapters: dict[str, PyTree]
  discriminators: dict[str, PyTree]


NO_METHOD_PARAMS = MethodParams({}, {})


class MethodContext(NamedTuple):
  """What methods may need to know of the networks and the images.

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

  num_classes: int
  student_shapes: methods.Shapes
  teacher_shapes: methods.Shapes
  feature_levels: int
  image_range: tuple[jax.Array, jax.Array]
  init_peer: Callable[[jax.Array], PyTree]
  peer_fn: Callable[[PyTree, jax.Array, jax.Array], jax.Array]
  unroll: bool


TermsFn = Callable[[MethodParams, Student, Batch, Weights], Terms]


class Objective(NamedTuple):
  """What a network learns.

  Attributes:
    names: the names of the terms.
    terms: maps (method parameters, student, batch, weights) to the terms, [B]
      each.
    discriminator_names: the names of the methods that have a discriminator.
    discriminator_terms: maps the same arguments to the discriminators' losses.
    init: maps a key to the initial method parameters.
  """

  names: tuple[str, ...]
  terms: TermsFn
  discriminator_names: tuple[str, ...]
  discriminator_terms: TermsFn
  init: Callable[[jax.Array], MethodParams]


def kd_warmup(epoch: int, *, warmup_epochs: int) -> float:
  """Returns the factor on `kd_weight` in an epoch: min(1, epoch / n).

  Args:
    epoch: counted from 0.
    warmup_epochs: n; 0 gives the factor 1 throughout.
  Raises:
    ValueError: if n is below 0.
  Reference: the paper's CIFAR-10 code.
  """
  if warmup_epochs < 0:
    raise ValueError(f'warmup_epochs must be >= 0, got {warmup_epochs}')
  return 1.0 if warmup_epochs == 0 else min(1.0, epoch / warmup_epochs)


def make_objective(
  options: Mapping[str, Mapping[str, Any]],
  *,
  label_smoothing: float = 0.0,
  mixed: bool = False,
  context: MethodContext | None = None,
) -> Objective:
  """Returns the objective of cross-entropy and distillation methods together.

  Args:
    options: by method, the options that shape the program; {} for training on
      labels alone.
    label_smoothing: the smoothing of the cross-entropy on labels.
    mixed: whether batches are mixed by mixup. Each term is then the sum of the
      term on the example's targets and the term on its partner's targets, by
      their shares. For losses that are linear in the target, and for `kl` up to
      a constant, the sum is the loss on the mixed target.
    context: required by methods that take more than logits, labels and mask.
  Raises:
    ValueError: if a method, or a layer in its options, is unknown.
  """
  for name in options:
    if name not in methods.METHODS:
      raise ValueError(
        f'unknown distillation method {name!r}; known: '
        f'{sorted(methods.METHODS)}'
      )
  terms = {
    name: _make_term(name, shaping, context)
    for name, shaping in options.items()
  }
  with_peers = [name for name, term in terms.items() if term.has_peer]
  with_discriminators = {
    name: term
    for name, term in terms.items()
    if methods.METHODS[name].discriminator_loss
  }
  all_terms = functools.partial(_all_terms, terms, label_smoothing, context)

  def discriminator_terms(params, student, batch, weights) -> Terms:
    return {
      name: term.discriminator_loss(params, student, batch, weights)
      for name, term in with_discriminators.items()
    }

  return Objective(
    names=('ce', *terms, *map(peer_term, with_peers)),
    terms=_mix_terms(all_terms) if mixed else all_terms,
    discriminator_names=tuple(with_discriminators),
    discriminator_terms=(
      _mix_terms(discriminator_terms) if mixed else discriminator_terms
    ),
    init=functools.partial(_init_params, terms),
  )


class _Term(NamedTuple):
  """A method with its layers and options bound: see `Objective`."""

  loss: Callable[..., jax.Array]
  discriminator_loss: Callable[..., jax.Array]
  init_adapters: Callable[[jax.Array], PyTree | None]
  init_discriminator: Callable[[jax.Array], PyTree | None]
  has_peer: bool


def _all_terms(
  terms: Mapping[str, _Term],
  label_smoothing: float,
  context: MethodContext | None,
  *arguments,
) -> Terms:
  """Returns the cross-entropy, and the terms of methods and their peers."""
  params, student, batch, weights = arguments
  cross_entropy = lambda logits: losses.cross_entropy(
    logits, batch.labels, label_smoothing=label_smoothing
  )
  values = {'ce': cross_entropy(student.logits)}
  for name, term in terms.items():
    peer_logits = None
    if term.has_peer:
      peer_logits = context.peer_fn(
        params.adapters[name], batch.images, student.key
      )
      values[peer_term(name)] = cross_entropy(peer_logits)
    values[name] = term.loss(
      params, student, batch, weights, peer_logits=peer_logits
    )
  return values


def _init_params(terms: Mapping[str, _Term], key: jax.Array) -> MethodParams:
  """Returns the initial parameters of all methods that have some."""
  keys = jax.random.split(key, max(len(terms), 1))
  adapters, discriminators = {}, {}
  for term_key, (name, term) in zip(keys, terms.items(), strict=False):
    adapters_key, discriminator_key = jax.random.split(term_key)
    adapters[name] = term.init_adapters(adapters_key)
    discriminators[name] = term.init_discriminator(discriminator_key)
  drop_empty = lambda by_name: {
    name: params for name, params in by_name.items() if params is not None
  }
  return MethodParams(drop_empty(adapters), drop_empty(discriminators))


def _make_term(name: str, options, context: MethodContext | None) -> _Term:
  """Binds a method to the layers and options of a config."""
  method, options, pairs = methods.METHODS[name], dict(options), ()
  if method.uses_features:
    pairs = methods.match_layers(
      options.pop('layers', method.layers),
      context.student_shapes,
      context.teacher_shapes,
    )
  call = functools.partial(_call_method, name, options, pairs, context)
  has_peer = 'peer_logits' in method.inputs

  def init(make, key, **fields):
    if make is None:
      return None
    shapes = (
      tuple(context.student_shapes[layer] for layer, _ in pairs),
      tuple(context.teacher_shapes[layer] for _, layer in pairs),
    )
    return make(key, *shapes, **options, **fields)

  def init_discriminator(key):
    if method.init_discriminator is None:
      return None
    return init(method.init_discriminator, key, num_classes=context.num_classes)

  return _Term(
    loss=functools.partial(call, method.fn),
    discriminator_loss=functools.partial(call, method.discriminator_loss),
    init_adapters=(
      context.init_peer if has_peer else functools.partial(init, method.init)
    ),
    init_discriminator=init_discriminator,
    has_peer=has_peer,
  )


def _call_method(
  name: str,
  options: Mapping[str, Any],
  pairs: tuple[tuple[str, str], ...],
  context: MethodContext | None,
  fn: Callable[..., jax.Array],
  *arguments,
  peer_logits: jax.Array | None = None,
) -> jax.Array:
  """Calls a method's function with the inputs that its parameters name.

  Args:
    name: the method.
    options: its options that shape the program.
    pairs: (student layer, teacher layer) that it compares.
    context: of the networks.
    fn: the method's loss, or its discriminator's.
    *arguments: method parameters, student, batch, weights.
    peer_logits: [B, K], for a method with a peer network.
  """
  params, student, batch, weights = arguments
  settings = {**options, **weights.methods.get(name, {})}
  # Functions, so that a method's missing input costs and breaks nothing.
  inputs = {
    'student_logits': lambda: student.logits,
    'teacher_logits': lambda: batch.teacher_logits,
    'labels': lambda: batch.labels,
    'mask': lambda: batch.mask,
    'temperature': lambda: weights.temperature,
    'student_features': lambda: _student_features(student, pairs),
    'teacher_features': lambda: _teacher_features(name, batch, pairs, context),
    'feature_levels': lambda: context.feature_levels,
    'images': lambda: batch.images,
    'image_range': lambda: context.image_range,
    'student_fn': lambda: student.forward,
    'peer_logits': lambda: peer_logits,
    'key': lambda: student.key,
    'unroll': lambda: context.unroll,
    'adapters': lambda: params.adapters.get(name),
    'discriminator': lambda: params.discriminators.get(name),
  }
  arguments = {}
  for parameter in inspect.signature(fn).parameters:
    if parameter in inputs:
      arguments[parameter] = inputs[parameter]()
    elif parameter in settings:
      arguments[parameter] = settings[parameter]
  return fn(**arguments)


def _student_features(
  student: Student, pairs: tuple[tuple[str, str], ...]
) -> tuple[jax.Array, ...]:
  return tuple(
    student.features[layer].astype(jnp.float32) for layer, _ in pairs
  )


def _teacher_features(
  name: str, batch: Batch, pairs, context: MethodContext
) -> tuple[jax.Array, ...]:
  """Returns the teacher's features; rounded ones in units of the largest."""
  rounded = methods.METHODS[name].uses_rounded
  units = context.feature_levels if rounded else 1
  layers = [methods.stored_layer(layer, rounded) for _, layer in pairs]
  return tuple(
    jax.lax.stop_gradient(batch.teacher_features[layer].astype(jnp.float32))
    / units
    for layer in layers
  )


def _mix_terms(terms_fn: TermsFn) -> TermsFn:
  """Returns the terms of a mixed batch: see `make_objective`."""

  def mixed_terms(params, student, batch: Batch, weights: Weights) -> Terms:
    share, partners = batch.mixture
    terms = terms_fn(params, student, batch, weights)
    partner_terms = terms_fn(
      params, student, batch.with_targets(partners), weights
    )
    return {
      name: share * term + (1 - share) * partner_terms[name]
      for name, term in terms.items()
    }

  return mixed_terms


def discriminator_term(name: str) -> str:
  """Returns the name by which a method's discriminator loss is logged."""
  return f'{name}_discriminator'


def peer_term(name: str) -> str:
  """Returns the name by which a method's peer cross-entropy is logged."""
  return f'{name}_peer'


def mean_terms(terms: Terms, mask: jax.Array) -> dict[str, jax.Array]:
  """Averages terms [B] over the examples whose mask is not 0."""
  count = jnp.maximum(jnp.sum(mask), 1)
  # `where`, not a product: a padded row's term may not be finite.
  return {
    name: jnp.sum(jnp.where(mask > 0, term, 0)) / count
    for name, term in terms.items()
  }


def combine(
  terms: Terms, weights: Weights, mask: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Averages terms over a batch and adds them up.

  loss = sum_name weight_name * mean_{masked examples} term_name

  Args:
    terms: [B] each, by name.
    weights: scalars.
    mask: [B], 1 for an example that counts and 0 for padding.
  Returns:
    The scalar loss, and the unweighted mean of each term.
  """
  means = mean_terms(terms, mask)
  loss = sum(weights.weight_of(name) * mean for name, mean in means.items())
  return loss, means
