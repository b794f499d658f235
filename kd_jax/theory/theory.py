"""The paper's lemmas as experiments: exact sums, and samples on top of them.

Each is a function of a config from configs/theory.py that returns JSON values:
'tables' and 'curves', as report.py and plots.py draw them.
"""

import functools
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from kd_jax import models
from kd_jax.report import run_report
from kd_jax.runtime import environment, errors, files
from kd_jax.theory import risk
from kd_jax.training import build

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


# --- Students of Bayes' teacher, and of those that are less near it. ---


class Gaussians(NamedTuple):
  """Classes that are equally likely Gaussians of unit covariance.

  Attributes:
    means: [K, D], of the classes.
  """

  means: np.ndarray

  def draw(self, rng: np.random.Generator, count: int):
    """Returns examples [N, D] and their labels [N]."""
    labels = rng.integers(len(self.means), size=count)
    noise = rng.normal(size=(count, self.means.shape[1]))
    return self.means[labels] + noise, labels

  def log_posterior(self, examples: np.ndarray) -> np.ndarray:
    """log p*(x) of examples [N, D]: [N, K]."""
    away = examples[:, None] - self.means
    return _log_softmax(-0.5 * np.sum(np.square(away), axis=-1))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
  return -risk.cross_entropies(logits)


def _graded_teachers(log_posterior: np.ndarray, noise: np.ndarray):
  """Log-probabilities [N, K] of teachers by name, from log p* [N, K].

  Args:
    log_posterior: of the examples.
    noise: [..., N, K] standard normal, that some have in their logits.
  """
  num_classes = log_posterior.shape[-1]
  mixed = lambda part: np.log(
    (1 - part) * np.exp(log_posterior) + part / num_classes
  )
  return {
    'p*': log_posterior,
    **{
      f'temperature {t:g}': _log_softmax(log_posterior / t)
      for t in (0.25, 0.5, 2.0, 4.0)
    },
    **{f'{100 * part:g} % uniform': mixed(part) for part in (0.3, 0.7)},
    **{
      f'noise of {sd:g}': _log_softmax(log_posterior + sd * noise)
      for sd in (0.5, 1.0, 2.0)
    },
  }


def bayes_teacher(config: ConfigDict) -> Results:
  """What students learn from labels, from p*, and from graded teachers.

  Temperatures and mixtures leave a teacher's decisions, and its accuracy, what
  those of p* are; noise, of each example its own, costs accuracy. How good a
  student becomes is its mean KL divergence from p*, the risk that it has beyond
  the least.

  Reference: Menon et al. 2021, arXiv:2005.10419.
  """
  rng = np.random.default_rng(config.seed)
  world = Gaussians(
    config.separation * rng.normal(size=(config.num_classes, config.dimension))
  )
  test, _ = world.draw(rng, config.test_examples)
  log_posterior = world.log_posterior(test)
  grades = {
    name: _grade(log_posterior, own)
    for name, own in _graded_teachers(
      log_posterior, rng.normal(size=(_DRAWS, *log_posterior.shape))
    ).items()
  }
  divergence: dict[int, dict[str, np.ndarray]] = {}
  accuracy: dict[int, dict[str, np.ndarray]] = {}
  for n in config.num_examples:
    names, students = _train_students(config, world, rng, n, test)
    own = np.sum(
      np.exp(log_posterior) * (log_posterior - students), axis=-1
    ).mean(axis=-1)
    chosen = np.argmax(students, axis=-1)[..., None]
    hits = np.take_along_axis(
      np.broadcast_to(np.exp(log_posterior), students.shape), chosen, axis=-1
    ).mean(axis=(-2, -1))
    divergence[n] = dict(zip(names, own, strict=True))
    accuracy[n] = dict(zip(names, hits, strict=True))
  few, many = config.num_examples[0], config.num_examples[-1]
  rows = [
    [
      name,
      *grades.get(name, (None, None, None)),
      *(
        value
        for n in (few, many)
        for value in (
          divergence[n][name].mean(),
          _standard_error(divergence[n][name]),
          accuracy[n][name].mean(),
        )
      ),
    ]
    for name in divergence[few]
  ]
  correlations = [
    [
      f'{n:,}',
      *(
        _rank_correlation(
          [divergence[n][name].mean() for name in grades],
          [sign * grade[i] for grade in grades.values()],
        )
        for i, sign in ((1, 1), (2, 1), (0, -1))
      ),
    ]
    for n in config.num_examples
  ]
  return {
    'tables': {
      f'Means over {config.num_students} students': table(
        [
          'taught by',
          'its accuracy',
          'its E‖p_t - p*‖^2',
          'its E‖E p_t - p*‖^2',
          *(
            f'{column}, N = {n:,}'
            for n in (few, many)
            for column in ('KL from p*', 'standard error', 'accuracy')
          ),
        ],
        rows,
      ),
      "Rank correlation of students' KL from p* over teachers": table(
        [
          'N',
          "with the teacher's E‖p_t - p*‖^2",
          'with its E‖E p_t - p*‖^2',
          'with its error rate',
        ],
        correlations,
      ),
    },
    'curves': {
      'students': {
        'title': 'students of labels, of p* and of other teachers',
        'x_label': 'training examples N',
        'y_label': 'mean KL divergence from p*',
        'lines': {
          name: curve(
            config.num_examples,
            [divergence[n][name].mean() for n in config.num_examples],
            [
              2 * _standard_error(divergence[n][name])
              for n in config.num_examples
            ],
          )
          for name in (
            'labels',
            'p*',
            'temperature 0.25',
            'temperature 4',
            '30 % uniform',
            'noise of 1',
          )
        },
      }
    },
  }


