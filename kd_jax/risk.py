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
  """

  mean: float
  mean_error: float
  variance: float
  variance_error: float


def sample_risks(
  key: jax.Array,
  population: Population,
  teacher: np.ndarray,
  losses: np.ndarray,
  *,
  num_examples: int,
  num_samples: int,
) -> dict[str, Sampled]:
  """Draws samples of N examples, and returns what came of each estimate.

  Args:
    key: of the samples.
    population: that is drawn from.
    teacher: [X, K], its probabilities.
    losses: [X, K].
    num_examples: N.
    num_samples: drawn side by side, in one program.
  Returns:
    'empirical', 'bayes' and 'teacher'.
  """
  # Around the risk, so that float32 holds small differences.
  risk = population_risk(population, losses)
  draws = _sample(
    key,
    jnp.log(jnp.float32(population.chances)),
    jnp.log(jnp.float32(population.labels)),
    jnp.float32(losses - risk),
    jnp.float32(distilled_losses(population.labels, losses) - risk),
    jnp.float32(distilled_losses(teacher, losses) - risk),
    num_examples,
    num_samples,
  )
  return {
    name: _sampled(np.asarray(values, np.float64), risk)
    for name, values in draws.items()
  }


@functools.partial(jax.jit, static_argnums=(6, 7))
def _sample(
  key,
  log_chances,
  log_labels,
  losses,
  bayes,
  teacher,
  num_examples,
  num_samples,
):
  def one(key):
    x_key, y_key = jax.random.split(key)
    x = jax.random.categorical(x_key, log_chances, shape=(num_examples,))
    y = jax.random.categorical(y_key, log_labels[x])
    return {
      'empirical': jnp.mean(losses[x, y]),
      'bayes': jnp.mean(bayes[x]),
      'teacher': jnp.mean(teacher[x]),
    }

  # A part at a time: side by side they need memory.
  keys = jax.random.split(key, num_samples)
  return jax.lax.map(one, keys, batch_size=max(1, 2**20 // num_examples))


def _sampled(values: np.ndarray, risk: float) -> Sampled:
  count = len(values)
  own = np.var(values, ddof=1)
  fourth = np.mean((values - np.mean(values)) ** 4)
  return Sampled(
    mean=float(np.mean(values) + risk),
    mean_error=float(np.sqrt(own / count)),
    variance=float(own),
    variance_error=float(np.sqrt(max(fourth - own**2, 0) / count)),
  )
