"""Methods that learn from the teacher's responses: its logits.

Each method returns the loss of each example, [B] float32. The teacher's logits
are constants. `kl`, `reverse_kl`, `jensen_shannon` and `squared_error` are the
losses of losses.py.
"""

import jax
import jax.numpy as jnp

from kd_jax import losses
from kd_jax.methods.method import (
  AT_LEAST_0,
  BETWEEN_0_AND_1,
  POSITIVE,
  Method,
)
from kd_jax.methods.vectors import unit_deviation, without_padding


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
  teacher_probs = jax.nn.softmax(losses.as_float(teacher_logits) / temperature)
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
  confidence t_y weighs the second term. With two classes the second term is 0.

  Args:
    student_logits: [B, K] float; differentiated. K >= 2.
    teacher_logits: [B, K] float; constant (stop_gradient).
    labels: [B] int in [0, K): the target class y.
    temperature: T > 0, dimensionless.
    alpha: weight of the target class's term; scalar or [B].
    beta: weight of the other classes' term; scalar or [B].
  Returns:
    [B] float32, nats, scaled by T^2. Not reduced. NaN for a label outside
    [0, K).
  Raises:
    ValueError: at trace time, if shapes differ, the rank is not 2 or K < 2.
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
    least_classes=2,
    student_logits=student_logits,
    teacher_logits=teacher_logits,
  )
  num_classes = student_logits.shape[-1]
  is_target = labels[:, None] == jnp.arange(num_classes)[None]

  def split(logits):
    """Returns log(K p_y), [B], log of (1 - p_y) K / (K - 1), [B], and log o.

    The last is relative to the mean of o, [B, K], 0 at y.
    """
    log_p, _ = losses.log_relative(losses.as_float(logits) / temperature)
    target = jnp.sum(jnp.where(is_target, log_p, 0), axis=-1)
    others, rest = losses.log_relative(log_p, where=~is_target)
    return target, rest[:, 0], others

  target_t, rest_t, others_t = split(jax.lax.stop_gradient(teacher_logits))
  target_s, rest_s, others_s = split(student_logits)
  target_kl = losses.kl_terms(target_t, target_s)
  target_kl += (num_classes - 1) * losses.kl_terms(rest_t, rest_s)
  others_kl = jnp.sum(losses.kl_terms(others_t, others_s), axis=-1)
  loss = alpha * target_kl / num_classes + beta * others_kl / (num_classes - 1)
  return losses.nan_outside(temperature**2 * loss, labels, num_classes)


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
  k over the batch. All examples of a batch have the same second term. With two
  classes the first term has no gradient, and with two examples the second.

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

  def predictions(logits):
    """Returns K p, whose correlations are those of p."""
    logits = losses.as_float(without_padding(logits, mask))
    return jnp.exp(losses.log_relative(logits / temperature)[0])

  teacher = predictions(jax.lax.stop_gradient(teacher_logits))
  student = predictions(student_logits)
  is_used = jnp.broadcast_to(mask[None] > 0, student.T.shape)
  correlate = lambda x, y, where=None: jnp.sum(
    unit_deviation(x, where) * unit_deviation(y, where), axis=-1
  )
  examples_r = correlate(student, teacher)
  classes_r = correlate(student.T, teacher.T, is_used)
  return temperature**2 * (
    inter * (1 - examples_r) + intra * jnp.mean(1 - classes_r)
  )


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
  logits. T is `base_temperature`. Equal logits have z = 0. With two classes,
  z is always +-0.71, so the method needs three classes.

  Args:
    student_logits: [B, K] float; differentiated. K >= 3.
    teacher_logits: [B, K] float; constant (stop_gradient).
    base_temperature: T > 0, in standard deviations.
  Returns:
    [B] float32, nats, scaled by T^2. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ, the rank is not 2 or K < 3.
  Reference: Sun et al. 2024, arXiv:2403.01427, algorithm 1. Their weight is 9,
    and the weight of the cross-entropy is 0.1.

  Example:
    >>> logits = jnp.array([[0.0, 2.0, 1.0]])
    >>> print(abs(logit_standardization(5 * logits - 3, logits).round(3)))
    [0.]
  """
  losses.check_logits(
    least_classes=3,
    student_logits=student_logits,
    teacher_logits=teacher_logits,
  )
  return losses.kl(
    _standardize(student_logits),
    _standardize(teacher_logits),
    temperature=base_temperature,
  )


def _standardize(logits: jax.Array) -> jax.Array:
  num_classes = logits.shape[-1]
  return unit_deviation(losses.as_float(logits)) * (num_classes - 1) ** 0.5


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


def _weakness_of_dkd(num_classes: int, *_) -> str:
  return 'its term of the other classes is 0' if num_classes == 2 else ''


def _weakness_of_dist(num_classes: int, *_) -> str:
  if num_classes > 2:
    return ''
  return 'its term over the classes of an example has no gradient'


METHODS = {
  'kl': Method(losses.kl),
  'soft_cross_entropy': Method(soft_cross_entropy),
  'reverse_kl': Method(losses.reverse_kl),
  'jensen_shannon': Method(
    losses.jensen_shannon, ranges={'beta': BETWEEN_0_AND_1}
  ),
  'squared_error': Method(losses.squared_error),
  'dkd': Method(
    dkd,
    ranges={'alpha': AT_LEAST_0, 'beta': AT_LEAST_0},
    find_weakness=_weakness_of_dkd,
  ),
  'dist': Method(
    dist,
    least_examples=3,
    ranges={'inter': AT_LEAST_0, 'intra': AT_LEAST_0},
    find_weakness=_weakness_of_dist,
  ),
  'logit_standardization': Method(
    logit_standardization, weight=9.0, ranges={'base_temperature': POSITIVE}
  ),
  'mutual': Method(mutual),
}
