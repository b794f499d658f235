"""From per-example terms to one scalar: the weights of methods, schedules.

An objective maps a student's outputs and a batch to named per-example terms:
'ce', one of each distillation method, and the cross-entropy of each method's
peer. `combine` weighs and averages them.
Weights, temperature and the options of methods are traced, so a sweep over
them compiles once.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kd_jax import losses, methods

PyTree = Any
Batch = dict[str, jax.Array]
Terms = dict[str, jax.Array]


class Outputs(NamedTuple):
  """What a network returns: logits [B, K] and features by name, [B, ...]."""

  logits: jax.Array
  features: dict[str, jax.Array]


class Weights(NamedTuple):
  """What scales an objective; every leaf a float32 scalar.

  Attributes:
    ce_weight: of the cross-entropy on labels, a peer's as well.
    kd_weight: of all distillation methods together.
    temperature: of those that have one.
    methods: of each method by name, 'weight' and the options that are numbers;
      what is not there has the method's default.
  """

  ce_weight: jax.Array
  kd_weight: jax.Array
  temperature: jax.Array
  methods: Mapping[str, Mapping[str, jax.Array]] = {}

  def rival_rate(self, name: str) -> jax.Array:
    """Returns the learning rate of a method's rival."""
    own = self.methods.get(name, {})
    return own.get(
      'discriminator_rate', methods.METHODS[name].discriminator_rate
    )

  def of(self, term: str) -> jax.Array:
    """Returns the weight of a term."""
    if term not in methods.METHODS:  # The cross-entropy, or a peer's.
      return self.ce_weight
    own = self.methods.get(term, {})
    return self.kd_weight * own.get('weight', methods.METHODS[term].weight)


class Learned(NamedTuple):
  """What methods learn beside the network, by method; {} without.

  Attributes:
    adapters: with the network, for the same loss.
    rivals: for their own losses; constants for the network's.
  """

  adapters: dict[str, PyTree]
  rivals: dict[str, PyTree]


