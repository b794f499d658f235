"""Timing of jitted forward passes: compiled ahead, warm, in turn.

Each round times all networks, so that other work on the machine affects all of
them alike. The ratio of two networks is taken in each round, and its quartiles
describe the spread. A small network after a large one has cold caches, as in a
service that runs both networks; alone, the small network is faster.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import logging
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.benchmark import cold_calls, timing
from kd_jax.data import preprocessing
from kd_jax.models import costs, from_config
from kd_jax.runtime import compilation_cache

PyTree = Any


class TimedNetwork(NamedTuple):
  """A forward pass and its variables.

  Attributes:
    fn: (variables, images uint8 [B, H, W, C]) -> predicted classes [B].
    variables: {'params': ..., 'batch_stats': ...}.
    parameters: the number of parameters as trained, without batch statistics.
  """

  fn: Callable[[PyTree, jax.Array], jax.Array]
  variables: dict[str, PyTree]
  parameters: int


def make_network(
  module: nn.Module, variables: PyTree, *, scaling: str, parameters: int
) -> TimedNetwork:
  """Returns a network that maps stored images to predicted classes.

  Args:
    module: the Flax module.
    variables: the variables of the module.
    scaling: the name of the scaling of the inputs.
    parameters: the number of parameters as trained.
  """

  def predict(variables, images):
    images = preprocessing.unfused(scaling)(images)
    logits, _ = module.apply(variables, images, train=False)
    return jnp.argmax(logits, axis=-1)

  return TimedNetwork(predict, variables, parameters)


def distinct_models(
  rows: Mapping[str, ConfigDict],
) -> tuple[dict[str, ConfigDict], dict[str, str]]:
  """Finds the student models that differ in cost.

  Models that differ only in temperature cost the same. They count as one
  network, which has the name of its first row.

  Args:
    rows: closed configs by row.
  Returns:
    The config sections of the models by network, and the network of each row.
  """
  models: dict[str, ConfigDict] = {}
  network_by_row: dict[str, str] = {}
  for row, config in rows.items():
    model = config_lib.canonical_model(config.student)
    model.temperature = 1.0
    equal_models = (name for name, other in models.items() if other == model)
    network_by_row[row] = next(equal_models, row)
    models.setdefault(network_by_row[row], model)
  return models, network_by_row


def measure(
  networks: Mapping[str, TimedNetwork],
  images: jax.Array,
  *,
  batch_sizes: Sequence[int],
  budget_s: float,
) -> dict[str, Any]:
  """Counts and times networks, and compares them with the first one.

  Args:
    networks: networks by name; the first (the teacher) is the reference.
    images: uint8 [N, H, W, C]; repeated for batches of more than N images.
    batch_sizes: images per call.
    budget_s: timed seconds for each network at each batch size.
  Returns:
    JSON values: for each network 'parameters', 'parameter_bytes', 'macs' (the
    multiply-accumulates per image), and 'batches', by batch size, see
    `_measure_batch`.
  """
  one_image = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
  results: dict[str, Any] = {
    name: {
      'parameters': network.parameters,
      'parameter_bytes': sum(
        leaf.nbytes for leaf in jax.tree.leaves(network.variables['params'])
      ),
      'macs': costs.count_macs(network.fn, network.variables, one_image),
      'batches': {},
    }
    for name, network in networks.items()
  }
  for batch_size in batch_sizes:
    repeats = -(-batch_size // images.shape[0])
    batch = jnp.concatenate([images] * repeats)[:batch_size]
    for name, measured in _measure_batch(networks, batch, budget_s).items():
      results[name]['batches'][str(batch_size)] = measured
  return results


def _measure_batch(
  networks: Mapping[str, TimedNetwork], images: jax.Array, budget_s: float
) -> dict[str, dict[str, Any]]:
  """Compiles networks for one batch, and times them in turn.

  Returns:
    For each network 'compile_s', the quartiles of 'call_s' and of 'ratio', the
    seconds of the first network / the network's in each round, and
    'bytes_accessed', the bytes that the compiled function moves by XLA's count.
  """
  compiled = {
    name: _compile(network, images) for name, network in networks.items()
  }
  seconds = timing.interleave(
    {
      name: functools.partial(compiled[name][0], network.variables, images)
      for name, network in networks.items()
    },
    budget_s=budget_s,
  )
  reference_s = seconds[next(iter(networks))]
  results = {}
  for name, (compiled_fn, compile_s) in compiled.items():
    rounds = zip(reference_s, seconds[name], strict=True)
    cost = compiled_fn.cost_analysis() or {}
    results[name] = {
      'compile_s': compile_s,
      'call_s': timing.quartiles(seconds[name]),
      'ratio': timing.quartiles(
        [first_s / call_s for first_s, call_s in rounds]
      ),
      'bytes_accessed': cost.get('bytes accessed'),
    }
  return results


def _compile(
  network: TimedNetwork, images: jax.Array
) -> tuple[jax.stages.Compiled, float]:
  """Returns the function compiled for a batch, and the compile seconds."""
  with compilation_cache.bypassed():
    start = time.perf_counter()
    compiled = jax.jit(network.fn).lower(network.variables, images).compile()
    return compiled, time.perf_counter() - start


def benchmark_inference(
  config: ConfigDict,
  models: Mapping[str, ConfigDict],
  network_by_row: Mapping[str, str],
  variables: Mapping[str, PyTree],
  dataset: data.Dataset,
) -> dict[str, Any]:
  """Runs the inference benchmarks that a config's benchmark section requests.

  These are warm forward passes (`measure`) and first calls (`cold_calls`).

  Args:
    config: the closed config of a row.
    models: config sections by network; the first is the ratios' reference.
    network_by_row: the network of each row.
    variables: the variables of each network, see `from_config.deploy`.
    dataset: the data set whose test images are classified.
  Returns:
    JSON values for run.json.
  """
  section = config.benchmark
  logging.info('benchmark: batch sizes %s', section.batch_sizes)
  networks = {
    name: make_network(
      *from_config.deploy(model, dataset.task, variables[name]),
      scaling=config.data.scaling,
      parameters=_count_trained(model, dataset.task),
    )
    for name, model in models.items()
  }
  record = {
    'config': config_lib.to_json(section),
    'network_of': dict(network_by_row),
    'reference': next(iter(models)),
    'networks': measure(
      networks,
      jnp.asarray(dataset.test.images[: max(section.batch_sizes, default=1)]),
      batch_sizes=section.batch_sizes,
      budget_s=section.budget_s,
    ),
  }
  if section.cold_calls:
    record['cold_calls'] = cold_calls.measure(
      {name: config_lib.to_json(model) for name, model in models.items()},
      num_classes=dataset.num_classes,
      image_shape=dataset.task.image_shape,
      examples=section.cold_call_examples,
      processes=section.cold_calls,
    )
  return record


def _count_trained(model: ConfigDict, task: data.ImageTask) -> int:
  """Returns the number of parameters that a model's training has.

  A deployed network may have fewer, because its batch norms are folded.
  """
  variables = from_config.variables_like(model, task)
  return costs.count_parameters(variables['params'])
