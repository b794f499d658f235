"""Methods that learn from the teacher's responses: its logits.

Each method returns the loss of each example, [B] float32. The teacher's logits
are constants. `kl`, `reverse_kl`, `jensen_shannon` and `squared_error` are the
losses of losses.py.
"""

import jax
import jax.numpy as jnp

from kd_jax import losses
from kd_jax.methods.method import Method
from kd_jax.methods.vectors import TINY


def soft_cross_entropy(
  student_logits: jax.Array, teacher_logits: jax.Array, *, temperature: float
) -> jax.Array:
  """Computes the cross-entropy of softened distributions; no T^2.

  L = -sum_k t_k log s_k,  t, s = softmax(logits / T)

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_logits: [B, K] float; constant (stop_gradient).
    temperature: T > 0, dimensionless.
  Returns:
    [B] float32, nats. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: the paper's MNIST code.

  Example:
    >>> student, teacher = jnp.zeros((1, 4)), jnp.array([[1.0, 2.0, 3.0, 4.0]])
    >>> loss = soft_cross_entropy(student, teacher, temperature=2.0)
    >>> print(loss)  # log(4)
    [1.386...]
  """
  teacher_probs = jax.nn.softmax(
    teacher_logits.astype(jnp.float32) / temperature
  )
  return losses.cross_entropy_with_probs(
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
  """Decoupled distillation: separate terms for target and other classes.

  L = T^2 (alpha KL(b_t || b_s) + beta KL(o_t || o_s)),
  b = (p_y, 1 - p_y),  o = p without class y, normalized,  p = softmax(logits/T)

  With alpha = 1 and beta = 1 - t_y, L is `losses.kl`: there, the teacher's
  confidence t_y weighs the second term.

  Args:
    student_logits: [B, K] float; differentiated. K >= 2.
    teacher_logits: [B, K] float; constant (stop_gradient).
    labels: [B] int in [0, K): the target class y.
    temperature: T > 0, dimensionless.
    alpha: weight of the target class's term; scalar or [B].
    beta: weight of the other classes' term; scalar or [B].
  Returns:
    [B] float32, nats, scaled by T^2. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Zhao et al. 2022, arXiv:2203.08679, equation 7; the default beta is
    theirs for a ResNet on CIFAR-100.

  Example:
    >>> student, teacher = jnp.array([[0.0, 2.0, 1.0]]), jnp.zeros((1, 3))
    >>> labels = jnp.array([1])
    >>> decoupled = dkd(student, teacher, labels, temperature=1.0, beta=2 / 3)
    >>> print(decoupled, losses.kl(student, teacher))
    [0.308...] [0.308...]
  """
  losses.check_logits(
    student_logits=student_logits, teacher_logits=teacher_logits
  )
  is_target = labels[:, None] == jnp.arange(student_logits.shape[-1])[None]

  def split(logits):
    """Returns log p_y and log(1 - p_y), [B], and log o, [B, K], 0 at y."""
    log_p = losses.log_softmax(logits, temperature)
    target = jnp.sum(jnp.where(is_target, log_p, 0), axis=-1)
    rest = jax.nn.logsumexp(jnp.where(is_target, -jnp.inf, log_p), axis=-1)
    return target, rest, jnp.where(is_target, 0, log_p - rest[:, None])

  target_t, rest_t, others_t = split(jax.lax.stop_gradient(teacher_logits))
  target_s, rest_s, others_s = split(student_logits)
  target_kl = jnp.exp(target_t) * (target_t - target_s)
  target_kl += jnp.exp(rest_t) * (rest_t - rest_s)
  others_kl = jnp.sum(
    jnp.where(is_target, 0, jnp.exp(others_t)) * (others_t - others_s), axis=-1
  )
  return temperature**2 * (alpha * target_kl + beta * others_kl)


def dist(
  student_logits: jax.Array,
  teacher_logits: jax.Array,
  mask: jax.Array,
  *,
  temperature: float,
  inter: float = 1.0,
  intra: float = 1.0,
) -> jax.Array:
  """Correlates predictions over the classes and over the batch.

  L = T^2 (inter (1 - r(t_i, s_i)) + intra mean_k (1 - r(t^k, s^k)))

  r is Pearson's correlation. t_i and s_i are the probabilities softmax(logits
  / T) of example i over the classes. t^k and s^k are the probabilities of class
  k over the batch. All examples of a batch have the same second term.

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_logits: [B, K] float; constant (stop_gradient).
    mask: [B], 0 for padding.
    temperature: T > 0, dimensionless.
    inter: weight of the first term.
    intra: weight of the second term.
  Returns:
    [B] float32. The correlation with a constant counts as 0.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Huang et al. 2022, arXiv:2205.10536, equations 5 to 8; T^2 is from
    their code. They set T = 1 and weights of 1 or 2 on ImageNet, and T = 4 and
    weights of 2 on CIFAR-100.

  Example:
    >>> logits = jnp.array([[0.0, 2.0, 1.0], [1.0, 0.0, 2.0]])
    >>> loss = dist(logits, logits, jnp.ones(2), temperature=4.0)
    >>> print(abs(loss.round(3)))
    [0. 0.]
  """
  losses.check_logits(
    student_logits=student_logits, teacher_logits=teacher_logits
  )
  teacher = jnp.exp(
    losses.log_softmax(jax.lax.stop_gradient(teacher_logits), temperature)
  )
  student = jnp.exp(losses.log_softmax(student_logits, temperature))
  everything = jnp.ones(student.shape[-1])
  examples_r = jax.vmap(_correlation, (0, 0, None))(
    student, teacher, everything
  )
  classes_r = jax.vmap(_correlation, (1, 1, None))(student, teacher, mask)
  return temperature**2 * (
    inter * (1 - examples_r) + intra * jnp.mean(1 - classes_r)
  )


def _correlation(x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
  """Returns the weighted Pearson correlation of x and y [N], a scalar."""
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
  """Computes the KL divergence of standardized logits.

  L = T^2 KL(softmax(z_t / T) || softmax(z_s / T)),  z = (x - mean x) / std x

  The mean and the standard deviation (with K - 1) are over an example's
  classes, so the student does not have to match the scale of the teacher's
  logits. T is `base_temperature`.

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_logits: [B, K] float; constant (stop_gradient).
    base_temperature: T > 0, in standard deviations.
  Returns:
    [B] float32, nats, scaled by T^2. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Sun et al. 2024, arXiv:2403.01427, algorithm 1. Their weight is 9,
    and the weight of the cross-entropy is 0.1.

  Example:
    >>> logits = jnp.array([[0.0, 2.0, 1.0]])
    >>> print(abs(logit_standardization(5 * logits - 3, logits).round(3)))
    [0.]
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
  """Deep mutual learning: two students teach each other, without a teacher.

  L = KL(p || s) + KL(s || p),  both as `losses.kl`

  The first term trains the student s; the peer p is a constant. The second
  term trains the peer; the student is a constant. The cross-entropies of both
  networks are separate terms of equal weight. The peer has the student's
  architecture, another initialization and the same batches. It is discarded
  after training.

  Args:
    student_logits: [B, K] float; differentiated.
    peer_logits: [B, K] float; differentiated.
    temperature: T > 0, dimensionless.
  Returns:
    [B] float32, nats.
  Reference: Zhang et al. 2018, arXiv:1706.00384, equations 4 to 6, where T = 1.

  Example:
    >>> student = jnp.log(jnp.array([[1.0, 2.0, 3.0]]))
    >>> peer = jnp.log(jnp.array([[3.0, 2.0, 1.0]]))
    >>> print(mutual(student, peer, temperature=1.0))  # 2 log(3) / 3
    [0.732...]
  """
  student_loss = losses.kl(student_logits, peer_logits, temperature=temperature)
  peer_loss = losses.kl(peer_logits, student_logits, temperature=temperature)
  return student_loss + peer_loss


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
