"""Classification and distillation losses, one value for each example.

Every loss maps logits [B, K] to [B] float32, in nats. Losses sum over classes
and are never reduced over the batch, so that the caller weighs the examples.
Losses compute in float32 for shorter inputs, and in float64 for float64 inputs,
through log-probabilities. They stay finite for logits of +-1e4. The divergences
are accurate at any temperature. The teacher's outputs are constants: no
gradient flows into them.

A label outside [0, K) cannot raise an error in a compiled loss. Its loss is
NaN, which stops the training; see also `config_checks/data_checks.py`.
"""

import jax
import jax.numpy as jnp


def check_logits(*, least_classes: int = 1, **arrays: jax.Array) -> None:
  """Checks at trace time that all arrays have one shape [B, K].

  Args:
    least_classes: the least K for which the loss depends on the logits.
    **arrays: arrays by the names that the error message uses.
  Raises:
    ValueError: if an array is not of rank 2, if shapes differ, or if K is less
      than `least_classes`.

  Example:
    >>> check_logits(student=jnp.zeros((2, 3)), teacher=jnp.zeros((2, 4)))
    Traceback (most recent call last):
    ValueError: shapes differ: {'student': (2, 3), 'teacher': (2, 4)}
  """
  shapes = {name: jnp.shape(array) for name, array in arrays.items()}
  if any(len(shape) != 2 for shape in shapes.values()):
    raise ValueError(f'expected arrays of shape [B, K], got {shapes}')
  if len(set(shapes.values())) > 1:
    raise ValueError(f'shapes differ: {shapes}')
  num_classes = next(iter(shapes.values()))[1]
  if num_classes < least_classes:
    raise ValueError(
      f'{num_classes} classes are too few: this loss needs {least_classes} or '
      'more, because with fewer its gradient is 0 for all logits'
    )


def as_float(array: jax.Array) -> jax.Array:
  """Returns an array as float32, or as float64 if the array is float64.

  Args:
    array: any type and shape.

  Example:
    >>> print(as_float(jnp.zeros(2, jnp.bfloat16)).dtype)
    float32
  """
  return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def log_softmax(logits: jax.Array, temperature: float = 1.0) -> jax.Array:
  """Returns the log-probabilities of softened logits.

  log p = log softmax(logits / T)

  Args:
    logits: [..., K] float.
    temperature: T > 0, dimensionless.
  Returns:
    [..., K] float32.

  Example:
    >>> log_p = log_softmax(jnp.log(jnp.array([4.0, 16.0])), temperature=2.0)
    >>> print(jnp.exp(log_p))
    [0.333... 0.666...]
  """
  return jax.nn.log_softmax(as_float(logits) / temperature)


