"""The metrics of a split's logits, as Python numbers for records."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.evaluation import metrics

_classification = jax.jit(metrics.classification)
_fidelity = jax.jit(metrics.fidelity)


def evaluate(
  logits: jax.Array,
  labels: jax.Array | np.ndarray,
  teacher_logits: jax.Array | None = None,
) -> dict[str, float | int]:
  """Returns every metric of a split by name.

  Args:
    logits: [N, K] of the network.
    labels: int [N].
    teacher_logits: [N, K]; None leaves out the comparison with the teacher.
  """
  values = _classification(logits, labels)
  if teacher_logits is not None:
    values = values | _fidelity(logits, teacher_logits)
  return {name: value.item() for name, value in values.items()}


def by_class(
  logits: jax.Array, labels: jax.Array | np.ndarray
) -> dict[str, list[int]]:
  """Returns the 'errors' and the 'examples' of each class, two lists of K."""
  num_classes = np.shape(logits)[-1]
  labels = np.asarray(labels)
  wrong = np.argmax(logits, axis=-1) != labels
  count = lambda chosen: np.bincount(chosen, minlength=num_classes).tolist()
  return {'errors': count(labels[wrong]), 'examples': count(labels)}


def reliability(
  logits: jax.Array, labels: jax.Array | np.ndarray
) -> dict[str, list[float]]:
  """Returns the bins of the reliability diagram as lists."""
  bins = metrics.reliability(logits, labels)
  return {name: np.asarray(value).tolist() for name, value in bins.items()}


def add_bias(
  logits: jax.Array, classes: Sequence[int], bias: float
) -> jax.Array:
  """Returns logits [N, K] with the bias added to the logits of some classes."""
  return jnp.asarray(logits).at[:, np.asarray(classes)].add(bias)


def choose_bias(
  logits: jax.Array | np.ndarray,
  labels: jax.Array | np.ndarray,
  classes: Sequence[int],
) -> float:
  """Returns the bias on the logits of some classes that makes fewest errors.

  The number of errors is a step function of the bias. A step is at each bias
  from which on an example is predicted as one of the classes. The function
  returns the middle of the interval with the fewest errors. If several
  intervals have the fewest errors, it returns the middle nearest to 0. An
  interval with one end has no middle: the point 1 beyond the end replaces it.

  Args:
    logits: [N, K].
    labels: int [N].
    classes: some of the K classes, not all.
  """
  logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
  inside = np.isin(np.arange(logits.shape[-1]), classes)
  within = np.where(inside, logits, -np.inf)
  without = np.where(inside, -np.inf, logits)
  gain = (np.argmax(within, axis=-1) == labels).astype(int) - (
    np.argmax(without, axis=-1) == labels
  )
  # The logits are float32: steps that differ only in the last bits are one.
  step_biases = np.max(without, axis=-1) - np.max(within, axis=-1)
  steps, step_of_example = np.unique(
    np.round(step_biases, 5), return_inverse=True
  )
  change = np.bincount(step_of_example, gain)
  # Correct examples in each interval, relative to a bias of -infinity.
  correct = np.concatenate([[0], np.cumsum(change)])
  middles = (steps[1:] + steps[:-1]) / 2
  candidates = np.concatenate([[steps[0] - 1], middles, [steps[-1] + 1]])
  best = candidates[correct == correct.max()]
  return float(best[np.argmin(np.abs(best))])
