"""Risks on finite populations: exact to float64, and as sampled.

Examples x of a population have chances, and labels y given x the probabilities
p*(x). A predictor f is its losses l(y, f(x)), a number for each x and y. From N
examples, each drawn with a label, three estimates of the risk

R = E_x[p*(x)^T l(f(x))]

are made: the empirical one of the labels drawn, the Bayes-distilled one of
p*(x_n), and the distilled one of a teacher's p_t(x_n). Sections 2 and A of the
paper are claims about their means and variances, which here are finite sums.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Population(NamedTuple):
  """A finite population, in float64.

  Attributes:
    chances: [X], of each example; they add up to 1.
    labels: [X, K], p*(x): each row adds up to 1.
  """

  chances: np.ndarray
  labels: np.ndarray


def mean(population: Population, values: np.ndarray) -> float:
  """E_x of values [X]."""
  return float(population.chances @ values)


def variance(population: Population, values: np.ndarray) -> float:
  """Var_x of values [X], as the mean of squares of what is never negative."""
  return mean(population, np.square(values - mean(population, values)))


def distilled_losses(probabilities: np.ndarray, losses: np.ndarray):
  """p(x)^T l(f(x)) of probabilities and losses [..., X, K]: [..., X]."""
  return np.sum(probabilities * losses, axis=-1)


def population_risk(population: Population, losses: np.ndarray) -> float:
  """R, of losses [X, K]."""
  return mean(population, distilled_losses(population.labels, losses))


def empirical_variance(
  population: Population, losses: np.ndarray, num_examples: int
) -> float:
  """Var of the empirical risk of so many examples."""
  risk = population_risk(population, losses)
  square = np.square(losses - risk)
  return population_risk(population, square) / num_examples


def distilled_variance(
  population: Population,
  probabilities: np.ndarray,
  losses: np.ndarray,
  num_examples: int,
) -> float:
  """Var of a distilled risk; of the Bayes-distilled one with p* itself."""
  values = distilled_losses(probabilities, losses)
  return variance(population, values) / num_examples


def label_variance(
  population: Population, losses: np.ndarray, num_examples: int
) -> float:
  """E_x[Var_y|x l(y, f(x))] / N: what Lemma 1's two sides differ by, exactly.

  It is 0 where the loss is the same for all labels that an x can have.
  """
  own = distilled_losses(population.labels, losses)[:, None]
  return population_risk(population, np.square(losses - own)) / num_examples


class Lemma2(NamedTuple):
  """The two sides of Lemma 2, and what they are made of.

  E[D^2] = variance + bias^2, where D is the distilled risk less R.

  Attributes:
    squared_error: E[D^2].
    variance: Var_x[p_t^T l] / N.
    bias: E_x[(p_t - p*)^T l].
    constant: c, the largest ||l(f(x))||_2.
    distance: E_x ||p_t - p*||_2.
    squared_distance: E_x ||p_t - p*||_2^2.
    bound: variance + c^2 distance^2, the paper's chain.
    loose_bound: variance + c^2 squared_distance: by Jensen no smaller.
  """

  squared_error: float
  variance: float
  bias: float
  constant: float
  distance: float
  squared_distance: float
  bound: float
  loose_bound: float


def lemma2(
  population: Population,
  teacher: np.ndarray,
  losses: np.ndarray,
  num_examples: int,
) -> Lemma2:
  """Returns Lemma 2 for a teacher's probabilities [X, K], fixed."""
  own = distilled_variance(population, teacher, losses, num_examples)
  difference = teacher - population.labels
  bias = mean(population, distilled_losses(difference, losses))
  away = np.linalg.norm(difference, axis=-1)
  constant = float(np.max(np.linalg.norm(losses, axis=-1)))
  distance = mean(population, away)
  squared_distance = mean(population, np.square(away))
  return Lemma2(
    squared_error=own + bias**2,
    variance=own,
    bias=bias,
    constant=constant,
    distance=distance,
    squared_distance=squared_distance,
    bound=own + constant**2 * distance**2,
    loose_bound=own + constant**2 * squared_distance,
  )


