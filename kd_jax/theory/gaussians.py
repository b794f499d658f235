"""A classification task with known p*, and teachers of graded quality."""

from typing import NamedTuple

import numpy as np

from kd_jax.theory import risk

# Teachers distort p* by an error of their logits, and then by a temperature.
TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0)
ERROR_SIZES = (0.5, 1.0, 2.0)
ERROR_KINDS = ('noise', 'fixed error')
UNIFORM_PARTS = (0.3, 0.7)


class Gaussians(NamedTuple):
  """K equally likely classes: Gaussians of unit covariance in D dimensions.

  Attributes:
    means: [K, D] float64; the means of the classes.
  """

  means: np.ndarray

  def draw(
    self, rng: np.random.Generator, count: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Draws labeled examples.

    Args:
      rng: the random generator.
      count: N.
    Returns:
      Examples [N, D] float64 and labels [N] int.
    """
    labels = rng.integers(len(self.means), size=count)
    noise = rng.normal(size=(count, self.means.shape[1]))
    return self.means[labels] + noise, labels

  def log_posterior(self, examples: np.ndarray) -> np.ndarray:
    """Returns log p*(x), [N, K], of examples [N, D]."""
    offsets = examples[:, None] - self.means
    return log_softmax(-0.5 * np.sum(np.square(offsets), axis=-1))


def log_softmax(logits: np.ndarray) -> np.ndarray:
  """Returns the log-softmax of logits [..., K] float64."""
  return -risk.cross_entropies(logits)


def fixed_error(examples: np.ndarray, num_classes: int) -> np.ndarray:
  """Returns an error of a teacher's logits that is a function of the example.

  The error is linear in the example, with the same coefficients for every
  training set: it does not average out over examples, as noise does.

  Args:
    examples: [N, D] float64.
    num_classes: K.
  Returns:
    [N, K] float64, with a standard deviation of about 1.
  """
  rng = np.random.default_rng(0)
  dimension = examples.shape[-1]
  weights = rng.normal(size=(dimension, num_classes)) / np.sqrt(dimension)
  return examples @ weights


def graded_teachers(
  log_posterior: np.ndarray, noise: np.ndarray, error: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns the log-probabilities of p* and of teachers that distort p*.

  Each temperature is crossed with each size of noise and of the fixed error:
  a teacher's logits are (log p* + size * error) / temperature. A temperature
  changes no decision, and so not the accuracy. Two further teachers mix p* with
  the uniform distribution.

  Args:
    log_posterior: [N, K] float64; log p*(x).
    noise: [..., N, K] float64, standard normal, independent for each example.
    error: [N, K] float64; the fixed error.
  Returns:
    [N, K], or [..., N, K] for teachers with noise, by the teacher's name.
  """
  num_classes = log_posterior.shape[-1]
  logits = {'': log_posterior}
  for kind, values in zip(ERROR_KINDS, (noise, error), strict=True):
    for size in ERROR_SIZES:
      logits[f'{kind} of {size:g}'] = log_posterior + size * values
  teachers = {
    _name(name, temperature): log_softmax(values / temperature)
    for name, values in logits.items()
    for temperature in TEMPERATURES
  } | {'p*': log_posterior}  # without rounding errors
  for part in UNIFORM_PARTS:
    mixture = (1 - part) * np.exp(log_posterior) + part / num_classes
    teachers[f'{100 * part:g} % uniform'] = np.log(mixture)
  return teachers


def _name(error: str, temperature: float) -> str:
  parts = [error] if error else []
  if temperature != 1:
    parts.append(f'temperature {temperature:g}')
  return ', '.join(parts) or 'p*'


class Grade(NamedTuple):
  """The quality of a teacher.

  Attributes:
    accuracy: the expected accuracy, in [0, 1].
    squared_distance: E_x ||p_t - p*||_2^2.
    squared_distance_of_mean: E_x ||E p_t - p*||_2^2, where E p_t is the mean
      over draws of the teacher's noise.
  """

  accuracy: float
  squared_distance: float
  squared_distance_of_mean: float


def grade_teacher(log_posterior: np.ndarray, teacher: np.ndarray) -> Grade:
  """Measures the quality of a teacher.

  Args:
    log_posterior: [N, K] float64; log p*(x).
    teacher: [N, K] float64, the teacher's log-probabilities, or [M, N, K] for M
      draws of the teacher's noise.
  """
  posterior = np.exp(log_posterior)
  probabilities = np.exp(teacher).reshape(-1, *posterior.shape)

  def squared_distance(p):
    return float(np.sum(np.square(p - posterior), axis=-1).mean())

  return Grade(
    accuracy=float(correct_probabilities(log_posterior, probabilities).mean()),
    squared_distance=squared_distance(probabilities),
    squared_distance_of_mean=squared_distance(probabilities.mean(axis=0)),
  )


def correct_probabilities(
  log_posterior: np.ndarray, scores: np.ndarray
) -> np.ndarray:
  """Returns the probability that the class with the highest score is correct.

  Args:
    log_posterior: [N, K] float64; log p*(x).
    scores: [..., N, K] float; logits or probabilities.
  Returns:
    [..., N, 1] float64.
  """
  chosen = np.argmax(scores, axis=-1)[..., None]
  posterior = np.broadcast_to(np.exp(log_posterior), scores.shape)
  return np.take_along_axis(posterior, chosen, axis=-1)
