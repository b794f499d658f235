"""The costs of a network that are counted, not timed; pure functions."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend import core as jex_core

PyTree = Any


def count_parameters(params: PyTree) -> int:
  """Returns the number of parameters."""
  return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(params))


def count_macs(fn: Callable[..., Any], *args) -> int:
  """Counts the multiply-accumulates of the products in `fn(*args)`.

  Counts matrix products and convolutions in the traced program, before a
  compiler rewrites it. Elementwise operations are not counted. The body of a
  loop counts once for each iteration if the number of iterations is known. Of
  the branches of a conditional, the most expensive one counts.

  Args:
    fn: a function that JAX can trace.
    *args: arrays, or their shapes and types.
  Returns:
    The number of multiply-accumulates.
  """
  return _jaxpr_macs(jax.make_jaxpr(fn)(*args).jaxpr)


def _jaxpr_macs(jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    total += _product_macs(equation)
    inner = [
      _jaxpr_macs(jaxpr) for jaxpr in jex_core.jaxprs_in_params(equation.params)
    ]
    if equation.primitive.name == 'cond':
      inner = [max(inner)]
    total += equation.params.get('length', 1) * sum(inner)
  return total


def _product_macs(equation) -> int:
  """Returns the multiply-accumulates of an equation without its subprograms."""
  if equation.primitive.name == 'dot_general':
    output = equation.outvars[0].aval
    (contracted, _), _ = equation.params['dimension_numbers']
    shape = equation.invars[0].aval.shape
    return int(
      np.prod(output.shape) * np.prod([shape[axis] for axis in contracted])
    )
  if equation.primitive.name == 'conv_general_dilated':
    output = equation.outvars[0].aval
    # Each output element sums over one kernel with all its input channels.
    kernel = equation.invars[1].aval.shape
    out_channels = kernel[equation.params['dimension_numbers'].rhs_spec[0]]
    return int(np.prod(output.shape) * np.prod(kernel) // out_channels)
  return 0