# Of a teacher's noise, for what it is on average.
_DRAWS = 50


def _grade(log_posterior: np.ndarray, teacher: np.ndarray) -> tuple:
  """What there is to say of a teacher.

  Args:
    log_posterior: [N, K].
    teacher: its log-probabilities, [N, K] or draws of them, [M, N, K].
  Returns:
    Its expected accuracy; its mean squared distance to p*; and that of its mean
    over the draws.
  """
  truth = np.exp(log_posterior)
  probabilities = np.exp(teacher).reshape(-1, *truth.shape)
  chosen = np.argmax(probabilities, axis=-1)[..., None]
  hits = np.take_along_axis(truth[None], chosen, axis=-1)
  distance = lambda p: float(np.sum(np.square(p - truth), axis=-1).mean())
  return (
    float(hits.mean()),
    distance(probabilities),
    distance(probabilities.mean(axis=0)),
  )


def _standard_error(values: np.ndarray) -> float:
  return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _rank_correlation(a, b) -> float:
  """Spearman's; equal values share the mean of their ranks."""
  ranks = []
  for values in (a, b):
    values = np.round(values, 12)
    below = np.sum(values[None] < values[:, None], axis=1)
    equal = np.sum(values[None] == values[:, None], axis=1)
    ranks.append(below + (equal - 1) / 2)
  return float(np.corrcoef(*ranks)[0, 1])


def _train_students(config, world: Gaussians, rng, num_examples: int, test):
  """Trains a student of each teacher on each of several training sets.

  All of them in one program; the students of one training set start alike.

  Returns:
    What taught them, T names, and their log-probabilities of the test
    examples, [T, S, N, K].
  """
  inputs, targets = [], []
  for _ in range(config.num_students):
    examples, labels = world.draw(rng, num_examples)
    log_posterior = world.log_posterior(examples)
    taught = _graded_teachers(
      log_posterior, rng.normal(size=log_posterior.shape)
    )
    one_hot = np.eye(config.num_classes)[labels]
    inputs.append(examples)
    targets.append([one_hot, *map(np.exp, taught.values())])
  names = ['labels', *taught]
  module = models.MLP(hidden=(config.hidden,), num_classes=config.num_classes)
  optimizer = optax.adam(config.learning_rate)

  def train(key, examples, targets):
    params = module.init(key, examples[:1], train=False)

    def loss_fn(params):
      logits, _ = module.apply(params, examples, train=True)
      return jnp.mean(optax.softmax_cross_entropy(logits, targets))

    def step(carry, _):
      params, state = carry
      updates, state = optimizer.update(jax.grad(loss_fn)(params), state)
      return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(
      step, (params, optimizer.init(params)), length=config.steps
    )
    return jax.nn.log_softmax(
      module.apply(params, jnp.float32(test), train=False)[0]
    )

  # On a CPU one network after the other: its arrays stay in the cache.
  side_by_side = jax.default_backend() != 'cpu'
  each = (
    jax.vmap if side_by_side else lambda f: functools.partial(jax.lax.map, f)
  )

  def of_training_set(own):
    key, examples, targets = own
    return each(lambda target: train(key, examples, target))(targets)

  keys = jax.random.split(
    jax.random.key(config.seed + num_examples), config.num_students
  )
  students = jax.jit(each(of_training_set))(
    (keys, jnp.float32(inputs), jnp.float32(targets))
  )
  return names, np.swapaxes(np.asarray(students, np.float64), 0, 1)


EXPERIMENTS: dict[str, Callable[[ConfigDict], Results]] = {
  'lemma1': lemma1,
  'lemma2': lemma2,
  'bayes_teacher': bayes_teacher,
}


def run(config: ConfigDict, *, workdir: os.PathLike) -> dict[str, Any]:
  """Runs an experiment, once, and returns the content of its run.json.

  Raises:
    UserError: if the folder holds a run of another config.
  """
  workdir = pathlib.Path(workdir)
  plain = build.plain(config)
  with files.locked(workdir):
    record = files.read_json(workdir / 'run.json')
    if record is not None:
      differences = list(files.differences(plain, record['config'], 'config'))
      if differences:
        raise errors.UserError(
          f'{workdir} holds a run of another config:\n  '
          + '\n  '.join(differences)
          + '\nChoose another folder with --workdir, or remove this one'
        )
    else:
      environment.log_device()
      began = time.perf_counter()
      results = EXPERIMENTS[config.experiment](config)
      record = {
        'name': config.name,
        'command': ' '.join(sys.argv),
        'config': plain,
        'environment': environment.describe(),
        'seconds': time.perf_counter() - began,
        'results': results,
        'status': 'complete',
      }
      files.write_json(workdir / 'run.json', record)
    run_report.write(workdir, record)
  return record
