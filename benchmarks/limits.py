"""The machine's limits: its fastest matrix product and its fastest copy."""

import functools
import time
from collections.abc import Callable
from typing import Any

import harness
import numpy as np

_SIZE, _GPU_SIZE = 2048, 8192  # Rows and columns of the matrices.
_MEBI = 2**20
_COPIED = 64 * _MEBI  # Elements of the copied vector: 256 MiB of float32.


def _median_seconds(call: Callable[[], Any]) -> float:
  """Returns the median duration of five calls, after one to warm up."""
  call()
  seconds = []
  for _ in range(5):
    began = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - began)
  return float(np.median(seconds))


def _to_rates(
  size: int, products_s: dict[str, float], copy_s: float
) -> dict[str, float]:
  """Converts durations to GFLOP/s and GB/s.

  Args:
    size: number of rows and columns of the matrices.
    products_s: seconds of a product, by the suffix of its type.
    copy_s: seconds of a copy, which reads and writes the vector.
  """
  return {
    f'product{suffix}_gflops': 2 * size**3 / seconds / 1e9
    for suffix, seconds in products_s.items()
  } | {'memory_gb_per_s': 2 * 4 * _COPIED / copy_s / 1e9}


def _dtypes() -> dict[str, str]:
  """Returns the types whose products are measured, by their suffix.

  bfloat16 is measured only where the machine has instructions for bfloat16.
  """
  from kd_jax.runtime import environment

  dtypes = {'': 'float32'}
  if harness.on_gpu() or 'bfloat16' in environment.describe()['instructions']:
    dtypes['_bfloat16'] = 'bfloat16'
  return dtypes


def measure_with_jax() -> dict[str, float]:
  """Returns GFLOP/s of matrix products and GB/s of a large copy in JAX."""
  import jax
  import jax.numpy as jnp

  size = _GPU_SIZE if harness.on_gpu() else _SIZE
  matrix = jax.random.normal(jax.random.key(0), (size, size))
  matrices = {
    suffix: matrix.astype(dtype) for suffix, dtype in _dtypes().items()
  }
  vector = jnp.ones(_COPIED)
  product, scale = jax.jit(jnp.matmul), jax.jit(lambda x: 2 * x)
  multiply = lambda a: product(a, a).block_until_ready()
  return _to_rates(
    size,
    {
      suffix: _median_seconds(functools.partial(multiply, a))
      for suffix, a in matrices.items()
    },
    _median_seconds(lambda: scale(vector).block_until_ready()),
  )


def measure_with_torch() -> dict[str, float]:
  """Returns GFLOP/s of matrix products and GB/s of a large copy in PyTorch."""
  import torch

  device = harness.torch_device()
  size = _SIZE if device == 'cpu' else _GPU_SIZE
  matrix = torch.randn(size, size, device=device)
  vector = torch.ones(_COPIED, device=device)
  scaled = torch.empty_like(vector)

  def wait():
    if device == 'cuda':
      torch.cuda.synchronize()

  def multiply(a, out):
    torch.matmul(a, a, out=out)
    wait()

  def scale():
    torch.mul(vector, 2, out=scaled)
    wait()

  products_s = {}
  for suffix, dtype in _dtypes().items():
    a = matrix.to(getattr(torch, dtype))
    out = torch.empty_like(a)
    products_s[suffix] = _median_seconds(functools.partial(multiply, a, out))
  return _to_rates(size, products_s, _median_seconds(scale))


def add_shares(
  results: dict[str, Any],
  work: Callable[[str, str], tuple[float, float]],
) -> None:
  """Adds each system's share of the machine's limit to compared results.

  The limit is the least time that the fastest product and the fastest copy of
  any library leave for an example. A system of bfloat16 is held against
  products of bfloat16, and gets no share if the machine has no instructions
  for bfloat16.

  Args:
    results: the results of `comparison.compare`; gets 'share_of_limit'.
    work: (case, system) -> (operations, bytes) of one example.
  """
  limits = results['limits'].values()

  def best(key: str) -> float | None:
    known = [measured[key]['median'] for measured in limits if key in measured]
    return 1e9 * max(known) if known else None

  bandwidth = best('memory_gb_per_s')
  for case, systems in results['cases'].items():
    for name, result in systems.items():
      rate = best(
        'product_bfloat16_gflops' if 'bfloat16' in name else 'product_gflops'
      )
      if rate is not None and bandwidth is not None:
        operations, num_bytes = work(case, name)
        least_s = max(operations / rate, num_bytes / bandwidth)
        result['share_of_limit'] = result['examples_per_s']['median'] * least_s
