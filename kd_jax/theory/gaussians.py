"""A classification task with known p*, and teachers of graded quality."""

from typing import NamedTuple

import numpy as np

from kd_jax.theory import risk


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


def graded_teachers(
  log_posterior: np.ndarray, noise: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns the log-probabilities of p* and of teachers that distort p*.

  Args:
    log_posterior: [N, K] float64; log p*(x).
    noise: [..., N, K] float64, standard normal; three teachers add a multiple
      of the noise to their logits.
  Returns:
    [N, K], or [..., N, K] for teachers with noise, by the teacher's name.
  """
  num_classes = log_posterior.shape[-1]

  def mixed_with_uniform(part):
    return np.log((1 - part) * np.exp(log_posterior) + part / num_classes)

  return {
    'p*': log_posterior,
    **{
      f'temperature {t:g}': log_softmax(log_posterior / t)
      for t in (0.25, 0.5, 2.0, 4.0)
    },
    **{
      f'{100 * part:g} % uniform': mixed_with_uniform(part)
      for part in (0.3, 0.7)
    },
    **{
      f'noise of {sd:g}': log_softmax(log_posterior + sd * noise)
      for sd in (0.5, 1.0, 2.0)
    },
  }


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
