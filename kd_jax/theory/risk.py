"""Risks on finite populations, exact in float64.

Every example x of a population has a probability, and its label y has the
probabilities p*(x). A predictor f enters only through its losses l(y, f(x)),
one number for each x and y. From N independent labeled examples, the risk

  R = E_x[p*(x)^T l(f(x))]

is estimated in three ways. The empirical risk uses the labels that were drawn.
The Bayes-distilled risk uses p*(x_n). The distilled risk uses the probabilities
p_t(x_n) of a teacher. Sections 2 and A of the paper make claims about the means
and the variances of the three estimates. On a finite population these means and
variances are finite sums.
"""

from typing import NamedTuple

import numpy as np


class Population(NamedTuple):
  """A finite population of X examples with K classes.

  Attributes:
    example_probabilities: [X] float64; sums to 1.
    label_probabilities: [X, K] float64, p*(x); each row sums to 1.
  """

  example_probabilities: np.ndarray
  label_probabilities: np.ndarray


def mean(population: Population, values: np.ndarray) -> float:
  """Returns E_x[values] for values [X]."""
  return float(population.example_probabilities @ values)


def variance(population: Population, values: np.ndarray) -> float:
  """Returns Var_x[values] for values [X], as a mean of squares: never < 0."""
  return mean(population, np.square(values - mean(population, values)))


def distilled_losses(
  probabilities: np.ndarray, losses: np.ndarray
) -> np.ndarray:
  """Returns p(x)^T l(f(x)).

  Args:
    probabilities: [..., X, K] float; p(x).
    losses: [..., X, K] float; l(y, f(x)).
  Returns:
    [..., X] float.
  """
  return np.sum(probabilities * losses, axis=-1)


def population_risk(population: Population, losses: np.ndarray) -> float:
  """Returns the risk R of losses [X, K]."""
  return mean(
    population, distilled_losses(population.label_probabilities, losses)
  )


def empirical_variance(
  population: Population, losses: np.ndarray, num_examples: int
) -> float:
  """Returns the variance of the empirical risk.

  Args:
    population: the population that examples are drawn from.
    losses: [X, K] float64; l(y, f(x)).
    num_examples: N, examples in a sample.
  """
  risk = population_risk(population, losses)
  square = np.square(losses - risk)
  return population_risk(population, square) / num_examples


def distilled_variance(
  population: Population,
  probabilities: np.ndarray,
  losses: np.ndarray,
  num_examples: int,
) -> float:
  """Returns the variance of a distilled risk.

  Args:
    population: the population that examples are drawn from.
    probabilities: [X, K] float64; the teacher's p_t(x), or p*(x) for the
      Bayes-distilled risk.
    losses: [X, K] float64; l(y, f(x)).
    num_examples: N, examples in a sample.
  """
  values = distilled_losses(probabilities, losses)
  return variance(population, values) / num_examples


def label_variance(
  population: Population, losses: np.ndarray, num_examples: int
) -> float:
  """Returns E_x[Var_y|x l(y, f(x))] / N, the exact gap in Lemma 1.

  The gap is the empirical risk's variance minus the Bayes-distilled risk's. The
  gap is 0 if the loss is equal for all labels that an x can have.

  Args:
    population: the population that examples are drawn from.
    losses: [X, K] float64; l(y, f(x)).
    num_examples: N, examples in a sample.
  """
  mean_losses = distilled_losses(population.label_probabilities, losses)
  square = np.square(losses - mean_losses[:, None])
  return population_risk(population, square) / num_examples


class Lemma2Terms(NamedTuple):
  """The two sides of Lemma 2, and the terms that they consist of.

  D is the distilled risk minus R, and E[D^2] = variance + bias^2.

  Attributes:
    squared_error: E[D^2].
    variance: Var_x[p_t^T l] / N.
    bias: E_x[(p_t - p*)^T l].
    constant: c, the largest ||l(f(x))||_2.
    distance: E_x ||p_t - p*||_2.
    squared_distance: E_x ||p_t - p*||_2^2.
    bound: variance + c^2 distance^2, as the paper derives it.
  """

  squared_error: float
  variance: float
  bias: float
  constant: float
  distance: float
  squared_distance: float
  bound: float


def lemma2_terms(
  population: Population,
  teacher: np.ndarray,
  losses: np.ndarray,
  num_examples: int,
) -> Lemma2Terms:
  """Returns the terms of Lemma 2 for one fixed teacher.

  Args:
    population: the population that examples are drawn from.
    teacher: [X, K] float64; the teacher's probabilities p_t(x).
    losses: [X, K] float64; l(y, f(x)).
    num_examples: N, examples in a sample.
  """
  teacher_variance = distilled_variance(
    population, teacher, losses, num_examples
  )
  difference = teacher - population.label_probabilities
  bias = mean(population, distilled_losses(difference, losses))
  distances = np.linalg.norm(difference, axis=-1)
  constant = float(np.max(np.linalg.norm(losses, axis=-1)))
  distance = mean(population, distances)
  squared_distance = mean(population, np.square(distances))
  return Lemma2Terms(
    squared_error=teacher_variance + bias**2,
    variance=teacher_variance,
    bias=bias,
    constant=constant,
    distance=distance,
    squared_distance=squared_distance,
    bound=teacher_variance + constant**2 * distance**2,
  )


class AverageLemma2Terms(NamedTuple):
  """The terms of Lemma 2 on average over random teachers.

  Attributes:
    squared_error: E[D^2], over teachers and samples.
    variance: E_t Var_x[p_t^T l] / N.
    teacher_bias: E_x ||E_t p_t - p*||_2^2.
    teacher_variance: E_x E_t ||p_t - E_t p_t||_2^2.
    bound: variance + c^2 (teacher_bias + teacher_variance).
  """

  squared_error: float
  variance: float
  teacher_bias: float
  teacher_variance: float
  bound: float


def average_lemma2_terms(
  population: Population,
  teachers: np.ndarray,
  losses: np.ndarray,
  num_examples: int,
) -> AverageLemma2Terms:
  """Returns the terms of Lemma 2 on average over equally likely teachers.

  Args:
    population: the population that examples are drawn from.
    teachers: [M, X, K] float64; the probabilities of M teachers.
    losses: [X, K] float64; l(y, f(x)).
    num_examples: N, examples in a sample.
  """
  terms = [
    lemma2_terms(population, teacher, losses, num_examples)
    for teacher in teachers
  ]
  squared_error = float(np.mean([term.squared_error for term in terms]))
  average_variance = float(np.mean([term.variance for term in terms]))
  mean_teacher = np.mean(teachers, axis=0)
  bias = mean(
    population,
    np.sum(np.square(mean_teacher - population.label_probabilities), axis=-1),
  )
  spread = mean(
    population,
    np.mean(np.sum(np.square(teachers - mean_teacher), axis=-1), axis=0),
  )
  # The largest norm of the losses does not depend on the teacher.
  constant = terms[0].constant
  return AverageLemma2Terms(
    squared_error=squared_error,
    variance=average_variance,
    teacher_bias=bias,
    teacher_variance=spread,
    bound=average_variance + constant**2 * (bias + spread),
  )


def cross_entropies(logits: np.ndarray) -> np.ndarray:
  """Returns l(y, f(x)) = -log softmax(f(x))_y for every label y.

  Args:
    logits: [..., K] float64; f(x).
  Returns:
    [..., K] float64, nats.
  """
  largest = np.max(logits, axis=-1, keepdims=True)
  shifted = logits - largest
  return np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True)) - shifted
