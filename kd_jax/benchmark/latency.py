"""Times jitted forward passes: compiled ahead, warm, blocked on, interleaved.

Networks are timed in turn, A B C A B C ..., so that what else the machine does
falls on all of them alike; the ratio of two networks is taken round by round,
and its quartiles are its spread. A small network is thus timed with cold
caches after a large one, as in a service that runs both; alone it is faster.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from kd_jax import data, methods
from kd_jax.benchmark import cold_calls, timing
from kd_jax.data import preprocessing
from kd_jax.models import costs
from kd_jax.runtime import compilation_cache
from kd_jax.teachers import stored_outputs as teacher_outputs
from kd_jax.training import build, train

PyTree = Any


class Network(NamedTuple):
  """A forward pass, `fn(variables, images) -> predictions`, and its variables.

  Of these, {'params': ..., 'batch_stats': ...}, the latter are no parameters.
  `parameters` is the number of these, as trained.
  """

  fn: Callable[[PyTree, jax.Array], jax.Array]
  variables: dict[str, PyTree]
  parameters: int


def make_network(
  module: nn.Module, variables: PyTree, *, scaling: str, parameters: int
) -> Network:
  """Returns a module's way from stored images to predicted classes."""

  def predict(variables, images):
    images = preprocessing.apart(scaling)(images)
    logits, _ = module.apply(variables, images, train=False)
    return jnp.argmax(logits, axis=-1)

  return Network(predict, variables, parameters)


def distinct_models(
  rows: Mapping[str, ConfigDict],
) -> tuple[dict[str, ConfigDict], dict[str, str]]:
  """Returns the student models that differ in cost, and each row's.

  Networks that differ in temperature alone cost the same: one is timed, under
  the name of the first row that has it.
  """
  models: dict[str, ConfigDict] = {}
  network_of: dict[str, str] = {}
  for row, config in rows.items():
    model = build.network(config.student)
    model.temperature = 1.0
    same = (name for name, other in models.items() if other == model)
    network_of[row] = next(same, row)
    models.setdefault(network_of[row], model)
  return models, network_of


