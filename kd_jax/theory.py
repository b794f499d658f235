"""The paper's lemmas as experiments: exact sums, and samples on top of them.

Each is a function of a config from configs/theory.py that returns JSON values:
'tables' and 'curves', as report.py and plots.py draw them.
"""

import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from kd_jax import build, errors, records, report, risk

Results = dict[str, Any]

# Variances below this, of losses of size 1, are of rounding alone.
_ROUNDING = 1e-12


def table(columns: list[str], rows: list[list[Any]]) -> dict[str, Any]:
  """A table of names and numbers, for report.py."""
  return {'columns': columns, 'rows': rows}


def curve(x, y, error=None, *, points: bool = False) -> dict[str, Any]:
  """A line, or points with their standard errors, for plots.py."""
  return {
    'x': [float(value) for value in x],
    'y': [float(value) for value in y],
    'error': None if error is None else [float(value) for value in error],
    'points': points,
  }


# --- Populations, predictors, teachers: by name, from a generator. ---


def _labels(kind: str, rng: np.random.Generator, shape) -> np.ndarray:
  """p* of a population, [X, K]."""
  num_examples, num_classes = shape
  if kind == 'deterministic':
    return np.eye(num_classes)[rng.integers(num_classes, size=num_examples)]
  if kind == 'uniform':
    return np.full(shape, 1 / num_classes)
  if kind == 'mixture':
    return rng.dirichlet(np.full(num_classes, 0.5), num_examples)
  raise ValueError(f'unknown population {kind!r}')


def _logits(
  kind: str, rng: np.random.Generator, labels: np.ndarray, clip: float
) -> np.ndarray:
  """Logits of a predictor, [X, K], none larger than `clip` either way."""
  logits = {
    # The same for every label: the loss is constant, and the lemma's equality.
    'indifferent': lambda: np.zeros(labels.shape),
    'random': lambda: 2 * rng.normal(size=labels.shape),
    'bayes': lambda: np.log(np.maximum(labels, np.exp(-2 * clip))),
    'overconfident': lambda: 4 * np.log(np.maximum(labels, np.exp(-2 * clip))),
  }[kind]()
  logits = logits - np.mean(logits, axis=-1, keepdims=True)
  return np.clip(logits, -clip, clip)


POPULATIONS = ('deterministic', 'uniform', 'mixture')
PREDICTORS = ('indifferent', 'random', 'bayes', 'overconfident')


def _population(
  kind: str, rng: np.random.Generator, config: ConfigDict
) -> risk.Population:
  shape = (config.population_size, config.num_classes)
  return risk.Population(
    rng.dirichlet(np.ones(shape[0])), _labels(kind, rng, shape)
  )


# --- Lemma 1. ---


def lemma1(config: ConfigDict) -> Results:
  """Variances of the empirical and the Bayes-distilled risk.

  Both are exact, and their difference is E_x[Var_y|x l] / N to rounding. The
  samples of both lie on the exact lines, and their means on the risk: "Bayes'
  risk is less than the empirical risk" is true of variances, not of risks.
  """
  rng = np.random.default_rng(config.seed)
  exact_rows, sampled_rows, curves = [], [], {}
  for number, kind in enumerate(POPULATIONS):
    population = _population(kind, rng, config)
    losses = {
      name: risk.cross_entropies(
        _logits(name, rng, population.labels, config.clip)
      )
      for name in PREDICTORS
    }
    sampled = _sample(
      number, population, _estimates(population, losses), config
    )
    for name, own in losses.items():
      row = f'{kind}, {name}'
      exact = _exact_variances(population, own)
      difference = risk.label_variance(population, own, 1)
      exact_rows.append(
        [
          row,
          risk.population_risk(population, own),
          exact['empirical'],
          exact['bayes'],
          difference,
          abs(exact['empirical'] - exact['bayes'] - difference),
          exact['bayes'] / exact['empirical']
          if exact['empirical'] > _ROUNDING
          else None,
        ]
      )
      of_name = {
        estimate: [by_name[name, estimate] for by_name in sampled.values()]
        for estimate in exact
      }
      sampled_rows.append([row, *_agreement(config, exact, of_name)])
      if row in ('mixture, random', 'mixture, bayes'):
        curves[row.replace(', ', '_')] = {
          'title': row,
          'x_label': 'examples N',
          'y_label': 'variance of the risk',
          'lines': _variance_lines(config, exact, of_name),
        }
  return {
    'tables': {
      'Exact variances, times N': table(
        [
          'population, predictor',
          'risk R',
          'empirical',
          'Bayes-distilled',
          'E_x Var(l given x)',
          'what is left over',
          'Bayes / empirical',
        ],
        exact_rows,
      ),
      f'Samples: {config.num_samples:,} for each N': table(
        [
          'population, predictor',
          'slope, empirical',
          'slope, Bayes',
          'furthest mean, standard errors',
          'furthest variance, standard errors',
        ],
        sampled_rows,
      ),
    },
    'curves': curves,
  }


