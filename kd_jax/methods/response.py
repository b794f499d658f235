"""Methods that learn from the teacher's answers: its logits.

Each is a loss for each example, `[B]` float32, in the teacher's logits a
constant. What `losses.py` has is a method as it stands.
"""

import jax
import jax.numpy as jnp

from kd_jax import losses
from kd_jax.methods.method import Method
from kd_jax.methods.vectors import TINY


def soft_cross_entropy(
  student_logits: jax.Array, teacher_logits: jax.Array, *, temperature: float
) -> jax.Array:
  """Cross-entropy against the teacher's probabilities, both softened; no T^2.

  L = -sum_k t_k log s_k,  t, s = softmax(logits / T)

  Reference: the paper's MNIST code. Shapes and errors as in `losses.kl`.
  """
  teacher_probs = jax.nn.softmax(
    teacher_logits.astype(jnp.float32) / temperature
  )
  return losses.soft_cross_entropy(
    student_logits, teacher_probs, temperature=temperature
  )


def dkd(
  student_logits: jax.Array,
  teacher_logits: jax.Array,
  labels: jax.Array,
  *,
  temperature: float,
  alpha: float = 1.0,
  beta: float = 8.0,
) -> jax.Array:
  """Decoupled distillation: the target class apart from the others.

  L = T^2 (alpha KL(b_t || b_s) + beta KL(o_t || o_s)),
  b = (p_y, 1 - p_y),  o = p without class y, normalized,  p = softmax(logits/T)

  It is `losses.kl` where alpha = 1 and beta = 1 - t_y, which is what couples
  the second term to the teacher's confidence.

  Args:
    student_logits: [B, K] float; differentiated. K >= 2.
    teacher_logits: [B, K] float; constant (stop_gradient).
    labels: [B] int in [0, K): the target class y.
    temperature: T > 0, dimensionless.
    alpha: weight of the target class; scalar or [B].
    beta: weight of the others; scalar or [B].
  Returns:
    [B] float32, nats, scaled by T^2. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Zhao et al. 2022, arXiv:2203.08679, equation 7; beta is theirs for
    a ResNet on CIFAR-100.
  """
  losses.check_logits(
    student_logits=student_logits, teacher_logits=teacher_logits
  )
  is_target = labels[:, None] == jnp.arange(student_logits.shape[-1])[None]

  def split(logits):
    """log p_y, log(1 - p_y): [B]; log o, and 0 at y: [B, K]."""
    log_p = losses.log_softmax(logits, temperature)
    target = jnp.sum(jnp.where(is_target, log_p, 0), axis=-1)
    rest = jax.nn.logsumexp(jnp.where(is_target, -jnp.inf, log_p), axis=-1)
    return target, rest, jnp.where(is_target, 0, log_p - rest[:, None])

  target_t, rest_t, others_t = split(jax.lax.stop_gradient(teacher_logits))
  target_s, rest_s, others_s = split(student_logits)
  of_target = jnp.exp(target_t) * (target_t - target_s)
  of_target += jnp.exp(rest_t) * (rest_t - rest_s)
  of_others = jnp.sum(
    jnp.where(is_target, 0, jnp.exp(others_t)) * (others_t - others_s), axis=-1
  )
  return temperature**2 * (alpha * of_target + beta * of_others)


