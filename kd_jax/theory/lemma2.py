"""Lemma 2: a bound on the squared error of the distilled risk."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from kd_jax.theory import populations, risk, sampled_risks, tables_and_curves

# Teachers whose squared errors are plotted, and the names of the plots.
_PLOTTED_TEACHERS = {
  'p*': 'bayes_teacher',
  '10 % uniform': 'near_teacher',
  '30 % of other examples': 'far_teacher',
}
# A squared bias below this value is 0 up to rounding.
_ROUNDING = 1e-20
# Labels of each example that a random teacher has counted.
_NUM_LABELS = (1, 10, 100, 1000)


class _Task(NamedTuple):
  """A population and a predictor.

  Attributes:
    population: the population.
    losses: [X, K] float64; the predictor's losses.
    risk: R, the predictor's true risk.
    empirical_variance: the variance of the empirical risk for N = 1.
    largest_square: the squared range of the losses, which no squared error of a
      risk exceeds.
  """

  population: risk.Population
  losses: np.ndarray
  risk: float
  empirical_variance: float
  largest_square: float


def run_lemma2(config: ConfigDict) -> tables_and_curves.Results:
  """Compares the squared error of distilled risks with the lemma's bound.

  The paper leaves the bound's constant to O(). The constant is c^2, where c is
  the largest ||l(f(x))||_2; c is finite because logits are clipped. A bound is
  vacuous if it exceeds the squared range of the losses, since no squared error
  can exceed that.

  Args:
    config: a config of configs/theory.py:lemma2.
  """
  rng = np.random.default_rng(config.seed)
  task = _draw_task(config, rng)
  teachers = _fixed_teachers(task.population.label_probabilities, rng)
  samples = _draw_samples(config, task, teachers)
  rows = []
  curves = {}
  for name, teacher in teachers.items():
    terms = {
      n: risk.lemma2_terms(task.population, teacher, task.losses, n)
      for n in config.num_examples
    }
    sampled = {n: by_name[name] for n, by_name in samples.items()}
    rows.append(_fixed_row(name, task, teacher, terms, sampled))
    if name in _PLOTTED_TEACHERS:
      curves[_PLOTTED_TEACHERS[name]] = _plot(name, task, terms, sampled)
  return {
    'tables': _fixed_table(config, task, rows)
    | _random_table(config, task, rng),
    'curves': curves,
  }


def _draw_task(config: ConfigDict, rng: np.random.Generator) -> _Task:
  population = populations.draw_population(
    'mixture', rng, size=config.population_size, num_classes=config.num_classes
  )
  losses = populations.predictor_losses(
    'random', rng, population.label_probabilities, max_logit=config.clip
  )
  return _Task(
    population=population,
    losses=losses,
    risk=risk.population_risk(population, losses),
    empirical_variance=risk.empirical_variance(population, losses, 1),
    largest_square=float(np.square(np.max(losses) - np.min(losses))),
  )


def _fixed_teachers(
  label_probabilities: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
  """Returns the probabilities [X, K] of teachers near p* and far from it."""
  num_classes = label_probabilities.shape[-1]
  other = label_probabilities[rng.permutation(len(label_probabilities))]

  def mixed(part, with_probabilities):
    return (1 - part) * label_probabilities + part * with_probabilities

  def at_temperature(temperature):
    powers = np.power(label_probabilities, 1 / temperature)
    return powers / np.sum(powers, axis=-1, keepdims=True)

  return {
    'p*': label_probabilities,
    **{
      f'{100 * part:g} % uniform': (1 - part) * label_probabilities
      + part / num_classes
      for part in (0.1, 0.3, 1.0)
    },
    **{
      f'{100 * part:g} % of other examples': mixed(part, other)
      for part in (0.1, 0.3)
    },
    **{f'temperature {t:g}': at_temperature(t) for t in (0.5, 2.0, 5.0)},
    # This teacher predicts the same class as p*, with full confidence.
    'largest of p*': np.eye(num_classes)[
      np.argmax(label_probabilities, axis=-1)
    ],
  }


def _draw_samples(
  config: ConfigDict, task: _Task, teachers: Mapping[str, np.ndarray]
) -> dict[int, dict[str, sampled_risks.SampledEstimate]]:
  """Returns the distilled risks minus R, by N and by the teacher's name."""
  return sampled_risks.sample_risks_by_size(
    jax.random.fold_in(jax.random.key(config.seed), 0),
    task.population,
    {
      name: risk.distilled_losses(teacher, task.losses)[:, None] - task.risk
      for name, teacher in teachers.items()
    },
    sizes=config.num_examples,
    num_samples=config.num_samples,
  )


