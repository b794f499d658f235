"""Accuracy, agreement and latency of exported networks."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.benchmark import timing
from kd_jax.evaluation import evaluate

# Maps images uint8 [B, H, W, C] to probabilities [B, K], in any runtime.
NetworkFn = Callable[[Any], jax.Array | np.ndarray]

# Latency is measured for a single image and for a large batch.
_LATENCY_BATCH_SIZES = (1, 100)
# Timed seconds for each network at each batch size.
BUDGET_S = 1.0


def measure(
  loaders: Mapping[str, Callable[[], NetworkFn]],
  images: Any,
  labels: Any,
  batch_size: int,
) -> dict[str, Any]:
  """Loads networks and compares all of them with the first one.

  Args:
    loaders: for each network, a function that loads it and returns its
      prediction function. The first network is the reference.
    images: uint8 [N, H, W, C] that the networks predict, the test split.
    labels: int [N]; None for images without labels.
    batch_size: images per call.
  Returns:
    JSON values. 'measured': for each network except the reference, the seconds
    of loading, the test metrics if there are labels, and the mean and the
    largest absolute difference from the probabilities of the reference.
    'latency': for each batch size and network, see `_measure_latency`.
  """
  networks: dict[str, NetworkFn] = {}
  load_s = {}
  for name, load in loaders.items():
    start = time.perf_counter()
    networks[name] = load()
    load_s[name] = time.perf_counter() - start
  probabilities = {
    name: _predict_split(network, images, batch_size)
    for name, network in networks.items()
  }
  reference, *others = networks
  measured = {}
  for name in others:
    differences = jnp.abs(probabilities[name] - probabilities[reference])
    measured[name] = {
      'load_s': load_s[name],
      **(
        {} if labels is None else {'test': _test(probabilities[name], labels)}
      ),
      'mean_difference': float(differences.mean()),
      'largest_difference': float(differences.max()),
    }
  # A small test split may have fewer images than the large batch.
  sizes = sorted({min(size, len(images)) for size in _LATENCY_BATCH_SIZES})
  latency = {
    str(size): _measure_latency(networks, images[:size]) for size in sizes
  }
  return {'measured': measured, 'latency': latency}


def _test(probabilities: jax.Array, labels: Any) -> dict[str, float | int]:
  """Returns the metrics of probabilities [N, K]."""
  return evaluate.evaluate(jnp.log(probabilities), labels)


def _predict_split(
  predict: NetworkFn, images: jax.Array, batch_size: int
) -> jax.Array:
  """Returns the probabilities [N, K] of images [N, H, W, C]."""
  starts = range(0, len(images), batch_size)
  return jnp.concatenate(
    [jnp.asarray(predict(images[i : i + batch_size])) for i in starts]
  )


def _measure_latency(
  networks: Mapping[str, NetworkFn], images: jax.Array
) -> dict[str, Any]:
  """Times calls of networks on one batch, in turn.

  Returns:
    For each network the quartiles of 'call_s', the seconds of a call, and of
    'over_REFERENCE', the ratio to the first network's seconds in each round.
  """
  seconds = timing.interleave(
    {
      name: functools.partial(predict, images)
      for name, predict in networks.items()
    },
    budget_s=BUDGET_S,
  )
  reference = next(iter(networks))
  return {
    name: {
      'call_s': timing.quartiles(call_s),
      f'over_{reference}': timing.quartiles(
        np.divide(call_s, seconds[reference])
      ),
    }
    for name, call_s in seconds.items()
  }