def dist(
  student_logits: jax.Array,
  teacher_logits: jax.Array,
  mask: jax.Array,
  *,
  temperature: float,
  inter: float = 1.0,
  intra: float = 1.0,
) -> jax.Array:
  """Correlation of predictions: within an example, and within a class.

  L = T^2 (inter (1 - r(t_i, s_i)) + intra mean_k (1 - r(t^k, s^k)))

  with r Pearson's correlation, t_i, s_i the probabilities softmax(logits / T)
  of example i over classes, and t^k, s^k those of class k over the batch. The
  second term is the batch's, and the same for each of its examples.

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_logits: [B, K] float; constant (stop_gradient).
    mask: [B], 0 for an example that is not to be in the batch.
    temperature: T > 0, dimensionless.
    inter: weight of the first term.
    intra: weight of the second.
  Returns:
    [B] float32. A correlation with a constant is 0.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Huang et al. 2022, arXiv:2205.10536, equations 5 to 8, whose T^2 is
    of their code. They set T = 1 and weights of 1 or 2 on ImageNet; T = 4 and
    weights of 2 on CIFAR-100.
  """
  losses.check_logits(
    student_logits=student_logits, teacher_logits=teacher_logits
  )
  teacher = jnp.exp(
    losses.log_softmax(jax.lax.stop_gradient(teacher_logits), temperature)
  )
  student = jnp.exp(losses.log_softmax(student_logits, temperature))
  everything = jnp.ones(student.shape[-1])
  of_examples = jax.vmap(_correlation, (0, 0, None))(
    student, teacher, everything
  )
  of_classes = jax.vmap(_correlation, (1, 1, None))(student, teacher, mask)
  return temperature**2 * (
    inter * (1 - of_examples) + intra * jnp.mean(1 - of_classes)
  )


def _correlation(x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
  """Pearson's correlation of x and y [N], weighted: a scalar."""

  count = jnp.maximum(jnp.sum(weights), 1)

  def normalize(values):
    values = values - jnp.sum(weights * values) / count
    return values * jax.lax.rsqrt(jnp.sum(weights * values**2) + TINY)

  return jnp.sum(weights * normalize(x) * normalize(y))


def logit_standardization(
  student_logits: jax.Array,
  teacher_logits: jax.Array,
  *,
  base_temperature: float = 2.0,
) -> jax.Array:
  """KL divergence of logits in units of their own standard deviation.

  L = T^2 KL(softmax(z_t / T) || softmax(z_s / T)),  z = (x - mean x) / std x

  mean and standard deviation (with K - 1) over an example's classes, so that
  the student need not match the teacher's scale; T is `base_temperature`.

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_logits: [B, K] float; constant (stop_gradient).
    base_temperature: T > 0, in standard deviations.
  Returns:
    [B] float32, nats, scaled by T^2. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Sun et al. 2024, arXiv:2403.01427, algorithm 1. They give it a
    weight of 9 beside 0.1 of the cross-entropy.
  """
  return losses.kl(
    _standardize(student_logits),
    _standardize(teacher_logits),
    temperature=base_temperature,
  )


def _standardize(logits: jax.Array) -> jax.Array:
  logits = logits.astype(jnp.float32)
  logits -= jnp.mean(logits, axis=-1, keepdims=True)
  variance = jnp.var(logits, axis=-1, keepdims=True, ddof=1)
  return logits * jax.lax.rsqrt(variance + TINY)


def mutual(
  student_logits: jax.Array,
  peer_logits: jax.Array,
  *,
  temperature: float,
) -> jax.Array:
  """Deep mutual learning: two students teach each other, and need no teacher.

  L = KL(p || s) + KL(s || p),  both as `losses.kl`,

  the first for the student, with the peer p a constant; the second for the
  peer, with the student s a constant. Either one's cross-entropy is apart, of
  one weight. The peer is a network as the student's, from another start, on the
  same batches; it is thrown away.

  Args:
    student_logits: [B, K] float; differentiated.
    peer_logits: [B, K] float; differentiated.
    temperature: T > 0, dimensionless.
  Returns:
    [B] float32, nats.
  Reference: Zhang et al. 2018, arXiv:1706.00384, equations 4 to 6, where T = 1.
  """
  of_student = losses.kl(student_logits, peer_logits, temperature=temperature)
  of_peer = losses.kl(peer_logits, student_logits, temperature=temperature)
  return of_student + of_peer


METHODS = {
  'kl': Method(losses.kl),
  'soft_cross_entropy': Method(soft_cross_entropy),
  'reverse_kl': Method(losses.reverse_kl),
  'jensen_shannon': Method(losses.jensen_shannon),
  'squared_error': Method(losses.squared_error),
  'dkd': Method(dkd),
  'dist': Method(dist),
  'logit_standardization': Method(logit_standardization, weight=9.0),
  'mutual': Method(mutual),
}