def _fixed_row(
  name: str,
  task: _Task,
  teacher: np.ndarray,
  terms: Mapping[int, risk.Lemma2Terms],
  sampled: Mapping[int, sampled_risks.SampledEstimate],
) -> list[Any]:
  """Returns a teacher's row of `_fixed_table`."""
  furthest = max(
    abs(sampled[n].squared_error - terms[n].squared_error)
    / sampled[n].squared_error_error
    for n in terms
  )
  by_size = list(terms.values())
  first, last = by_size[0], by_size[-1]
  reduction = task.empirical_variance - risk.distilled_variance(
    task.population, teacher, task.losses, 1
  )
  # The distilled risk beats the empirical risk while reduction / N > bias^2.
  has_bias = first.bias**2 > _ROUNDING
  return [
    name,
    first.distance,
    first.squared_distance,
    first.bias**2,
    first.squared_error / first.bound,
    last.squared_error / last.bound,
    last.bound / task.largest_square,
    reduction / first.bias**2 if has_bias else None,
    furthest,
  ]


def _fixed_table(
  config: ConfigDict, task: _Task, rows: list[list[Any]]
) -> dict[str, Any]:
  """Returns the table of fixed teachers, by its title."""
  smallest, largest = config.num_examples[0], config.num_examples[-1]
  constant = float(np.max(np.linalg.norm(task.losses, axis=-1)))
  columns = [
    'teacher',
    'E‖p_t - p*‖',
    'E‖p_t - p*‖^2',
    'bias^2',
    f'E[D^2] / bound, N = {smallest}',
    f'E[D^2] / bound, N = {largest:,}',
    f'bound / largest D^2, N = {largest:,}',
    'better than labels up to N',
    'furthest sample, standard errors',
  ]
  title = f'One teacher each; c = {constant:.4g}'
  return {title: tables_and_curves.make_table(columns, rows)}


def _plot(
  name: str,
  task: _Task,
  terms: Mapping[int, risk.Lemma2Terms],
  sampled: Mapping[int, sampled_risks.SampledEstimate],
) -> dict[str, Any]:
  """Returns a plot of squared errors; error bars are two standard errors."""
  line = tables_and_curves.make_line
  return {
    'title': f'teacher: {name}',
    'x_label': 'examples N',
    'y_label': 'squared error of the distilled risk',
    'lines': {
      'exact': line(terms, [term.squared_error for term in terms.values()]),
      'bound': line(terms, [term.bound for term in terms.values()]),
      'labels': line(terms, [task.empirical_variance / n for n in terms]),
      'sampled': line(
        sampled,
        [found.squared_error for found in sampled.values()],
        [2 * found.squared_error_error for found in sampled.values()],
        points=True,
      ),
    },
  }


def _random_table(
  config: ConfigDict, task: _Task, rng: np.random.Generator
) -> dict[str, Any]:
  """Returns the table of random teachers, by its title."""
  n = config.num_examples[len(config.num_examples) // 2]
  rows = []
  for num_labels in _NUM_LABELS:
    teachers = _counting_teachers(
      task.population.label_probabilities, rng, num_labels, config.num_teachers
    )
    terms = risk.average_lemma2_terms(task.population, teachers, task.losses, n)
    rows.append(
      [
        f'from {num_labels} labels of each example',
        *terms,
        terms.squared_error / terms.bound,
        terms.bound / task.largest_square,
      ]
    )
  columns = [
    'teachers',
    'E[D^2]',
    'Var / N',
    'E‖E p_t - p*‖^2',
    'Var p_t',
    'bound',
    'E[D^2] / bound',
    'bound / largest D^2',
  ]
  title = f'On average over {config.num_teachers} teachers, N = {n:,}'
  return {title: tables_and_curves.make_table(columns, rows)}


def _counting_teachers(
  label_probabilities: np.ndarray,
  rng: np.random.Generator,
  num_labels: int,
  num_teachers: int,
) -> np.ndarray:
  """Returns teachers that estimate p* from labels of every example.

  The teachers use Laplace smoothing: they add one label of each class, which is
  their bias.

  Args:
    label_probabilities: [X, K] float64; p*(x).
    rng: the random generator of the labels.
    num_labels: labels that a teacher sees of each example.
    num_teachers: M.
  Returns:
    [M, X, K] float64; probabilities.
  """
  counts = rng.multinomial(
    num_labels, label_probabilities, (num_teachers, len(label_probabilities))
  )
  return (counts + 1) / (num_labels + label_probabilities.shape[-1])