class RandomTeacher(NamedTuple):
  """Lemma 2 on average over teachers.

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


def random_teacher(
  population: Population,
  teachers: np.ndarray,
  losses: np.ndarray,
  num_examples: int,
) -> RandomTeacher:
  """Returns Lemma 2 for teachers [M, X, K], each as likely as another."""
  fixed = [lemma2(population, t, losses, num_examples) for t in teachers]
  average = lambda name: float(np.mean([getattr(own, name) for own in fixed]))
  middle = np.mean(teachers, axis=0)
  bias = mean(
    population, np.sum(np.square(middle - population.labels), axis=-1)
  )
  spread = mean(
    population, np.mean(np.sum(np.square(teachers - middle), axis=-1), axis=0)
  )
  constant = fixed[0].constant
  return RandomTeacher(
    squared_error=average('squared_error'),
    variance=average('variance'),
    teacher_bias=bias,
    teacher_variance=spread,
    bound=average('variance') + constant**2 * (bias + spread),
  )


def cross_entropies(logits: np.ndarray) -> np.ndarray:
  """l(y, f(x)) = -log softmax(f(x))_y of logits [..., K], float64."""
  largest = np.max(logits, axis=-1, keepdims=True)
  shifted = logits - largest
  return np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True)) - shifted


class Sampled(NamedTuple):
  """What samples say of an estimate, with standard errors.

  Attributes:
    mean: of the estimate.
    mean_error: standard error of that.
    variance: of the estimate.
    variance_error: standard error of that, from the fourth moment.
    squared_error: mean square of the estimate less R.
    squared_error_error: standard error of that.
  """

  mean: float
  mean_error: float
  variance: float
  variance_error: float
  squared_error: float
  squared_error_error: float


def sample_risks(
  key: jax.Array,
  population: Population,
  values: Mapping[str, np.ndarray],
  risk: float,
  *,
  num_examples: int,
  num_samples: int,
) -> dict[str, Sampled]:
  """Draws samples of N examples with labels, and averages values over each.

  Args:
    key: of the samples.
    population: that is drawn from.
    values: by the name of an estimate, what an example x with label y has part
      in it, [X, K] or [X, 1]: its loss, or a distilled one.
    risk: R, that estimates are held against.
    num_examples: N.
    num_samples: all of them in one program.
  """
  joint = population.chances[:, None] * population.labels
  # Less the risk, so that float32 holds small differences.
  stacked = np.stack(
    [
      np.broadcast_to(own, joint.shape).ravel() - risk
      for own in values.values()
    ],
    axis=-1,
  )
  means = np.asarray(
    _sample(
      key,
      jnp.float32(np.cumsum(joint.ravel())),
      jnp.float32(stacked),
      num_examples,
      num_samples,
    ),
    np.float64,
  )
  return {name: _sampled(means[:, i], risk) for i, name in enumerate(values)}


@functools.partial(jax.jit, static_argnums=(3, 4))
def _sample(key, cumulative, values, num_examples, num_samples):
  """Means [S, E] of values [X K, E] over draws from cumulative chances."""

  def one(key):
    uniform = jax.random.uniform(key, (num_examples,))
    # Rounding may leave the last of the sums below 1.
    drawn = jnp.searchsorted(cumulative[:-1], uniform, side='right')
    return jnp.mean(values[drawn], axis=0)

  # As many at a time as memory holds with ease.
  keys = jax.random.split(key, num_samples)
  return jax.lax.map(one, keys, batch_size=max(1, 2**18 // num_examples))


def _sampled(values: np.ndarray, risk: float) -> Sampled:
  """Sums up estimates [S], given less the risk."""
  count = len(values)
  own = np.var(values, ddof=1)
  fourth = np.mean((values - np.mean(values)) ** 4)
  return Sampled(
    mean=float(np.mean(values) + risk),
    mean_error=float(np.sqrt(own / count)),
    variance=float(own),
    variance_error=float(np.sqrt(max(fourth - own**2, 0) / count)),
    squared_error=float(np.mean(np.square(values))),
    squared_error_error=float(np.std(np.square(values)) / np.sqrt(count)),
  )
