"""Lemma 1: the Bayes-distilled risk varies less than the empirical risk."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from kd_jax.theory import populations, risk, sampled_risks, tables_and_curves

# For losses of size 1, rounding alone explains variances below this value.
_ROUNDING = 1e-12
# The rows whose variances are plotted.
_PLOTTED_ROWS = ('mixture, random', 'mixture, bayes')
_EXACT_COLUMNS = [
  'population, predictor',
  'risk R',
  'empirical',
  'Bayes-distilled',
  'E_x Var(l given x)',
  'residual',
  'Bayes / empirical',
]
_SAMPLED_COLUMNS = [
  'population, predictor',
  'slope, empirical',
  'slope, Bayes',
  'furthest mean, standard errors',
  'furthest variance, standard errors',
]


def run_lemma1(config: ConfigDict) -> tables_and_curves.Results:
  """Compares the variances of the empirical and the Bayes-distilled risk.

  Both variances are computed exactly. Up to rounding, their difference equals
  E_x[Var_y|x l] / N. The variances of drawn samples lie on the exact lines, and
  the means of both estimates equal the risk: "Bayes' risk is less than the
  empirical risk" holds for variances, not for risks.

  Args:
    config: a config of configs/theory.py:lemma1.
  """
  rng = np.random.default_rng(config.seed)
  exact_rows, sampled_rows, curves = [], [], {}
  for number, kind in enumerate(populations.POPULATIONS):
    population = populations.draw_population(
      kind, rng, size=config.population_size, num_classes=config.num_classes
    )
    losses = {
      predictor: populations.predictor_losses(
        predictor,
        rng,
        population.label_probabilities,
        max_logit=config.clip,
      )
      for predictor in populations.PREDICTORS
    }
    samples = _draw_samples(config, number, population, losses)
    for predictor in populations.PREDICTORS:
      row = f'{kind}, {predictor}'
      exact = _exact_variances(population, losses[predictor])
      sampled = {
        estimate: [by_name[predictor, estimate] for by_name in samples.values()]
        for estimate in exact
      }
      exact_rows.append(_exact_row(row, population, losses[predictor], exact))
      sampled_rows.append(
        [row, *_agreement(config.num_examples, exact, sampled)]
      )
      if row in _PLOTTED_ROWS:
        curves[row.replace(', ', '_')] = {
          'title': row,
          'x_label': 'examples N',
          'y_label': 'variance of the risk',
          'lines': _variance_lines(config.num_examples, exact, sampled),
        }
  tables = {
    'Exact variances, times N': tables_and_curves.make_table(
      _EXACT_COLUMNS, exact_rows
    ),
    f'Samples: {config.num_samples:,} for each N': (
      tables_and_curves.make_table(_SAMPLED_COLUMNS, sampled_rows)
    ),
  }
  return {'tables': tables, 'curves': curves}


def _draw_samples(
  config: ConfigDict,
  number: int,
  population: risk.Population,
  losses: Mapping[str, np.ndarray],
) -> dict[int, dict[tuple[str, str], sampled_risks.SampledEstimate]]:
  """Returns both estimates minus R, by N and by (predictor, estimate)."""
  values = {}
  for predictor, predictor_losses in losses.items():
    true_risk = risk.population_risk(population, predictor_losses)
    values[predictor, 'empirical'] = predictor_losses - true_risk
    values[predictor, 'bayes'] = (
      risk.distilled_losses(population.label_probabilities, predictor_losses)[
        :, None
      ]
      - true_risk
    )
  return sampled_risks.sample_risks_by_size(
    jax.random.fold_in(jax.random.key(config.seed), number),
    population,
    values,
    sizes=config.num_examples,
    num_samples=config.num_samples,
  )


def _exact_variances(
  population: risk.Population, losses: np.ndarray
) -> dict[str, float]:
  """Returns both variances for N = 1; for N examples, divide them by N."""
  return {
    'empirical': risk.empirical_variance(population, losses, 1),
    'bayes': risk.distilled_variance(
      population, population.label_probabilities, losses, 1
    ),
  }


def _exact_row(
  row: str,
  population: risk.Population,
  losses: np.ndarray,
  exact: Mapping[str, float],
) -> list[Any]:
  """Returns a row of _EXACT_COLUMNS."""
  difference = risk.label_variance(population, losses, 1)
  is_constant = exact['empirical'] <= _ROUNDING
  return [
    row,
    risk.population_risk(population, losses),
    exact['empirical'],
    exact['bayes'],
    difference,
    abs(exact['empirical'] - exact['bayes'] - difference),
    None if is_constant else exact['bayes'] / exact['empirical'],
  ]


def _agreement(
  num_examples: Sequence[int],
  exact: Mapping[str, float],
  sampled: Mapping[str, Sequence[sampled_risks.SampledEstimate]],
) -> list[float | None]:
  """Compares samples with the exact values.

  Args:
    num_examples: the sample sizes N.
    exact: the variance for N = 1, by estimate.
    sampled: the distribution minus R for each N, by estimate.
  Returns:
    The slope of the log variance over log N for each estimate, None if the
    variance is 0; the largest distances of a mean and of a variance from the
    exact value, in standard errors, None if all variances are 0.
  """
  slopes: list[float | None] = []
  mean_distances, variance_distances = [], []
  for estimate, by_size in sampled.items():
    if exact[estimate] < _ROUNDING:
      slopes.append(None)
      continue
    slope, _ = np.polyfit(
      np.log(num_examples), np.log([found.variance for found in by_size]), 1
    )
    slopes.append(float(slope))
    for n, found in zip(num_examples, by_size, strict=True):
      mean_distances.append(abs(found.mean) / found.mean_error)
      variance_distances.append(
        abs(found.variance - exact[estimate] / n) / found.variance_error
      )
  return [
    *slopes,
    max(mean_distances, default=None),
    max(variance_distances, default=None),
  ]


def _variance_lines(
  num_examples: Sequence[int],
  exact: Mapping[str, float],
  sampled: Mapping[str, Sequence[sampled_risks.SampledEstimate]],
) -> dict[str, Any]:
  """Returns the lines of a plot; error bars are two standard errors long."""
  lines = {}
  sizes = np.array(num_examples)
  for estimate, variance in exact.items():
    lines[f'{estimate}, exact'] = tables_and_curves.make_line(
      sizes, variance / sizes
    )
    lines[f'{estimate}, sampled'] = tables_and_curves.make_line(
      sizes,
      [found.variance for found in sampled[estimate]],
      [2 * found.variance_error for found in sampled[estimate]],
      points=True,
    )
  return lines
