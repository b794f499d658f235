"""Random populations, teachers and losses for the tests of risks."""

import numpy as np

from kd_jax.theory import risk


def draw(
  seed: int, num_examples: int, num_classes: int, concentration: float
) -> tuple[risk.Population, np.ndarray, np.ndarray]:
  """Draws a population, a teacher and the losses of a predictor.

  Args:
    seed: the seed of the random generator.
    num_examples: X, distinct examples.
    num_classes: K.
    concentration: the parameter of the Dirichlet distributions; label
      probabilities are close to one-hot for small values.
  Returns:
    The population, the teacher's probabilities [X, K], the losses [X, K].
  """
  rng = np.random.default_rng(seed)
  example_probabilities = rng.dirichlet(np.full(num_examples, concentration))
  labels, teacher = rng.dirichlet(
    np.full(num_classes, concentration), (2, num_examples)
  )
  logits = 3 * rng.normal(size=(num_examples, num_classes))
  losses = risk.cross_entropies(logits)
  return risk.Population(example_probabilities, labels), teacher, losses