def _estimates(population, losses):
  """What examples have part in each estimate, less the predictor's risk."""
  values = {}
  for name, own in losses.items():
    true = risk.population_risk(population, own)
    values[name, 'empirical'] = own - true
    values[name, 'bayes'] = (
      risk.distilled_losses(population.labels, own)[:, None] - true
    )
  return values


def _exact_variances(
  population: risk.Population, losses: np.ndarray
) -> dict[str, float]:
  """Of one example; of N, these are divided by N."""
  return {
    'empirical': risk.empirical_variance(population, losses, 1),
    'bayes': risk.distilled_variance(population, population.labels, losses, 1),
  }


def _sample(number: int, population, values, config):
  """Samples of estimates less the risk, by N and by the values' names."""
  key = jax.random.fold_in(jax.random.key(config.seed), number)
  return {
    n: risk.sample_risks(
      jax.random.fold_in(key, n),
      population,
      values,
      0.0,
      num_examples=n,
      num_samples=config.num_samples,
    )
    for n in config.num_examples
  }


def _agreement(config, exact, sampled) -> list[float | None]:
  """Slopes of sampled variances over N, and how far samples are at most."""
  slopes, means, variances = [], [], []
  for name, own in sampled.items():
    if exact[name] < _ROUNDING:
      slopes.append(None)
      continue
    slope, _ = np.polyfit(
      np.log(config.num_examples), np.log([s.variance for s in own]), 1
    )
    slopes.append(float(slope))
    for n, found in zip(config.num_examples, own, strict=True):
      means.append(abs(found.mean) / found.mean_error)
      variances.append(
        abs(found.variance - exact[name] / n) / found.variance_error
      )
  return [*slopes, max(means, default=None), max(variances, default=None)]


def _variance_lines(config, exact, sampled) -> dict[str, Any]:
  lines = {}
  n = np.array(config.num_examples)
  for name, value in exact.items():
    lines[f'{name}, exact'] = curve(n, value / n)
    lines[f'{name}, sampled'] = curve(
      n,
      [found.variance for found in sampled[name]],
      [2 * found.variance_error for found in sampled[name]],
      points=True,
    )
  return lines


# --- Lemma 2. ---


