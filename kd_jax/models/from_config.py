"""Networks from a config's model sections."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from kd_jax.data import ImageTask
from kd_jax.models import apply, folding, quantization, user
from kd_jax.models.mlp import MLP, ConvNet
from kd_jax.models.resnet import ResNet

PyTree = Any

# A model section is `kind` and the module's attributes. `kind` may also be the
# name of a user's function.
MODELS: dict[str, type[nn.Module]] = {
  'mlp': MLP,
  'conv_net': ConvNet,
  'resnet': ResNet,
}
# The `kind` of a network that the user has trained; `module` names it.
USER_TRAINED = 'trained'
# The `kind` of a network of which the user has stored features; `layers` holds
# (name, shape without the batch) of each.
USER_FEATURES = 'features'
# Types of a network's computation. auto: bfloat16 on accelerators, and float32
# on CPUs, where bfloat16 is slower (a ResNet-50 trains on 31 images/s instead
# of 44).
DTYPES = ('float32', 'bfloat16', 'auto')


def field_names() -> frozenset[str]:
  """Returns the names of all fields that the networks of MODELS have."""
  return frozenset(
    field.name
    for module in MODELS.values()
    for field in dataclasses.fields(module)
  ) | {'kind'}


def make_module(model: ConfigDict, num_classes: int) -> nn.Module:
  """Returns the Flax module of a model section."""
  fields = model.to_dict()
  kind = fields.pop('kind')
  if fields.get('dtype') == 'auto':
    on_cpu = jax.default_backend() == 'cpu'
    fields['dtype'] = 'float32' if on_cpu else 'bfloat16'
  if kind == USER_TRAINED:
    # Users' networks have the interface of a Flax module.
    return user.load_trained(fields['module'])  # type: ignore[return-value]
  if user.is_function_name(kind):
    return user.make_module(kind, num_classes)  # type: ignore[return-value]
  return MODELS[kind](num_classes=num_classes, **fields)


def variables_like(model: ConfigDict, task: ImageTask) -> PyTree:
  """Returns the shapes and types of a network's variables."""
  module = make_module(model, task.num_classes)
  return apply.variables_like(module, task.image_shape)


def has_batch_norm(model: ConfigDict, task: ImageTask) -> bool:
  """Returns whether a network keeps statistics of its batches."""
  return bool(jax.tree.leaves(variables_like(model, task)['batch_stats']))


def feature_shapes(
  model: ConfigDict, task: ImageTask
) -> dict[str, tuple[int, ...]]:
  """Returns the shape of each feature without the batch, in order of depth."""
  if model.kind == USER_FEATURES:
    return {name: tuple(shape) for name, shape in model.layers}
  module = make_module(model, task.num_classes)
  return apply.feature_shapes(module, task.image_shape)


def is_quantized(model: ConfigDict) -> bool:
  """Returns whether a network's kernels are stored as integers."""
  return quantization.SCHEMES[model.quantization].bits > 0


def quantize_weights(model: ConfigDict, variables: PyTree) -> PyTree:
  """Returns a quantized network's variables as they are stored for use."""
  params = quantization.quantize_weights(
    variables['params'], model.quantization
  )
  return variables | {'params': params}


def deploy(
  model: ConfigDict, task: ImageTask, variables: PyTree
) -> tuple[nn.Module, PyTree]:
  """Returns a network for use and its variables.

  A network of floats has its batch norms folded into its convolutions. A
  network of an integer scheme computes with integers, and a network of buckets
  with floats.

  Args:
    model: the network's section.
    task: images and classes.
    variables: the trained variables; a quantized network's may already be
      quantized.
  """
  module = make_module(model, task.num_classes)
  if not is_quantized(model):
    return folding.fold(module, variables)
  if not quantization.has_quantized_weights(variables['params']):
    variables = quantize_weights(model, variables)
  network, params = quantization.deploy(
    module, variables['params'], task.image_shape
  )
  return network, variables | {'params': params}
