"""The loss that a network trains on, from the terms of several methods.

An objective maps a student's outputs and a batch to named terms, a value for
each example: 'ce', one term for each distillation method, and the cross-entropy
of each method's peer network. `combine` averages and weighs the terms.
The hyperparameters are traced, so that a sweep over them compiles once.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kd_jax import data, losses, methods
from kd_jax.training.hyperparameters import Hyperparameters
from kd_jax.training.method_terms import (
  MethodParams,
  MethodSetup,
  MethodTerm,
  TermInputs,
  make_term,
)

Terms = dict[str, jax.Array]
TermsFn = Callable[[TermInputs], Terms]


class Objective(NamedTuple):
  """The losses that a network learns from.

  Attributes:
    names: the names of the terms.
    terms: maps `TermInputs` to the terms, [B] each.
    discriminator_names: the names of the methods that have a discriminator.
    discriminator_terms: maps `TermInputs` to the discriminators' losses, [B]
      each.
    init: maps a key to the initial method parameters.
    partly_labeled: whether examples may have no label.
  """

  names: tuple[str, ...]
  terms: TermsFn
  discriminator_names: tuple[str, ...]
  discriminator_terms: TermsFn
  init: Callable[[jax.Array], MethodParams]
  partly_labeled: bool = False

  def __repr__(self) -> str:
    """Returns the names of the terms, in a line."""
    return f'Objective({", ".join(self.names)})'


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
  setup: MethodSetup,
  *,
  label_smoothing: float = 0.0,
  mixed: bool = False,
  partly_labeled: bool = False,
) -> Objective:
  """Returns the objective of cross-entropy and distillation methods together.

  Args:
    options: the static options of each method; {} for training on
      labels alone.
    setup: the networks and images that methods compare.
    label_smoothing: the smoothing of the cross-entropy on labels.
    mixed: whether batches are mixed by mixup. Each term is then the sum of the
      term on the example's targets and the term on its partner's targets, by
      their shares. For losses that are linear in the target, and for `kl` up to
      a constant, the sum is the loss on the mixed target.
    partly_labeled: whether examples may have no label: their cross-entropy is
      0. The mean over a batch stays that over all its examples.
  Raises:
    ValueError: if a method, or a layer in its options, is unknown.
  """
  for name in options:
    if name not in methods.METHODS:
      raise ValueError(
        f'unknown distillation method {name!r}; known: '
        f'{sorted(methods.METHODS)}'
      )
  method_terms = {
    name: make_term(name, static, setup) for name, static in options.items()
  }
  with_peers = [name for name, term in method_terms.items() if term.has_peer]
  with_discriminators = {
    name: term
    for name, term in method_terms.items()
    if methods.METHODS[name].discriminator_loss
  }
  cross_entropy = functools.partial(
    _masked_cross_entropy if partly_labeled else losses.cross_entropy,
    label_smoothing=label_smoothing,
  )
  wrap = _on_mixed_batches if mixed else lambda terms_fn: terms_fn
  return Objective(
    names=('ce', *method_terms, *map(peer_term, with_peers)),
    terms=wrap(
      functools.partial(_all_terms, method_terms, setup, cross_entropy)
    ),
    discriminator_names=tuple(with_discriminators),
    discriminator_terms=wrap(
      functools.partial(_discriminator_terms, with_discriminators)
    ),
    init=functools.partial(_init_params, method_terms),
    partly_labeled=partly_labeled,
  )


def _all_terms(
  method_terms: Mapping[str, MethodTerm],
  setup: MethodSetup,
  cross_entropy: Callable[[jax.Array, jax.Array], jax.Array],
  inputs: TermInputs,
) -> Terms:
  """Returns the cross-entropy, and the terms of methods and their peers."""
  student, batch = inputs.student, inputs.batch
  labels = jnp.asarray(batch.labels)
  values = {'ce': cross_entropy(student.logits, labels)}
  for name, term in method_terms.items():
    peer_logits = None
    if term.has_peer:
      assert setup.peer_fn is not None
      peer_logits = setup.peer_fn(
        inputs.params.adapters[name], batch.images, student.key
      )
      values[peer_term(name)] = cross_entropy(peer_logits, labels)
    values[name] = term.loss(inputs._replace(peer_logits=peer_logits))
  return values


def _discriminator_terms(
  method_terms: Mapping[str, MethodTerm], inputs: TermInputs
) -> Terms:
  """Returns the losses of the discriminators."""
  return {
    name: term.discriminator_loss(inputs) for name, term in method_terms.items()
  }


def _masked_cross_entropy(
  logits: jax.Array, labels: jax.Array, *, label_smoothing: float
) -> jax.Array:
  """Returns the cross-entropy [B], 0 for examples without a label."""
  loss = losses.cross_entropy(
    logits, jnp.maximum(labels, 0), label_smoothing=label_smoothing
  )
  return jnp.where(labels == data.NO_LABEL, 0, loss)


def _init_params(
  method_terms: Mapping[str, MethodTerm], key: jax.Array
) -> MethodParams:
  """Returns the initial parameters of all methods that have some."""
  keys = jax.random.split(key, max(len(method_terms), 1))
  adapters, discriminators = {}, {}
  for term_key, (name, term) in zip(keys, method_terms.items(), strict=False):
    adapters_key, discriminator_key = jax.random.split(term_key)
    adapters[name] = term.init_adapters(adapters_key)
    discriminators[name] = term.init_discriminator(discriminator_key)
  drop_empty = lambda by_name: {
    name: params for name, params in by_name.items() if params is not None
  }
  return MethodParams(drop_empty(adapters), drop_empty(discriminators))


def _on_mixed_batches(terms_fn: TermsFn) -> TermsFn:
  """Returns `terms_fn` as a function of mixed batches: see `make_objective`."""

  def mixed_terms(inputs: TermInputs) -> Terms:
    assert inputs.batch.mixture is not None
    share, partners = inputs.batch.mixture
    terms = terms_fn(inputs)
    partner_terms = terms_fn(
      inputs._replace(batch=inputs.batch.with_targets(partners))
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
  # `where`, not a product: a padded example's term may not be finite.
  return {
    name: jnp.sum(jnp.where(mask > 0, term, 0)) / count
    for name, term in terms.items()
  }


def combine(
  terms: Terms, hyperparameters: Hyperparameters, mask: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Averages terms over a batch and adds them up.

  loss = sum_name weight_name * mean_{masked examples} term_name

  Args:
    terms: [B] each, by name.
    hyperparameters: the weights of the terms are among them.
    mask: [B], 1 for an example that counts and 0 for padding.
  Returns:
    The scalar loss, and the unweighted mean of each term.
  """
  means = mean_terms(terms, mask)
  loss: Any = sum(
    hyperparameters.weight_of(name) * mean for name, mean in means.items()
  )
  return loss, means
