"""Times jitted forward passes: compiled ahead, warm, blocked on, interleaved.

Networks are timed in turn, A B C A B C ..., so that what else the machine does
falls on all of them alike; the ratio of two networks is taken round by round,
and its quartiles are its spread.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
_MIN_ROUNDS = 5
_MAX_ROUNDS = 1000


class Network(NamedTuple):
  """A forward pass, `fn(params, images) -> predictions`, and its parameters."""

  fn: Callable[[PyTree, jax.Array], jax.Array]
  params: PyTree


def make_network(
  module: nn.Module,
  params: PyTree,
  batch_stats: PyTree,
  preprocess: Callable[[jax.Array], jax.Array],
) -> Network:
  """Returns a module's way from stored images to predicted classes."""

  def predict(params, images):
    variables = {'params': params, 'batch_stats': batch_stats}
    logits, _ = module.apply(variables, preprocess(images), train=False)
    return jnp.argmax(logits, axis=-1)

  return Network(predict, params)


def quartiles(values: Sequence[float]) -> dict[str, float | int]:
  """Returns the median, the quartiles and the number of measurements."""
  lower, median, upper = np.percentile(values, (25, 50, 75))
  return {
    'median': float(median),
    'lower': float(lower),
    'upper': float(upper),
    'n': len(values),
  }


def count_parameters(params: PyTree) -> int:
  """Returns the number of parameters."""
  return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(params))


def count_macs(fn: Callable[..., Any], *args) -> int:
  """Returns the multiply-accumulates of `fn(*args)`: products and convolutions.

  Counted on the traced program, before any compiler rewrites it; elementwise
  work is not counted. A loop counts as often as it runs, where that is known.
  """
  return _jaxpr_macs(jax.make_jaxpr(fn)(*args).jaxpr)


def _jaxpr_macs(jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    output = equation.outvars[0].aval if equation.outvars else None
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      shape = equation.invars[0].aval.shape
      total += int(
        np.prod(output.shape) * np.prod([shape[axis] for axis in contracted])
      )
    elif equation.primitive.name == 'conv_general_dilated':
      # Every output adds up one kernel, all its input channels included.
      kernel = equation.invars[1].aval.shape
      out_channels = kernel[equation.params['dimension_numbers'].rhs_spec[0]]
      total += int(np.prod(output.shape) * np.prod(kernel) // out_channels)
    times = equation.params.get('length', 1)
    for inner in jax.core.jaxprs_in_params(equation.params):
      total += times * _jaxpr_macs(inner)
  return total


def compile_forward(network: Network, images: jax.Array):
  """Returns the program compiled for these shapes, and the seconds it took."""
  began = time.perf_counter()
  compiled = jax.jit(network.fn).lower(network.params, images).compile()
  return compiled, time.perf_counter() - began


def interleave(
  calls: Mapping[str, Callable[[], Any]], *, budget_s: float
) -> dict[str, list[float]]:
  """Times calls in turn.

  Args:
    calls: by name; what each returns is blocked on.
    budget_s: of timed seconds for each name, on average; at least five rounds
      are made whatever they take.
  Returns:
    Seconds of each round, by name.
  """
  for call in calls.values():  # Warm up: allocation, caches, lazy set-up.
    for _ in range(2):
      jax.block_until_ready(call())
  seconds: dict[str, list[float]] = {name: [] for name in calls}
  spent = 0.0
  for done in range(_MAX_ROUNDS):
    if done >= _MIN_ROUNDS and spent > budget_s * len(calls):
      break
    for name, call in calls.items():
      began = time.perf_counter()
      jax.block_until_ready(call())
      seconds[name].append(time.perf_counter() - began)
      spent += seconds[name][-1]
  return seconds


def benchmark(
  networks: Mapping[str, Network],
  images: jax.Array,
  *,
  batch_sizes: Sequence[int],
  budget_s: float,
  reference: str,
) -> dict[str, Any]:
  """Times networks against one of them.

  Args:
    networks: by name.
    images: uint8 [N, H, W, C]; repeated if a batch is larger.
    batch_sizes: examples a call.
    budget_s: of timed seconds for each network at each batch size.
    reference: the network (the teacher) that the others' ratios are of.
  Returns:
    JSON values: for each network its parameters, multiply-accumulates an
    example, bytes of parameters; and for each batch size the compile time
    (s), the time of a call (s; median, quartiles, n), the bytes that XLA
    counts as moved, and the ratio reference / network round by round.
  """
  one = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
  results: dict[str, Any] = {
    name: {
      'parameters': count_parameters(network.params),
      'parameter_bytes': sum(
        leaf.nbytes for leaf in jax.tree.leaves(network.params)
      ),
      'macs': count_macs(network.fn, network.params, one),
      'batches': {},
    }
    for name, network in networks.items()
  }
  for batch_size in batch_sizes:
    repeats = -(-batch_size // images.shape[0])
    batch = jnp.concatenate([images] * repeats)[:batch_size]
    compiled = {
      name: compile_forward(network, batch)
      for name, network in networks.items()
    }
    seconds = interleave(
      {
        name: _bind(compiled[name][0], network.params, batch)
        for name, network in networks.items()
      },
      budget_s=budget_s,
    )
    for name, (program, compile_s) in compiled.items():
      ratios = np.array(seconds[reference]) / np.array(seconds[name])
      cost = program.cost_analysis() or {}
      results[name]['batches'][str(batch_size)] = {
        'compile_s': compile_s,
        'call_s': quartiles(seconds[name]),
        'ratio': quartiles(ratios),
        'bytes_accessed': cost.get('bytes accessed'),
      }
  return results


def _bind(program, params, images):
  return lambda: program(params, images)