def measure(
  networks: Mapping[str, Network],
  images: jax.Array,
  *,
  batch_sizes: Sequence[int],
  budget_s: float,
) -> dict[str, Any]:
  """Times networks against the first of them.

  Args:
    networks: by name; the first (the teacher) is the ratios' reference.
    images: uint8 [N, H, W, C]; repeated if a batch is larger.
    batch_sizes: examples a call.
    budget_s: of timed seconds for each network at each batch size.
  Returns:
    JSON values: for each network its parameters, multiply-accumulates an
    example, bytes of parameters; and for each batch size the compile time
    (s), the time of a call (s; median, quartiles, n), the bytes that XLA
    counts as moved, and the ratio reference / network round by round.
  """
  one = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
  results: dict[str, Any] = {
    name: {
      'parameters': network.parameters,
      'parameter_bytes': sum(
        leaf.nbytes for leaf in jax.tree.leaves(network.variables['params'])
      ),
      'macs': costs.count_macs(network.fn, network.variables, one),
      'batches': {},
    }
    for name, network in networks.items()
  }
  reference = next(iter(networks))
  for batch_size in batch_sizes:
    repeats = -(-batch_size // images.shape[0])
    batch = jnp.concatenate([images] * repeats)[:batch_size]
    compiled = {
      name: _compile(network, batch) for name, network in networks.items()
    }
    seconds = timing.interleave(
      {
        name: functools.partial(compiled[name][0], network.variables, batch)
        for name, network in networks.items()
      },
      budget_s=budget_s,
    )
    for name, (program, compile_s) in compiled.items():
      ratios = [
        teacher_s / own_s
        for teacher_s, own_s in zip(
          seconds[reference], seconds[name], strict=True
        )
      ]
      cost = program.cost_analysis() or {}
      results[name]['batches'][str(batch_size)] = {
        'compile_s': compile_s,
        'call_s': timing.quartiles(seconds[name]),
        'ratio': timing.quartiles(ratios),
        'bytes_accessed': cost.get('bytes accessed'),
      }
  return results


def _compile(network: Network, images: jax.Array):
  """Returns the program compiled for these shapes, and the seconds it took."""
  with compilation_cache.bypassed():
    began = time.perf_counter()
    compiled = jax.jit(network.fn).lower(network.variables, images).compile()
    return compiled, time.perf_counter() - began


# Steps are timed on so many examples: enough for any batch to be new, and few
# enough for their features.
_TIMED_EXAMPLES = 2000


def measure_training(
  rows: Mapping[str, ConfigDict],
  teacher: PyTree,
  dataset: data.Dataset,
  *,
  budget_s: float,
) -> dict[str, Any]:
  """Times training steps on stored teacher outputs and with a live teacher.

  Args:
    rows: closed configs by network.
    teacher: variables of its network; any will do.
    dataset: on the device.
    budget_s: of timed seconds for each step.
  Returns:
    JSON values: for each network the quartiles of 'stored_step_s' and of
    'live_step_s'.
  """
  results = {}
  for name, config in rows.items():
    logging.info('benchmark: training steps of %s', name)
    config = config.copy_and_resolve_references()
    # What a teacher adds is asked of rows that have no use for it, too: the
    # paper's program calls it for them.
    config.distill.kd_weight = config.distill.kd_weight or 1.0
    seconds = timing.interleave(
      {
        'stored_step_s': training_step(
          config, dataset, random_outputs(config, dataset)
        ),
        'live_step_s': training_step(
          config, dataset, {'teacher': teacher}, live=True
        ),
      },
      budget_s=budget_s,
    )
    results[name] = {
      which: timing.quartiles(values) for which, values in seconds.items()
    }
  return results


# Steps of a program that loops over them are timed so many at a time: one is
# not much more than its call.
_STEPS_A_CALL = 20


def measure_steps(
  rows: Mapping[str, ConfigDict],
  against: str,
  dataset: data.Dataset,
  *,
  budget_s: float,
) -> dict[str, Any]:
  """Times each row's training steps in turn with those of one row.

  All of them on stored outputs, whose values are random.

  Args:
    rows: closed configs, by name.
    against: the row that the others are held against.
    dataset: on the device.
    budget_s: of timed seconds for each step.
  Returns:
    JSON values: of each row that trains by itself, its quartiles of 'step_s'
    and of 'ratio', its step / the other's, round by round.
  """

  def make(config: ConfigDict):
    return training_step(
      config, dataset, random_outputs(config, dataset), steps=_STEPS_A_CALL
    )

  reference = make(rows[against])
  results = {}
  for name, config in rows.items():
    if config.teacher.rows:  # The steps are those of other rows.
      continue
    logging.info('benchmark: training steps of %s', name)
    seconds = timing.interleave(
      {'step_s': make(config), 'against': reference}, budget_s=budget_s
    )
    pairs = zip(seconds['step_s'], seconds['against'], strict=True)
    results[name] = {
      'step_s': timing.quartiles(seconds['step_s']),
      'ratio': timing.quartiles([own / other for own, other in pairs]),
    }
  return results


def _num_timed(dataset: data.Dataset) -> int:
  return min(len(dataset.train.labels), _TIMED_EXAMPLES)


def random_outputs(config: ConfigDict, dataset: data.Dataset) -> train.Batch:
  """Returns what a row has stored of a teacher, with random values."""
  rng, count = np.random.default_rng(0), _num_timed(dataset)
  layers = build.teacher_layers(
    config, dataset.num_classes, dataset.train.images.shape[1:]
  )
  return {
    'teacher_logits': jnp.asarray(
      rng.normal(size=(count, dataset.num_classes)), jnp.float32
    ),
    'teacher_features': {
      methods.stored_layer(layer, bits > 0): jnp.asarray(
        rng.uniform(0, 3, (count, *shape)), teacher_outputs.features_dtype(bits)
      )
      for bits, shapes in layers.items()
      for layer, shape in shapes.items()
    },
  }


def training_step(
  config: ConfigDict,
  dataset: data.Dataset,
  teacher: dict[str, Any],
  *,
  live: bool = False,
  steps: int = 1,
) -> Callable[[], Any]:
  """Returns a call that takes more steps of a row's training.

  Where the loop over steps is Python's, it takes one, and `steps` otherwise.

  Args:
    config: closed.
    dataset: on the device.
    teacher: the arrays of it that training has: outputs, or its variables.
    live: whether it has the latter.
    steps: a call.
  """
  count = _num_timed(dataset)
  arrays = {
    'images': jnp.asarray(dataset.train.images[:count]),
    'labels': dataset.train.labels[:count],
    **teacher,
  }
  programs_key = build.row_key(
    config,
    num_classes=dataset.num_classes,
    image_shape=dataset.train.images.shape[1:],
    total_steps=1,
    num_seeds=None,
    live_teacher=live,
  )
  programs = build.make_programs(programs_key)
  if programs_key.loop == 'host':
    steps = 1
  steps = min(steps, count // config.train.batch_size or 1)
  key = jax.random.key(0)
  order = programs.epochs.order(jnp.ones(count, bool), key)
  own = train.own_arrays(programs.epochs, key, count)
  settings = build.settings(config.optim, config.distill, 0)
  held = {'state': programs.init(key)}

  def step():
    held['state'], sums = programs.epochs.run(
      held['state'],
      programs.epochs.zero_sums(),
      order,
      arrays,
      own,
      count,
      0,
      steps,
      key,
      settings,
    )
    return held['state'], sums

  return step


def _count_trained(
  model: ConfigDict, num_classes: int, image_shape: tuple[int, ...]
) -> int:
  """Returns the number of parameters of a model section, as it is trained."""
  module = build.model(model, num_classes)
  variables = build.variables_like(module, image_shape)
  return costs.count_parameters(variables['params'])


def run(
  config: ConfigDict,
  models: Mapping[str, ConfigDict],
  network_of: Mapping[str, str],
  variables: Mapping[str, PyTree],
  dataset: data.Dataset,
) -> dict[str, Any]:
  """Does what a config's benchmark section asks for.

  Args:
    config: closed.
    models: config sections by network; the first is the ratios' reference.
    network_of: the network of each row.
    variables: of each network, see `build.deploy`.
    dataset: whose test images are classified.
  Returns:
    JSON values, for run.json.
  """
  section = config.benchmark
  logging.info('benchmark: batch sizes %s', section.batch_sizes)
  kind = dataset.num_classes, dataset.test.images.shape[1:]
  networks = {
    name: make_network(
      *build.deploy(model, *kind, variables[name]),
      scaling=config.data.scaling,
      parameters=_count_trained(model, *kind),
    )
    for name, model in models.items()
  }
  record = {
    'config': build.plain(section),
    'network_of': dict(network_of),
    'reference': next(iter(models)),
    'networks': measure(
      networks,
      jnp.asarray(dataset.test.images),
      batch_sizes=section.batch_sizes,
      budget_s=section.budget_s,
    ),
  }
  if section.cold_calls:
    record['cold_calls'] = cold_calls.measure(
      {name: build.plain(model) for name, model in models.items()},
      num_classes=dataset.num_classes,
      image_shape=dataset.test.images.shape[1:],
      examples=section.cold_call_examples,
      processes=section.cold_calls,
    )
  return record
