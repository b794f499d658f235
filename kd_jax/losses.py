"""Classification and distillation losses, one number per example.

Every loss maps `[B, K]` logits to `[B]` float32 nats: summed over classes and
never reduced over the batch, so that the caller says how examples weigh.
Computation is in float32 whatever the inputs, through log-softmax, and stays
finite for logits of +-1e4. What comes from the teacher is a constant: no
gradient flows into it.
"""

import jax
import jax.numpy as jnp


def check_logits(**arrays: jax.Array) -> None:
  """Raises ValueError at trace time unless all arrays are [B, K] alike."""
  shapes = {name: jnp.shape(array) for name, array in arrays.items()}
  if any(len(shape) != 2 for shape in shapes.values()):
    raise ValueError(f'expected arrays of shape [B, K], got {shapes}')
  if len(set(shapes.values())) > 1:
    raise ValueError(f'shapes differ: {shapes}')


def log_softmax(logits: jax.Array, temperature: float = 1.0) -> jax.Array:
  """Log-probabilities, in float32, of logits softened at a temperature."""
  return jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)


def _expected_log_ratio(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
  """KL(p || q) from log-probabilities: [B, K], [B, K] -> [B]."""
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def cross_entropy(
  logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
  """Cross-entropy against integer labels.

  L = -sum_k q_k log p_k,  p = softmax(logits),
  q = (1 - label_smoothing) onehot(label) + label_smoothing / K

  Args:
    logits: [B, K] float; differentiated.
    labels: [B] int in [0, K).
    label_smoothing: mass given to the uniform distribution, in [0, 1].
  Returns:
    [B] float32, nats. Not reduced.
  Raises:
    ValueError: at trace time, if the shapes do not fit.
  Reference: Szegedy et al. 2016, arXiv:1512.00567, section 7 (smoothing).
  """
  check_logits(logits=logits)
  if jnp.shape(labels) != jnp.shape(logits)[:1]:
    raise ValueError(
      f'labels {jnp.shape(labels)} do not fit logits {jnp.shape(logits)}'
    )
  log_p = log_softmax(logits)
  # A masked sum, not an indexed read: the gradient of an index is a scatter,
  # which is slow on every backend.
  is_label = labels[:, None] == jnp.arange(logits.shape[-1])[None]
  nll = -jnp.sum(jnp.where(is_label, log_p, 0), axis=-1)
  # The test is static where the smoothing is: the common case pays nothing.
  if isinstance(label_smoothing, (int, float)) and label_smoothing == 0:
    return nll
  uniform = -jnp.mean(log_p, axis=-1)
  return (1 - label_smoothing) * nll + label_smoothing * uniform


def soft_cross_entropy(
  student_logits: jax.Array,
  teacher_probs: jax.Array,
  *,
  temperature: float = 1.0,
) -> jax.Array:
  """Cross-entropy against the teacher's probabilities; no T^2.

  L = -sum_k t_k log s_k,  s = softmax(student_logits / T)

  The temperature divides the student's logits alone: the teacher's
  probabilities are taken as they are. It is `kl` up to the teacher's entropy
  when these were softened at the same T, and up to the factor T^2.

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_probs: [B, K] float, rows sum to 1; constant (stop_gradient).
    temperature: T > 0, dimensionless.
  Returns:
    [B] float32, nats. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Hinton et al. 2015, arXiv:1503.02531, equation 1.
  """
  check_logits(student_logits=student_logits, teacher_probs=teacher_probs)
  teacher_probs = jax.lax.stop_gradient(teacher_probs).astype(jnp.float32)
  return -jnp.sum(
    teacher_probs * log_softmax(student_logits, temperature), axis=-1
  )


def kl(
  student_logits: jax.Array,
  teacher_logits: jax.Array,
  *,
  temperature: float = 1.0,
) -> jax.Array:
  """Forward KL divergence KL(teacher || student), both softened.

  L = T^2 sum_k t_k log(t_k / s_k),  t, s = softmax(logits / T)

  dL/dstudent_logits = T (s - t): T^2 keeps gradients of the same size over T.

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_logits: [B, K] float; constant (stop_gradient).
    temperature: T > 0, dimensionless.
  Returns:
    [B] float32, nats, scaled by T^2. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Hinton et al. 2015, arXiv:1503.02531, section 2.
  """
  check_logits(student_logits=student_logits, teacher_logits=teacher_logits)
  log_t = log_softmax(jax.lax.stop_gradient(teacher_logits), temperature)
  log_s = log_softmax(student_logits, temperature)
  return temperature**2 * _expected_log_ratio(log_t, log_s)


def reverse_kl(
  student_logits: jax.Array,
  teacher_logits: jax.Array,
  *,
  temperature: float = 1.0,
) -> jax.Array:
  """Reverse KL divergence KL(student || teacher), both softened.

  L = T^2 sum_k s_k log(s_k / t_k),  t, s = softmax(logits / T)

  Mode-seeking where `kl` is mean-seeking.

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_logits: [B, K] float; constant (stop_gradient).
    temperature: T > 0, dimensionless.
  Returns:
    [B] float32, nats, scaled by T^2. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2.
  """
  check_logits(student_logits=student_logits, teacher_logits=teacher_logits)
  log_t = log_softmax(jax.lax.stop_gradient(teacher_logits), temperature)
  log_s = log_softmax(student_logits, temperature)
  return temperature**2 * _expected_log_ratio(log_s, log_t)


def jensen_shannon(
  student_logits: jax.Array,
  teacher_logits: jax.Array,
  *,
  temperature: float = 1.0,
  beta: float = 0.5,
) -> jax.Array:
  """Generalized Jensen-Shannon divergence, both softened.

  L = T^2 (beta KL(t || m) + (1 - beta) KL(s || m)),
  m = beta t + (1 - beta) s,  t, s = softmax(logits / T)

  Symmetric at beta = 1/2. Divided by its weight it tends to `kl` as beta -> 0
  (L / beta) and to `reverse_kl` as beta -> 1 (L / (1 - beta)).

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_logits: [B, K] float; constant (stop_gradient).
    temperature: T > 0, dimensionless.
    beta: weight of the teacher in the mixture, in (0, 1).
  Returns:
    [B] float32, nats, scaled by T^2; at most T^2 log 2. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Agarwal et al. 2024 (GKD), arXiv:2306.13649, equation 1.
  """
  check_logits(student_logits=student_logits, teacher_logits=teacher_logits)
  log_t = log_softmax(jax.lax.stop_gradient(teacher_logits), temperature)
  log_s = log_softmax(student_logits, temperature)
  # log m without leaving log space: m underflows where both logits are low.
  log_m = jnp.logaddexp(log_t + jnp.log(beta), log_s + jnp.log1p(-beta))
  divergence = beta * _expected_log_ratio(log_t, log_m)
  divergence += (1 - beta) * _expected_log_ratio(log_s, log_m)
  return temperature**2 * divergence


def squared_error(
  student_logits: jax.Array, teacher_logits: jax.Array
) -> jax.Array:
  """Half the squared distance of the logits, each centered over classes.

  L = 1/(2K) sum_k ((s_k - mean s) - (t_k - mean t))^2

  The limit of `kl` for large temperatures, constants included. Centering
  leaves the softmax of both as it is.

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_logits: [B, K] float; constant (stop_gradient).
  Returns:
    [B] float32. Not reduced over the batch; averaged over classes, which is
    what the limit gives.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Ba and Caruana 2014, arXiv:1312.6184, equation 1; the limit is
    Hinton et al. 2015, arXiv:1503.02531, equation 4.
  """
  check_logits(student_logits=student_logits, teacher_logits=teacher_logits)
  difference = student_logits.astype(jnp.float32) - jax.lax.stop_gradient(
    teacher_logits
  ).astype(jnp.float32)
  difference -= jnp.mean(difference, axis=-1, keepdims=True)
  return 0.5 * jnp.mean(jnp.square(difference), axis=-1)
