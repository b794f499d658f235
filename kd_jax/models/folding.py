"""Batch norms folded into the convolutions before them, for use.

In use, batch norm is a factor and an offset of each channel: the factor goes
into the convolution's kernel, the offset becomes its bias.
"""

from typing import Any

import flax.linen as nn
import flax.traverse_util
from jax import lax

from kd_jax.models import layers

PyTree = Any


def norm_name(convolution: str) -> str:
  """Returns the name of a convolution's batch norm, beside it in a module."""
  if convolution.startswith('conv'):
    return convolution.replace('conv', 'norm')
  return f'{convolution}_norm'


def fold(module: nn.Module, variables: PyTree) -> tuple[nn.Module, PyTree]:
  """Returns a module without batch norm that computes the same in use.

  Args:
    module: with an attribute `folded`; any other is returned as it is.
    variables: of it, as trained.
  """
  if not hasattr(module, 'folded'):
    return module, variables
  params = flax.traverse_util.flatten_dict(variables['params'])
  stats = flax.traverse_util.flatten_dict(variables['batch_stats'])
  folded = dict(params)
  for path, kernel in params.items():
    *outer, name, kind = path
    norm = (*outer, norm_name(name))
    if kind != 'kernel' or (*norm, 'scale') not in params:
      continue
    inverse = lax.rsqrt(stats[*norm, 'var'] + layers.BatchNorm.epsilon)
    factor = folded.pop((*norm, 'scale')) * inverse
    offset = folded.pop((*norm, 'bias')) - stats[*norm, 'mean'] * factor
    folded[path] = kernel * factor.reshape(1, 1, 1, -1)
    folded[*outer, name, 'bias'] = offset
  return module.clone(folded=True), {
    'params': flax.traverse_util.unflatten_dict(folded),
    'batch_stats': {},
  }