def _teachers(
  labels: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
  """Probabilities [X, K] of teachers that are more and less near p*."""
  num_classes = labels.shape[-1]
  other = labels[rng.permutation(len(labels))]

  def at_temperature(temperature):
    powers = np.power(labels, 1 / temperature)
    return powers / np.sum(powers, axis=-1, keepdims=True)

  return {
    'p*': labels,
    **{
      f'{100 * part:g} % uniform': (1 - part) * labels + part / num_classes
      for part in (0.1, 0.3, 1.0)
    },
    **{
      f'{100 * part:g} % of other examples': (1 - part) * labels + part * other
      for part in (0.1, 0.3)
    },
    **{f'temperature {t:g}': at_temperature(t) for t in (0.5, 2.0, 5.0)},
    # It decides as p* does, and is sure of it.
    'largest of p*': np.eye(num_classes)[np.argmax(labels, axis=-1)],
  }


# Those whose squared errors are drawn, and the plots' names.
_DRAWN = {
  'p*': 'bayes_teacher',
  '10 % uniform': 'near_teacher',
  '30 % of other examples': 'far_teacher',
}


def _counting_teachers(
  labels: np.ndarray, rng: np.random.Generator, num_labels: int, count: int
) -> np.ndarray:
  """Teachers [M, X, K] that each saw so many labels of every example.

  They add one label of each class, as Laplace did: that is their bias.
  """
  counts = rng.multinomial(num_labels, labels, (count, len(labels)))
  return (counts + 1) / (num_labels + labels.shape[-1])


def lemma2(config: ConfigDict) -> Results:
  """The squared error of a distilled risk, and the lemma's bound on it.

  The constant that the paper leaves to O() is c^2, c the largest ||l(f(x))||_2:
  finite since logits are clipped. A bound is vacuous where it is above what no
  squared error can exceed, the square of the range of losses.
  """
  rng = np.random.default_rng(config.seed)
  population = _population('mixture', rng, config)
  losses = risk.cross_entropies(
    _logits('random', rng, population.labels, config.clip)
  )
  largest = float(np.square(np.max(losses) - np.min(losses)))
  empirical = risk.empirical_variance(population, losses, 1)
  teachers = _teachers(population.labels, rng)
  true = risk.population_risk(population, losses)
  samples = _sample(
    0,
    population,
    {
      name: risk.distilled_losses(teacher, losses)[:, None] - true
      for name, teacher in teachers.items()
    },
    config,
  )
  rows, curves = [], {}
  for name, teacher in teachers.items():
    sampled = {n: by_name[name] for n, by_name in samples.items()}
    exact = {
      n: risk.lemma2(population, teacher, losses, n)
      for n in config.num_examples
    }
    furthest = max(
      abs(sampled[n].squared_error - exact[n].squared_error)
      / sampled[n].squared_error_error
      for n in config.num_examples
    )
    first, last = exact[config.num_examples[0]], exact[config.num_examples[-1]]
    gained = empirical - risk.distilled_variance(population, teacher, losses, 1)
    rows.append(
      [
        name,
        first.distance,
        first.squared_distance,
        first.bias**2,
        first.squared_error / first.bound,
        last.squared_error / last.bound,
        last.bound / largest,
        gained / first.bias**2 if first.bias**2 > 1e-20 else None,
        furthest,
      ]
    )
    if name in _DRAWN:
      curves[_DRAWN[name]] = {
        'title': f'teacher: {name}',
        'x_label': 'examples N',
        'y_label': 'squared error of the distilled risk',
        'lines': {
          'exact': curve(exact, [own.squared_error for own in exact.values()]),
          'bound': curve(exact, [own.bound for own in exact.values()]),
          'labels': curve(exact, [empirical / n for n in exact]),
          'sampled': curve(
            sampled,
            [own.squared_error for own in sampled.values()],
            [2 * own.squared_error_error for own in sampled.values()],
            points=True,
          ),
        },
      }
  n, random_rows = config.num_examples[len(config.num_examples) // 2], []
  for num_labels in (1, 10, 100, 1000):
    teachers = _counting_teachers(
      population.labels, rng, num_labels, config.num_teachers
    )
    own = risk.random_teacher(population, teachers, losses, n)
    random_rows.append(
      [
        f'from {num_labels} labels of each example',
        own.squared_error,
        own.variance,
        own.teacher_bias,
        own.teacher_variance,
        own.bound,
        own.squared_error / own.bound,
        own.bound / largest,
      ]
    )
  smallest, most = config.num_examples[0], config.num_examples[-1]
  constant = float(np.max(np.linalg.norm(losses, axis=-1)))
  return {
    'tables': {
      f'One teacher each; c = {constant:.4g}': table(
        [
          'teacher',
          'E‖p_t - p*‖',
          'E‖p_t - p*‖^2',
          'bias^2',
          f'E[D^2] / bound, N = {smallest}',
          f'E[D^2] / bound, N = {most:,}',
          f'bound / largest D^2, N = {most:,}',
          'better than labels up to N',
          'furthest sample, standard errors',
        ],
        rows,
      ),
      f'On average over {config.num_teachers} teachers, N = {n:,}': table(
        [
          'teachers',
          'E[D^2]',
          'Var / N',
          'E‖E p_t - p*‖^2',
          'Var p_t',
          'bound',
          'E[D^2] / bound',
          'bound / largest D^2',
        ],
        random_rows,
      ),
    },
    'curves': curves,
  }


EXPERIMENTS: dict[str, Callable[[ConfigDict], Results]] = {
  'lemma1': lemma1,
  'lemma2': lemma2,
}


def run(config: ConfigDict, *, workdir: os.PathLike) -> dict[str, Any]:
  """Runs an experiment, once, and returns the content of its run.json.

  Raises:
    UserError: if the folder holds a run of another config.
  """
  workdir = pathlib.Path(workdir)
  plain = build.plain(config)
  with records.locked(workdir):
    record = records.read_json(workdir / 'run.json')
    if record is not None:
      differences = list(records.differences(plain, record['config'], 'config'))
      if differences:
        raise errors.UserError(
          f'{workdir} holds a run of another config:\n  '
          + '\n  '.join(differences)
          + '\nChoose another folder with --workdir, or remove this one'
        )
    else:
      records.log_device()
      began = time.perf_counter()
      results = EXPERIMENTS[config.experiment](config)
      record = {
        'name': config.name,
        'command': ' '.join(sys.argv),
        'config': plain,
        'environment': records.environment(),
        'seconds': time.perf_counter() - began,
        'results': results,
        'status': 'complete',
      }
      records.write_json(workdir / 'run.json', record)
    report.write(workdir)
  return record
