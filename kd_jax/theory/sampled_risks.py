"""Risks on finite populations, estimated from random samples."""

import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.theory import risk

Name = TypeVar('Name', bound=Hashable)


class SampledEstimate(NamedTuple):
  """The distribution of an estimate minus R over samples.

  R is the risk. Each moment has its standard error.

  Attributes:
    mean: the mean of the estimate minus R.
    mean_error: the standard error of `mean`.
    variance: the variance of the estimate.
    variance_error: the standard error of `variance`, from the fourth moment.
    squared_error: the mean square of the estimate minus R.
    squared_error_error: the standard error of `squared_error`.
  """

  mean: float
  mean_error: float
  variance: float
  variance_error: float
  squared_error: float
  squared_error_error: float


def sample_risks(
  key: jax.Array,
  population: risk.Population,
  values: Mapping[Name, np.ndarray],
  *,
  num_examples: int,
  num_samples: int,
) -> dict[Name, SampledEstimate]:
  """Draws samples of N labeled examples and averages values over each sample.

  Args:
    key: the random key of the samples.
    population: the population that examples are drawn from.
    values: the contribution of an example x with label y to an estimate minus
      R, [X, K] or [X, 1] float64, by the estimate's name: the loss or the
      distilled loss, minus R, so that float32 represents small differences.
    num_examples: N, examples in a sample.
    num_samples: S; one compiled function draws all samples.
  Returns:
    The distribution of each estimate, by its name.
  """
  joint = (
    population.example_probabilities[:, None] * population.label_probabilities
  )
  stacked = np.stack(
    [
      np.broadcast_to(contribution, joint.shape).ravel()
      for contribution in values.values()
    ],
    axis=-1,
  )
  means = np.asarray(
    _sample_means(
      key,
      jnp.float32(np.cumsum(joint.ravel())),
      jnp.float32(stacked),
      num_examples,
      num_samples,
    ),
    np.float64,
  )
  return {name: _summarize(means[:, i]) for i, name in enumerate(values)}


def sample_risks_by_size(
  key: jax.Array,
  population: risk.Population,
  values: Mapping[Name, np.ndarray],
  *,
  sizes: Sequence[int],
  num_samples: int,
) -> dict[int, dict[Name, SampledEstimate]]:
  """Calls `sample_risks` for several numbers of examples.

  Args:
    key: the random key; every size uses a key derived from it.
    population: the population that examples are drawn from.
    values: the contributions to each estimate; see `sample_risks`.
    sizes: the numbers N of examples in a sample.
    num_samples: samples of each size.
  Returns:
    The distribution of each estimate, by N and by the estimate's name.
  """
  return {
    size: sample_risks(
      jax.random.fold_in(key, size),
      population,
      values,
      num_examples=size,
      num_samples=num_samples,
    )
    for size in sizes
  }


@functools.partial(jax.jit, static_argnums=(3, 4))
def _sample_means(key, cumulative, values, num_examples, num_samples):
  """Returns the means of values over samples.

  Args:
    key: the random key of the samples.
    cumulative: [X K] float32; cumulative probabilities of (x, y).
    values: [X K, E] float32; contributions to E estimates.
    num_examples: N, examples in a sample; static.
    num_samples: S; static.
  Returns:
    [S, E] float32.
  """

  def sample_mean(key):
    uniform = jax.random.uniform(key, (num_examples,))
    # Rounding can leave the last cumulative probability below 1.
    drawn = jnp.searchsorted(cumulative[:-1], uniform, side='right')
    return jnp.mean(values[drawn], axis=0)

  # The batch size bounds the memory that a batch of samples takes.
  keys = jax.random.split(key, num_samples)
  return jax.lax.map(
    sample_mean, keys, batch_size=max(1, 2**18 // num_examples)
  )


def _summarize(deviations: np.ndarray) -> SampledEstimate:
  """Summarizes the deviations [S] of an estimate from the risk."""
  count = len(deviations)
  sample_variance = np.var(deviations, ddof=1)
  fourth = np.mean((deviations - np.mean(deviations)) ** 4)
  squares = np.square(deviations)
  return SampledEstimate(
    mean=float(np.mean(deviations)),
    mean_error=float(np.sqrt(sample_variance / count)),
    variance=float(sample_variance),
    variance_error=float(np.sqrt(max(fourth - sample_variance**2, 0) / count)),
    squared_error=float(np.mean(squares)),
    squared_error_error=float(np.std(squares) / np.sqrt(count)),
  )
