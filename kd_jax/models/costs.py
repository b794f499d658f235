"""What a network costs, counted and not timed; pure functions."""

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
  """Returns the multiply-accumulates of `fn(*args)`: products and convolutions.

  Counted on the traced program, before any compiler rewrites it; elementwise
  work is not counted. A loop counts as often as it runs, where that is known;
  of several branches, the dearest counts.
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
    inner = [
      _jaxpr_macs(jaxpr) for jaxpr in jex_core.jaxprs_in_params(equation.params)
    ]
    if equation.primitive.name == 'cond':
      inner = [max(inner)]
    total += equation.params.get('length', 1) * sum(inner)
  return total