class Task(NamedTuple):
  """What some methods need to know of the networks and the images.

  Attributes:
    num_classes: K.
    student_shapes: of the student's features without the batch, in the order
      of depth.
    teacher_shapes: of the teacher's, likewise. Batches of methods that use
      features hold 'teacher_features', by name, those of methods that take them
      rounded as whole numbers, see `methods.stored_layer`.
    feature_levels: how many levels above 0 the latter have.
    image_range: lowest and highest values of images as the student takes them,
      [1, 1, 1, C] each.
    init_peer: key -> parameters of a network of the student's kind.
    peer_fn: (these, images, key) -> its logits [B, K] as it trains.
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


class Objective(NamedTuple):
  """What a network learns.

  Attributes:
    names: of the terms.
    fn: (learned, student Outputs, batch, weights) -> terms, [B] each.
    rival_names: of the rivals' terms.
    rival_fn: likewise to the rivals' terms.
    init: key -> Learned.
  """

  names: tuple[str, ...]
  fn: Callable[[Learned, Outputs, Batch, Weights], Terms]
  rival_names: tuple[str, ...]
  rival_fn: Callable[[Learned, Outputs, Batch, Weights], Terms]
  init: Callable[[jax.Array], Learned]


def kd_warmup(epoch: int, *, warmup_epochs: int) -> float:
  """Factor on `kd_weight` in an epoch counted from 0: min(1, epoch / n).

  0 epochs of warm-up give 1 throughout. Reference: the paper's CIFAR-10 code.
  """
  if warmup_epochs < 0:
    raise ValueError(f'warmup_epochs must be >= 0, got {warmup_epochs}')
  return 1.0 if warmup_epochs == 0 else min(1.0, epoch / warmup_epochs)


def make_objective(
  options: Mapping[str, Mapping[str, Any]],
  *,
  label_smoothing: float = 0.0,
  mixed: bool = False,
  task: Task | None = None,
) -> Objective:
  """Returns the objective of some distillation methods together.

  Args:
    options: by name in METHODS, the options of each method that shape the
      program; {} for the objective of ordinary training.
    label_smoothing: of the cross-entropy term.
    mixed: whether batches are of `augment.mixup`. Each term is then that on an
      example's targets and that on its partner's, by their shares: for losses
      linear in the target, and for `kl` but for a constant, the one on the
      mixture of the two.
    task: for methods that take more than logits, labels and a mask.
  Raises:
    ValueError: if a method is unknown, or a layer of its options.
  """
  for name in options:
    if name not in methods.METHODS:
      raise ValueError(
        f'unknown distillation method {name!r}; known: '
        f'{sorted(methods.METHODS)}'
      )
  terms = {name: _make_term(name, own, task) for name, own in options.items()}
  with_peers = [name for name, term in terms.items() if term.has_peer]
  with_rivals = {
    name: term
    for name, term in terms.items()
    if methods.METHODS[name].discriminator_loss
  }

  def fn(learned: Learned, student, batch: Batch, weights: Weights) -> Terms:
    cross_entropy = lambda logits: losses.cross_entropy(
      logits, batch['labels'], label_smoothing=label_smoothing
    )
    values = {'ce': cross_entropy(student.logits)}
    for name, term in terms.items():
      own = batch
      if term.has_peer:
        peer = task.peer_fn(
          learned.adapters[name], batch['images'], batch['key']
        )
        own = batch | {'peer_logits': peer}
        values[peer_term(name)] = cross_entropy(peer)
      values[name] = term.fn(learned, student, own, weights)
    return values

  def rival_fn(learned: Learned, student, batch, weights: Weights) -> Terms:
    return {
      name: term.rival_fn(learned, student, batch, weights)
      for name, term in with_rivals.items()
    }

  def init(key: jax.Array) -> Learned:
    keys = jax.random.split(key, max(len(terms), 1))
    adapters, rivals = {}, {}
    for own_key, (name, term) in zip(keys, terms.items(), strict=False):
      adapters_key, rival_key = jax.random.split(own_key)
      adapters[name] = term.init(adapters_key)
      rivals[name] = term.init_rival(rival_key)
    drop_empty = lambda by_name: {
      name: own for name, own in by_name.items() if own is not None
    }
    return Learned(drop_empty(adapters), drop_empty(rivals))

  return Objective(
    ('ce', *terms, *map(peer_term, with_peers)),
    _mix_terms(fn) if mixed else fn,
    tuple(with_rivals),
    _mix_terms(rival_fn) if mixed else rival_fn,
    init,
  )


class _Term(NamedTuple):
  """A method with its layers and options: see `Objective`."""

  fn: Callable[..., jax.Array]
  rival_fn: Callable[..., jax.Array]
  init: Callable[[jax.Array], PyTree | None]
  init_rival: Callable[[jax.Array], PyTree | None]
  has_peer: bool


def _make_term(name: str, options, task: Task | None) -> _Term:
  method, options, pairs = methods.METHODS[name], dict(options), ()
  if method.uses_features:
    layers = options.pop('layers', method.layers)
    pairs = methods.match_layers(
      layers, task.student_shapes, task.teacher_shapes
    )

  def features(by_name, layers):
    return tuple(by_name[layer].astype(jnp.float32) for layer in layers)

  def teacher_features(by_name):
    rounded = method.uses_rounded
    layers = [methods.stored_layer(other, rounded) for _, other in pairs]
    units = task.feature_levels if rounded else 1
    return tuple(
      jax.lax.stop_gradient(x) / units for x in features(by_name, layers)
    )

  def call(fn, learned: Learned, student: Outputs, batch, weights: Weights):
    available = {
      'student_logits': lambda: student.logits,
      'student_features': lambda: features(
        student.features, [own for own, _ in pairs]
      ),
      'teacher_features': lambda: teacher_features(batch['teacher_features']),
      'feature_levels': lambda: task.feature_levels,
      'temperature': lambda: weights.temperature,
      'image_range': lambda: task.image_range,
      'unroll': lambda: task.unroll,
      'adapters': lambda: learned.adapters.get(name),
      'discriminator': lambda: learned.rivals.get(name),
    }
    settings = {**options, **weights.methods.get(name, {})}
    arguments = {}
    for parameter in inspect.signature(fn).parameters:
      if parameter in available:
        arguments[parameter] = available[parameter]()
      elif parameter in methods.INPUTS:
        arguments[parameter] = batch[parameter]
      elif parameter in settings:
        arguments[parameter] = settings[parameter]
    return fn(**arguments)

  def init(key: jax.Array, make=method.init, **fields):
    if make is None:
      return None
    shapes = (
      tuple(task.student_shapes[own] for own, _ in pairs),
      tuple(task.teacher_shapes[other] for _, other in pairs),
    )
    return make(key, *shapes, **options, **fields)

  def init_rival(key: jax.Array):
    if method.init_discriminator is None:
      return None
    return init(key, method.init_discriminator, num_classes=task.num_classes)

  has_peer = 'peer_logits' in method.inputs
  return _Term(
    functools.partial(call, method.fn),
    functools.partial(call, method.discriminator_loss),
    task.init_peer if has_peer else init,
    init_rival,
    has_peer,
  )


def _mix_terms(fn):
  def mixed_fn(learned, student, batch: Batch, weights: Weights) -> Terms:
    own = fn(learned, student, batch, weights)
    partner = fn(learned, student, batch | batch['partner'], weights)
    share = batch['share']
    return {
      name: share * term + (1 - share) * partner[name]
      for name, term in own.items()
    }

  return mixed_fn


def rival_term(name: str) -> str:
  """The name by which the loss of a method's rival is logged."""
  return f'{name}_discriminator'


def peer_term(name: str) -> str:
  """The name by which the cross-entropy of a method's peer is logged."""
  return f'{name}_peer'


def mean_terms(terms: Terms, mask: jax.Array) -> dict[str, jax.Array]:
  """Averages terms [B] over the examples whose mask is not 0."""
  count = jnp.maximum(jnp.sum(mask), 1)
  # `where`, not a product: padding may hold a term that is not finite.
  return {
    name: jnp.sum(jnp.where(mask > 0, term, 0)) / count
    for name, term in terms.items()
  }


def combine(
  terms: Terms, weights: Weights, mask: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Weighs and averages per-example terms.

  loss = sum_name weight_name * mean_{masked examples} term_name

  Args:
    terms: [B] by name.
    weights: of each, and scalars.
    mask: [B], 1 for an example that counts and 0 for padding.
  Returns:
    The scalar loss and the masked mean of each term, unweighted.
  """
  means = mean_terms(terms, mask)
  loss = sum(weights.of(name) * mean for name, mean in means.items())
  return loss, means
