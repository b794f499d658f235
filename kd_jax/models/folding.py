"""Batch norms folded into the preceding convolutions, for inference.

At inference, batch norm multiplies each channel by a factor and adds an
offset. The factor is folded into the convolution's kernel. The offset becomes
the convolution's bias.
"""

from typing import Any

import flax.linen as nn
import flax.traverse_util
from jax import lax

from kd_jax.models import layers

PyTree = Any


def norm_name(convolution: str) -> str:
  """Returns the name of the batch norm that follows a convolution.

  Args:
    convolution: name of the convolution in the same module.
  """
  if convolution.startswith('conv'):
    return convolution.replace('conv', 'norm')
  return f'{convolution}_norm'


def fold(module: nn.Module, variables: PyTree) -> tuple[nn.Module, PyTree]:
  """Returns a module without batch norm that computes the same at inference.

  Args:
    module: a network; if it has no attribute `folded`, the module and the
      variables are returned unchanged.
    variables: trained 'params' and 'batch_stats' of the module.
  Returns:
    The module without batch norm, and its variables.
  """
  if not hasattr(module, 'folded'):
    return module, variables
  params = flax.traverse_util.flatten_dict(variables['params'])
  stats = flax.traverse_util.flatten_dict(variables['batch_stats'])
  folded = dict(params)
  for path, kernel in params.items():
    *parents, name, kind = path
    norm = (*parents, norm_name(name))
    if kind != 'kernel' or (*norm, 'scale') not in params:
      continue
    inverse = lax.rsqrt(stats[*norm, 'var'] + layers.BatchNorm.epsilon)
    factor = folded.pop((*norm, 'scale')) * inverse
    offset = folded.pop((*norm, 'bias')) - stats[*norm, 'mean'] * factor
    folded[path] = kernel * factor.reshape(1, 1, 1, -1)
    folded[*parents, name, 'bias'] = offset
  return module.clone(folded=True), {
    'params': flax.traverse_util.unflatten_dict(folded),
    'batch_stats': {},
  }
