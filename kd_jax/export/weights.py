"""A student's weights as .safetensors files, for programs other than this one.

`weights.safetensors` holds the variables as trained, before batch norms are
folded or weights are quantized. A tensor's name is the path of the variable,
joined by dots: `params.stage1_block0.conv0.kernel`,
`batch_stats.stem_norm.mean`. Kernels of convolutions are [H, W, in, out], and
those of dense layers [in, out].

For a ResNet of four stages of residual blocks,
`weights-torchvision.safetensors` holds the same weights with the names and the
layouts of torchvision's ResNets:

  ours                      torchvision
  stem, stem_norm           conv1, bn1
  stage1_block0             layer1.0
  .conv0, .norm0            .conv1, .bn1
  .shortcut, .shortcut_norm .downsample.0, .downsample.1
  logits                    fc, divided by the network's temperature
  kernel                    weight: [out, in, H, W] or [out, in]
  scale, bias               weight, bias
  mean, var                 running_mean, running_var

torchvision's network then needs our stem: a 3x3 convolution of stride
`stem_stride`, and no max pool unless `stem_pool`. The header of each file holds
the network's section of the config, the scaling of its images, and the classes.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax.runtime import errors

PyTree = Any

WEIGHTS = 'weights.safetensors'
TORCHVISION = 'weights-torchvision.safetensors'
_SEPARATOR = '.'
_STAGES, _STRIDES = 4, (1, 2, 2, 2)  # Those of torchvision's ResNets.
# Names of layers, as patterns, and torchvision's names of them.
_LAYERS = (
  (r'stem', 'conv1'),
  (r'stem_norm', 'bn1'),
  (r'logits', 'fc'),
  (r'conv(\d)', lambda match: f'conv{int(match[1]) + 1}'),
  (r'norm(\d)', lambda match: f'bn{int(match[1]) + 1}'),
  (r'shortcut', 'downsample.0'),
  (r'shortcut_norm', 'downsample.1'),
  (r'stage(\d+)_block(\d+)', r'layer\1.\2'),
)
_VARIABLES = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}


def flatten(variables: PyTree) -> dict[str, np.ndarray]:
  """Returns variables as a flat dictionary; names are paths with dots."""
  flat = flax.traverse_util.flatten_dict(variables, sep=_SEPARATOR)
  return {name: np.ascontiguousarray(array) for name, array in flat.items()}


def unflatten(tensors: Mapping[str, np.ndarray]) -> PyTree:
  """Returns the variables that `flatten` was given."""
  nested = flax.traverse_util.unflatten_dict(dict(tensors), sep=_SEPARATOR)
  # Networks without batch norm have no tensors of it.
  return {'batch_stats': {}} | nested


def has_torchvision_names(model: ConfigDict) -> bool:
  """Returns whether a network has the stages of a torchvision ResNet.

  torchvision's network could load the weights of other stages, and would
  compute something else.
  """
  if model.kind != 'resnet' or len(model.blocks) != _STAGES:
    return False
  if model.block == 'pooled' or tuple(model.strides) != _STRIDES:
    return False
  if model.get('head_pool', 'mean') != 'mean':
    return False
  return all(max(count, model.min_blocks) > 0 for count in model.blocks)


def torchvision_name(path: str) -> str:
  """Returns torchvision's name of a ResNet's variable.

  Args:
    path: a name in `flatten`.

  Example:
    >>> torchvision_name('params.stage1_block0.conv0.kernel')
    'layer1.0.conv1.weight'
  """
  _, *layers, variable = path.split(_SEPARATOR)
  names = [_layer_name(layer) for layer in layers]
  return _SEPARATOR.join([*names, _VARIABLES[variable]])


def _layer_name(layer: str) -> str:
  for pattern, name in _LAYERS:
    match = re.fullmatch(pattern, layer)
    if match:
      return name(match) if callable(name) else match.expand(name)
  raise ValueError(f'{layer!r} is no layer of a ResNet')


def to_torchvision(
  tensors: Mapping[str, np.ndarray], temperature: float
) -> dict[str, np.ndarray]:
  """Returns a ResNet's weights with torchvision's names and layouts.

  Args:
    tensors: see `flatten`.
    temperature: the divisor of the network's logits.
  """
  converted = {}
  for path, array in tensors.items():
    if array.ndim == 4:
      array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2:
      array = array.T
    if path.startswith('params.logits.'):
      array = array / np.float32(temperature)
    converted[torchvision_name(path)] = np.ascontiguousarray(array)
  return converted


def from_torchvision(
  converted: Mapping[str, np.ndarray], like: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """Returns the tensors that `to_torchvision` was given, at a temperature of 1.

  Args:
    converted: weights with torchvision's names.
    like: our names, see `flatten`.
  """
  tensors = {}
  for path in like:
    array = converted[torchvision_name(path)]
    if array.ndim == 4:
      array = array.transpose(2, 3, 1, 0)
    elif array.ndim == 2:
      array = array.T
    tensors[path] = array
  return tensors


def file_contents(
  model: ConfigDict, variables: PyTree, description: Mapping[str, Any]
) -> dict[str, bytes]:
  """Returns the contents of the files of a student, by their names.

  Args:
    model: the student's section.
    variables: its trained variables.
    description: JSON values for the header, such as the classes.
  Raises:
    UserError: if the package safetensors is missing.
  """
  try:
    from safetensors import numpy as safetensors_numpy
  except ModuleNotFoundError as error:
    raise errors.UserError(
      f'--weights needs the package safetensors ({error}): pip install '
      'safetensors'
    ) from error
  described = {'student': config_lib.to_json(model), **description}
  metadata = {name: json.dumps(value) for name, value in described.items()}
  tensors = flatten(variables)
  contents = {WEIGHTS: safetensors_numpy.save(tensors, metadata)}
  if has_torchvision_names(model):
    converted = to_torchvision(tensors, model.temperature)
    contents[TORCHVISION] = safetensors_numpy.save(converted, metadata)
  return contents
