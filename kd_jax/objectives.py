"""From per-example terms to one scalar: `ce_weight`, `kd_weight`, schedules.

An objective maps a student's logits and a batch to named per-example terms;
`combine` weighs and averages them. Weights and temperature are traced, so a
sweep over them compiles once.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kd_jax import losses

Batch = dict[str, jax.Array]
Terms = dict[str, jax.Array]


class Objective(NamedTuple):
  """Names of the terms, and `fn(logits, batch, weights) -> terms`, [B] each."""

  names: tuple[str, ...]
  fn: Callable[[jax.Array, Batch, 'Weights'], Terms]


class Weights(NamedTuple):
  """What scales an objective; every field a float32 scalar.

  Attributes:
    ce_weight: of the cross-entropy on labels.
    kd_weight: of the distillation loss.
    temperature: of the distillation loss.
  """

  ce_weight: jax.Array
  kd_weight: jax.Array
  temperature: jax.Array


def _soft_cross_entropy(student_logits, teacher_logits, *, temperature):
  # Both are softened, as in `kl`; T^2 is left out, as in the paper's code.
  teacher_probs = jax.nn.softmax(
    teacher_logits.astype(jnp.float32) / temperature
  )
  return losses.soft_cross_entropy(
    student_logits, teacher_probs, temperature=temperature
  )


def _squared_error(student_logits, teacher_logits, *, temperature):
  del temperature  # The limit of infinite temperature has none.
  return losses.squared_error(student_logits, teacher_logits)


# (student_logits [B, K], teacher_logits [B, K], *, temperature) -> [B].
# A new distillation loss is one entry.
KD_LOSSES: dict[str, Callable[..., jax.Array]] = {
  'kl': losses.kl,
  'soft_cross_entropy': _soft_cross_entropy,
  'reverse_kl': losses.reverse_kl,
  'jensen_shannon': losses.jensen_shannon,
  'squared_error': _squared_error,
}


def kd_warmup(epoch: int, *, warmup_epochs: int) -> float:
  """Factor on `kd_weight` in an epoch counted from 0: min(1, epoch / n).

  0 epochs of warm-up give 1 throughout. Reference: the paper's CIFAR-10 code.
  """
  if warmup_epochs < 0:
    raise ValueError(f'warmup_epochs must be >= 0, got {warmup_epochs}')
  return 1.0 if warmup_epochs == 0 else min(1.0, epoch / warmup_epochs)


def make_objective(
  *,
  kd_loss: str,
  label_smoothing: float = 0.0,
  distilled: bool = True,
  mixed: bool = False,
) -> Objective:
  """Returns the objective of response distillation.

  Args:
    kd_loss: a name in KD_LOSSES.
    label_smoothing: of the cross-entropy term.
    distilled: whether batches carry 'teacher_logits'; without, there is no
      'kd' term and the objective is that of ordinary training.
    mixed: whether batches are of `augment.mixup`. Each term is then that on an
      example's targets and that on its partner's, by their shares: for losses
      linear in the target, and for `kl` but for a constant, the one on the
      mixture of the two.
  Raises:
    ValueError: if `kd_loss` is unknown.
  """
  if kd_loss not in KD_LOSSES:
    raise ValueError(
      f'unknown distillation loss {kd_loss!r}; known: {sorted(KD_LOSSES)}'
    )
  kd_fn = KD_LOSSES[kd_loss]

  def fn(logits: jax.Array, batch: Batch, weights: Weights) -> Terms:
    terms = {
      'ce': losses.cross_entropy(
        logits, batch['labels'], label_smoothing=label_smoothing
      )
    }
    if distilled:
      terms['kd'] = kd_fn(
        logits, batch['teacher_logits'], temperature=weights.temperature
      )
    return terms

  names = ('ce', 'kd') if distilled else ('ce',)
  return Objective(names, _mix_terms(fn) if mixed else fn)


def _mix_terms(fn):
  def mixed_fn(logits: jax.Array, batch: Batch, weights: Weights) -> Terms:
    own = fn(logits, batch, weights)
    partner = fn(logits, batch | batch['partner'], weights)
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
    terms: [B] by name; each name `x` is weighed by `weights.x_weight`.
    weights: scalars.
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
  loss = sum(
    getattr(weights, f'{name}_weight') * mean for name, mean in means.items()
  )
  return loss, means
