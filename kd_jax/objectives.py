"""From per-example terms to one scalar: the weights of methods, schedules.

An objective maps a student's outputs and a batch to named per-example terms:
'ce', and one of each distillation method. `combine` weighs and averages them.
Weights, temperature and the options of methods are traced, so a sweep over
them compiles once.
"""

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
    ce_weight: of the cross-entropy on labels.
    kd_weight: of all distillation methods together.
    temperature: of those that have one.
    methods: of each method by name, 'weight' and the options that are numbers;
      what is not there has the method's default.
  """

  ce_weight: jax.Array
  kd_weight: jax.Array
  temperature: jax.Array
  methods: Mapping[str, Mapping[str, jax.Array]] = {}

  def of(self, term: str) -> jax.Array:
    """Returns the weight of a term."""
    if term == 'ce':
      return self.ce_weight
    own = self.methods.get(term, {})
    return self.kd_weight * own.get('weight', methods.METHODS[term].weight)


class Objective(NamedTuple):
  """What a network learns.

  Attributes:
    names: of the terms.
    fn: (adapters, student Outputs, batch, weights) -> terms, [B] each.
    init: key -> adapters, the parameters that the methods learn, by method.
  """

  names: tuple[str, ...]
  fn: Callable[[PyTree, Outputs, Batch, Weights], Terms]
  init: Callable[[jax.Array], PyTree]


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
  student_shapes: methods.Shapes | None = None,
  teacher_shapes: methods.Shapes | None = None,
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
    student_shapes: of the student's features without the batch, in the order
      of depth; for methods that use features.
    teacher_shapes: of the teacher's, likewise. Batches then hold
      'teacher_features', by name.
  Raises:
    ValueError: if a method is unknown, or a layer of its options.
  """
  for name in options:
    if name not in methods.METHODS:
      raise ValueError(
        f'unknown distillation method {name!r}; known: '
        f'{sorted(methods.METHODS)}'
      )
  shapes = (student_shapes, teacher_shapes)
  terms = {
    name: _make_term(name, own, *shapes) for name, own in options.items()
  }

  def fn(adapters, student: Outputs, batch: Batch, weights: Weights) -> Terms:
    values = {
      'ce': losses.cross_entropy(
        student.logits, batch['labels'], label_smoothing=label_smoothing
      )
    }
    for name, (term, _) in terms.items():
      values[name] = term(adapters.get(name), student, batch, weights)
    return values

  def init(key: jax.Array) -> PyTree:
    return {
      name: init_fn(jax.random.fold_in(key, i))
      for i, (name, (_, init_fn)) in enumerate(terms.items())
      if init_fn is not None
    }

  return Objective(('ce', *terms), _mix_terms(fn) if mixed else fn, init)


def _make_term(name: str, options, student_shapes, teacher_shapes):
  """Returns a method's term, given what shapes it, and `key -> adapters`."""
  method, options, pairs = methods.METHODS[name], dict(options), ()
  if method.uses_features:
    layers = options.pop('layers', method.layers)
    pairs = methods.match_layers(layers, student_shapes, teacher_shapes)

  def features(by_name, side):
    return tuple(by_name[pair[side]].astype(jnp.float32) for pair in pairs)

  def term(adapters, student: Outputs, batch: Batch, weights: Weights):
    available = {
      'student_logits': lambda: student.logits,
      'student_features': lambda: features(student.features, 0),
      'teacher_features': lambda: jax.lax.stop_gradient(
        features(batch['teacher_features'], 1)
      ),
      'temperature': lambda: weights.temperature,
      'adapters': lambda: adapters,
    }
    inputs = {
      key: available[key]() if key in available else batch[key]
      for key in method.inputs
    }
    traced = {
      key: value
      for key, value in weights.methods.get(name, {}).items()
      if key != 'weight'
    }
    return method.fn(**inputs, **options, **traced)

  init = None
  if method.init is not None:
    shapes = (
      tuple(student_shapes[own] for own, _ in pairs),
      tuple(teacher_shapes[other] for _, other in pairs),
    )
    init = lambda key: method.init(key, *shapes, **options)
  return term, init


def _mix_terms(fn):
  def mixed_fn(adapters, student, batch: Batch, weights: Weights) -> Terms:
    own = fn(adapters, student, batch, weights)
    partner = fn(adapters, student, batch | batch['partner'], weights)
    share = batch['share']
    return {
      name: share * term + (1 - share) * partner[name]
      for name, term in own.items()
    }

  return mixed_fn


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
  count = jnp.maximum(jnp.sum(mask), 1)
  # `where`, not a product: padding may hold a term that is not finite.
  means = {
    name: jnp.sum(jnp.where(mask > 0, term, 0)) / count
    for name, term in terms.items()
  }
  loss = sum(weights.of(name) * mean for name, mean in means.items())
  return loss, means