def log_relative(
  x: jax.Array, where: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
  """Returns log(e^x / mean e^x) and log(mean e^x), over the last axis.

  For logits x the first result is log(K p), p = softmax(x). At a high
  temperature log(K p) is near 0 and keeps the differences of the classes, where
  log p = log(K p) - log K loses most of their digits to rounding.

  Args:
    x: [..., K] float.
    where: [..., K] bool, the entries to use; None for all.
  Returns:
    [..., K], 0 where an entry is not used, and [..., 1].

  Example:
    >>> log_p, log_mean = log_relative(jnp.log(jnp.array([[1.0, 3.0]])))
    >>> print(jnp.exp(log_p).round(3), jnp.exp(log_mean).round(3))
    [[0.5 ... 1.5...]] [[2.]]
  """
  peak = jnp.max(
    jax.lax.stop_gradient(x),
    axis=-1,
    keepdims=True,
    initial=-jnp.inf,
    where=where,
  )
  # The `where` is inside: an entry that is not used may be above the peak, and
  # its exponential infinite.
  shifted = x - peak if where is None else jnp.where(where, x - peak, 0)
  log_mean = jnp.log(
    jnp.mean(jnp.exp(shifted), axis=-1, keepdims=True, where=where)
  )
  relative = shifted - log_mean
  if where is not None:
    relative = jnp.where(where, relative, 0)
  return relative, peak + log_mean


# Below this size of x, e^x - 1 - x is a polynomial: its three terms cancel.
_NEAR = 0.5


def _exp_residual(x: jax.Array) -> jax.Array:
  """Returns e^x - 1 - x = x^2 (1/2! + x/3! + ... + x^7/9!), for small x."""
  series = 1 + x * (1 / 9)
  for n in range(8, 2, -1):
    series = 1 + series * x * (1 / n)
  return 0.5 * jnp.square(x) * series


def kl_terms(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
  """Returns terms whose sum is KL(p || q) if p and q have the same sum.

  p log(p / q) - p + q = p (e^-r - 1 + r),  r = log(p / q)

  The terms p log(p / q) cancel in a sum, and these do not: none is negative.

  Args:
    log_p: float, any shape.
    log_q: float, the same shape.

  Example:
    >>> p, q = jnp.array([0.5, 0.5]), jnp.array([0.25, 0.75])
    >>> print(kl_terms(jnp.log(p), jnp.log(q)).sum())  # log(4 / 3) / 2
    0.143...
  """
  ratio = log_p - log_q
  is_near = jnp.abs(ratio) < _NEAR
  near = jnp.where(is_near, ratio, 0)
  p, q = jnp.exp(log_p), jnp.exp(log_q)
  return jnp.where(is_near, p * _exp_residual(-near), p * ratio - p + q)


def _divergence(relative_p: jax.Array, relative_q: jax.Array) -> jax.Array:
  """Returns KL(p || q) from log(K p) and log(K q): [B, K], [B, K] -> [B]."""
  return jnp.mean(kl_terms(relative_p, relative_q), axis=-1)


def _relative_pair(
  student_logits: jax.Array, teacher_logits: jax.Array, temperature: float
) -> tuple[jax.Array, jax.Array]:
  """Returns log(K s) and log(K t), [B, K]; no gradient flows into t."""
  check_logits(student_logits=student_logits, teacher_logits=teacher_logits)
  teacher_logits = jax.lax.stop_gradient(teacher_logits)
  student, _ = log_relative(as_float(student_logits) / temperature)
  teacher, _ = log_relative(as_float(teacher_logits) / temperature)
  return student, teacher


def cross_entropy(
  logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
  """Computes the cross-entropy against integer labels.

  L = -sum_k q_k log p_k,  p = softmax(logits),
  q = (1 - label_smoothing) onehot(label) + label_smoothing / K

  Args:
    logits: [B, K] float; differentiated.
    labels: [B] int in [0, K).
    label_smoothing: share of the uniform distribution, in [0, 1].
  Returns:
    [B] float32, nats. Not reduced. NaN for a label outside [0, K).
  Raises:
    ValueError: at trace time, if the shapes do not fit.
  Reference: Szegedy et al. 2016, arXiv:1512.00567, section 7 (smoothing).

  Example:
    >>> logits = jnp.log(jnp.array([[1.0, 2.0, 5.0]]))
    >>> print(cross_entropy(logits, jnp.array([2])))  # log(8 / 5)
    [0.470...]
  """
  check_logits(logits=logits)
  if jnp.shape(labels) != jnp.shape(logits)[:1]:
    raise ValueError(
      f'labels {jnp.shape(labels)} do not fit logits {jnp.shape(logits)}'
    )
  log_p = log_softmax(logits)
  # A masked sum: the gradient of an index is a scatter, which is slow.
  is_label = labels[:, None] == jnp.arange(logits.shape[-1])[None]
  nll = -jnp.sum(jnp.where(is_label, log_p, 0), axis=-1)
  nll = nan_outside(nll, labels, logits.shape[-1])
  # If label_smoothing is the Python number 0, no work is compiled for it.
  if isinstance(label_smoothing, (int, float)) and label_smoothing == 0:
    return nll
  uniform = -jnp.mean(log_p, axis=-1)
  return (1 - label_smoothing) * nll + label_smoothing * uniform


def nan_outside(
  loss: jax.Array, labels: jax.Array, num_classes: int
) -> jax.Array:
  """Returns a loss [B] that is NaN where a label is outside [0, K).

  Args:
    loss: [B] float.
    labels: [B] int.
    num_classes: K.

  Example:
    >>> print(nan_outside(jnp.ones(3), jnp.array([0, -1, 2]), 2))
    [ 1. nan nan]
  """
  return jnp.where((labels >= 0) & (labels < num_classes), loss, jnp.nan)


def cross_entropy_with_probs(
  student_logits: jax.Array,
  teacher_probs: jax.Array,
  *,
  temperature: float = 1.0,
) -> jax.Array:
  """Computes the cross-entropy against the teacher's probabilities; no T^2.

  L = -sum_k t_k log s_k,  s = softmax(student_logits / T)

  The temperature divides only the student's logits, and the teacher's
  probabilities t_k are not softened here. If they were softened at the same T,
  then `kl` is T^2 times the difference of this loss and the teacher's entropy.

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_probs: [B, K] float, rows sum to 1; constant (stop_gradient).
    temperature: T > 0, dimensionless.
  Returns:
    [B] float32, nats. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Hinton et al. 2015, arXiv:1503.02531, equation 1.

  Example:
    >>> student = jnp.log(jnp.array([[1.0, 3.0]]))
    >>> teacher_probs = jnp.array([[0.0, 1.0]])
    >>> print(cross_entropy_with_probs(student, teacher_probs))  # log(4 / 3)
    [0.287...]
  """
  check_logits(student_logits=student_logits, teacher_probs=teacher_probs)
  teacher_probs = as_float(jax.lax.stop_gradient(teacher_probs))
  return -jnp.sum(
    teacher_probs * log_softmax(student_logits, temperature), axis=-1
  )


def kl(
  student_logits: jax.Array,
  teacher_logits: jax.Array,
  *,
  temperature: float = 1.0,
) -> jax.Array:
  """Computes the forward KL divergence KL(teacher || student), both softened.

  L = T^2 sum_k t_k log(t_k / s_k),  t, s = softmax(logits / T)

  dL/dstudent_logits = T (s - t): the factor T^2 makes the size of the gradient
  almost independent of T. The sum over classes is the 'batchmean' of PyTorch's
  KLDivLoss; that class's default divides by K as well.

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_logits: [B, K] float; constant (stop_gradient).
    temperature: T > 0, dimensionless.
  Returns:
    [B] float32, nats, scaled by T^2. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Hinton et al. 2015, arXiv:1503.02531, section 2.

  Example:
    >>> student = jnp.log(jnp.array([[1.0, 2.0, 3.0]]))
    >>> teacher = jnp.log(jnp.array([[3.0, 2.0, 1.0]]))
    >>> print(kl(student, teacher))  # log(3) / 3
    [0.366...]
  """
  log_s, log_t = _relative_pair(student_logits, teacher_logits, temperature)
  return temperature**2 * _divergence(log_t, log_s)


def reverse_kl(
  student_logits: jax.Array,
  teacher_logits: jax.Array,
  *,
  temperature: float = 1.0,
) -> jax.Array:
  """Computes the reverse KL divergence KL(student || teacher), both softened.

  L = T^2 sum_k s_k log(s_k / t_k),  t, s = softmax(logits / T)

  Reverse KL is mode-seeking; `kl` is mean-seeking. The reference has T = 1.

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_logits: [B, K] float; constant (stop_gradient).
    temperature: T > 0, dimensionless.
  Returns:
    [B] float32, nats, scaled by T^2. Not reduced.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2.

  Example:
    >>> student = jnp.log(jnp.array([[1.0, 1.0]]))
    >>> teacher = jnp.log(jnp.array([[1.0, 3.0]]))
    >>> print(reverse_kl(student, teacher))  # log(4 / 3) / 2
    [0.143...]
  """
  log_s, log_t = _relative_pair(student_logits, teacher_logits, temperature)
  return temperature**2 * _divergence(log_s, log_t)


def jensen_shannon(
  student_logits: jax.Array,
  teacher_logits: jax.Array,
  *,
  temperature: float = 1.0,
  beta: float = 0.5,
) -> jax.Array:
  """Computes the generalized Jensen-Shannon divergence, both softened.

  L = T^2 (beta KL(t || m) + (1 - beta) KL(s || m)),
  m = beta t + (1 - beta) s,  t, s = softmax(logits / T)

  L is symmetric at beta = 1/2. L / beta tends to `kl` as beta -> 0, and
  L / (1 - beta) tends to `reverse_kl` as beta -> 1. The reference has no T^2.

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

  Example:
    >>> student, teacher = jnp.array([[0.0, 100.0]]), jnp.array([[100.0, 0.0]])
    >>> print(jensen_shannon(student, teacher))  # log(2)
    [0.693...]
  """
  log_s, log_t = _relative_pair(student_logits, teacher_logits, temperature)
  # In log space, because m underflows if both logits are low.
  log_m = jnp.logaddexp(log_t + jnp.log(beta), log_s + jnp.log1p(-beta))
  divergence = beta * _divergence(log_t, log_m)
  divergence += (1 - beta) * _divergence(log_s, log_m)
  return temperature**2 * divergence


def squared_error(
  student_logits: jax.Array, teacher_logits: jax.Array
) -> jax.Array:
  """Computes half the mean squared difference of centered logits.

  L = 1/(2K) sum_k ((s_k - mean s) - (t_k - mean t))^2

  L is the limit of `kl` for large temperatures, constants included. Centering
  logits over classes does not change their softmax.

  Args:
    student_logits: [B, K] float; differentiated.
    teacher_logits: [B, K] float; constant (stop_gradient).
  Returns:
    [B] float32. Not reduced over the batch, and averaged over classes, as in
    the limit.
  Raises:
    ValueError: at trace time, if shapes differ or the rank is not 2.
  Reference: Ba and Caruana 2014, arXiv:1312.6184, equation 1; for the limit,
    Hinton et al. 2015, arXiv:1503.02531, equation 4.

  Example:
    >>> student, teacher = jnp.array([[4.0, 5.0, 6.0]]), jnp.zeros((1, 3))
    >>> print(squared_error(student, teacher))  # (1 + 0 + 1) / 6
    [0.333...]
  """
  check_logits(student_logits=student_logits, teacher_logits=teacher_logits)
  difference = as_float(student_logits) - as_float(
    jax.lax.stop_gradient(teacher_logits)
  )
  difference -= jnp.mean(difference, axis=-1, keepdims=True)
  return 0.5 * jnp.mean(jnp.square(difference), axis=-1)
