"""Metrics of a classifier over a whole split, from its logits.

Pure functions on arrays: they take the logits [N, K] of every example and
return a float32 scalar or a small array. A split's logits take a few MB, so
metrics need no streaming, and no example is dropped.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import losses

NUM_BINS = 15  # of the reliability diagram and ECE, as in Guo et al. 2017


def errors(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the number of misclassified examples: [N, K], [N] -> int32."""
  return jnp.sum(jnp.argmax(logits, axis=-1) != labels)


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the top-1 accuracy in [0, 1]: [N, K], [N] -> float32."""
  return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


def nll(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the mean negative log-likelihood of the labels, in nats."""
  return jnp.mean(losses.cross_entropy(logits, labels))


def brier(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the mean Brier score, in [0, 2].

  The score of an example is sum_k (p_k - onehot_k)^2.

  Reference: Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
  """
  probs = jax.nn.softmax(logits.astype(jnp.float32))
  onehot = jax.nn.one_hot(labels, logits.shape[-1])
  return jnp.mean(jnp.sum(jnp.square(probs - onehot), axis=-1))


def reliability(
  logits: jax.Array,
  labels: jax.Array | np.ndarray,
  *,
  num_bins: int = NUM_BINS,
) -> dict[str, jax.Array]:
  """Returns accuracy against confidence, in equal-width bins of confidence.

  Bin i holds confidences in (i / num_bins, (i + 1) / num_bins].

  Args:
    logits: [N, K] float.
    labels: [N] int.
    num_bins: number of bins.
  Returns:
    count, accuracy and confidence, each [num_bins]; 0 where a bin is empty.
  Reference: Guo et al. 2017, arXiv:1706.04599, section 2.
  """
  probs = jax.nn.softmax(logits.astype(jnp.float32))
  confidence = jnp.max(probs, axis=-1)
  correct = jnp.argmax(logits, axis=-1) == labels
  index = jnp.ceil(confidence * num_bins).astype(jnp.int32) - 1
  index = jnp.clip(index, 0, num_bins - 1)
  total = lambda values: jax.ops.segment_sum(values, index, num_bins)
  count = total(jnp.ones_like(confidence))
  safe = jnp.maximum(count, 1)
  return {
    'count': count,
    'accuracy': total(correct.astype(jnp.float32)) / safe,
    'confidence': total(confidence) / safe,
  }


def ece(
  logits: jax.Array, labels: jax.Array, *, num_bins: int = NUM_BINS
) -> jax.Array:
  """Returns the expected calibration error, in [0, 1].

  sum_b (n_b / N) |accuracy_b - confidence_b| over the bins of `reliability`.

  Reference: Guo et al. 2017, arXiv:1706.04599, equation 3.
  """
  bins = reliability(logits, labels, num_bins=num_bins)
  gap = jnp.abs(bins['accuracy'] - bins['confidence'])
  return jnp.sum(bins['count'] * gap) / logits.shape[0]


def agreement(student_logits: jax.Array, teacher_logits: jax.Array):
  """Returns the share of examples on which both predict the same class."""
  same = jnp.argmax(student_logits, -1) == jnp.argmax(teacher_logits, -1)
  return jnp.mean(same)


def teacher_kl(student_logits: jax.Array, teacher_logits: jax.Array):
  """Returns the mean KL(teacher || student) at temperature 1, in nats."""
  return jnp.mean(losses.kl(student_logits, teacher_logits, temperature=1.0))


def classification(
  logits: jax.Array, labels: jax.Array
) -> dict[str, jax.Array]:
  """Returns the metrics that compare logits with labels, by name."""
  return {
    'accuracy': accuracy(logits, labels),
    'errors': errors(logits, labels),
    'nll': nll(logits, labels),
    'ece': ece(logits, labels),
    'brier': brier(logits, labels),
  }


def fidelity(
  student_logits: jax.Array, teacher_logits: jax.Array
) -> dict[str, jax.Array]:
  """Returns the metrics that compare student and teacher, by name."""
  return {
    'teacher_agreement': agreement(student_logits, teacher_logits),
    'teacher_kl': teacher_kl(student_logits, teacher_logits),
  }
