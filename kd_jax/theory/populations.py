"""Populations and predictors, drawn at random by the name of their kind."""

import numpy as np

from kd_jax.theory import risk

POPULATIONS = ('deterministic', 'uniform', 'mixture')
PREDICTORS = ('indifferent', 'random', 'bayes', 'overconfident')


def draw_population(
  kind: str, rng: np.random.Generator, *, size: int, num_classes: int
) -> risk.Population:
  """Draws a population.

  Args:
    kind: a name in POPULATIONS, which determines the label probabilities.
    rng: the random generator.
    size: X, distinct examples.
    num_classes: K.
  Raises:
    ValueError: if the kind is unknown.
  """
  return risk.Population(
    example_probabilities=rng.dirichlet(np.ones(size)),
    label_probabilities=_label_probabilities(kind, rng, size, num_classes),
  )


def _label_probabilities(
  kind: str, rng: np.random.Generator, size: int, num_classes: int
) -> np.ndarray:
  """Returns p* of a population, [X, K]."""
  if kind == 'deterministic':
    return np.eye(num_classes)[rng.integers(num_classes, size=size)]
  if kind == 'uniform':
    return np.full((size, num_classes), 1 / num_classes)
  if kind == 'mixture':
    return rng.dirichlet(np.full(num_classes, 0.5), size)
  raise ValueError(
    f'unknown population {kind!r}; the populations are: '
    f'{", ".join(POPULATIONS)}'
  )


def predictor_losses(
  kind: str,
  rng: np.random.Generator,
  label_probabilities: np.ndarray,
  *,
  max_logit: float,
) -> np.ndarray:
  """Returns the cross-entropies of a predictor for every x and y.

  Args:
    kind: a name in PREDICTORS.
    rng: the random generator, which only the kind `random` uses.
    label_probabilities: [X, K] float64; p*(x).
    max_logit: the largest absolute value of a logit; logits are clipped.
  Returns:
    [X, K] float64, nats.
  Raises:
    ValueError: if the kind is unknown.
  """
  bayes_logits = np.log(np.maximum(label_probabilities, np.exp(-2 * max_logit)))
  if kind == 'indifferent':
    # The loss is constant over labels: Lemma 1 holds with equality.
    logits = np.zeros(label_probabilities.shape)
  elif kind == 'random':
    logits = 2 * rng.normal(size=label_probabilities.shape)
  elif kind == 'bayes':
    logits = bayes_logits
  elif kind == 'overconfident':
    logits = 4 * bayes_logits
  else:
    raise ValueError(
      f'unknown predictor {kind!r}; the predictors are: {", ".join(PREDICTORS)}'
    )
  logits = logits - np.mean(logits, axis=-1, keepdims=True)
  return risk.cross_entropies(np.clip(logits, -max_logit, max_logit))
