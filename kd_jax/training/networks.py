"""Networks from a config's model sections."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import methods, models
from kd_jax.data import Problem, preprocessing
from kd_jax.evaluation import inference
from kd_jax.models import apply, folding, quantization, user

PyTree = Any

# A model section is `kind` and the module's attributes. `kind` may also be the
# name of a user's function.
MODELS: dict[str, type[nn.Module]] = {
  'mlp': models.MLP,
  'conv_net': models.ConvNet,
  'resnet': models.ResNet,
}


# Types of a network's computation. auto: bfloat16 on accelerators, and float32
# on CPUs, where bfloat16 is slower (a ResNet-50 trains on 31 images/s instead
# of 44).
DTYPES = ('float32', 'bfloat16', 'auto')


def make_module(model: ConfigDict, num_classes: int) -> nn.Module:
  """Returns the Flax module of a model section."""
  fields = model.to_dict()
  kind = fields.pop('kind')
  if fields.get('dtype') == 'auto':
    on_cpu = jax.default_backend() == 'cpu'
    fields['dtype'] = 'float32' if on_cpu else 'bfloat16'
  if kind == config_lib.TRAINED:
    # Users' networks have the interface of a Flax module.
    return user.load_trained(fields['module'])  # type: ignore[return-value]
  if user.is_function_name(kind):
    return user.make_module(kind, num_classes)  # type: ignore[return-value]
  return MODELS[kind](num_classes=num_classes, **fields)


def variables_like(model: ConfigDict, problem: Problem) -> PyTree:
  """Returns the shapes and types of a network's variables."""
  module = make_module(model, problem.num_classes)
  return apply.variables_like(module, problem.image_shape)


def has_batch_norm(model: ConfigDict, problem: Problem) -> bool:
  """Returns whether a network keeps statistics of its batches."""
  return bool(jax.tree.leaves(variables_like(model, problem)['batch_stats']))


def feature_shapes(model: ConfigDict, problem: Problem) -> methods.Shapes:
  """Returns the shape of each feature without the batch, in order of depth."""
  module = make_module(model, problem.num_classes)
  return apply.feature_shapes(module, problem.image_shape)


def teacher_layers(
  config: ConfigDict, problem: Problem
) -> dict[int, methods.Shapes]:
  """Returns the teacher's layers that a closed config's methods take.

  Returns:
    The shapes of the layers by name, by the bits that they are rounded to. 0
    bits are for features that are not rounded.
  """
  layers: dict[int, methods.Shapes] = {}
  for name, options in config_lib.method_options(config.distill).items():
    method = methods.METHODS[name]
    if not method.uses_features:
      continue
    student, teacher = (
      feature_shapes(model, problem)
      for model in (config.student, config.teacher.model)
    )
    pairs = methods.match_layers(options['layers'], student, teacher)
    bits = config.teacher.feature_bits if method.uses_rounded else 0
    layers.setdefault(bits, {}).update(
      {layer: teacher[layer] for _, layer in pairs}
    )
  return layers


# --- Quantized networks, and networks in use. ---


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
  model: ConfigDict, problem: Problem, variables: PyTree
) -> tuple[nn.Module, PyTree]:
  """Returns a network for use and its variables.

  A network of floats has its batch norms folded into its convolutions. A
  network of an integer scheme computes with integers, and a network of buckets
  with floats.

  Args:
    model: the network's section.
    problem: images and classes.
    variables: the trained variables; a quantized network's may already be
      quantized.
  """
  module = make_module(model, problem.num_classes)
  if not is_quantized(model):
    return folding.fold(module, variables)
  if not quantization.has_quantized_weights(variables['params']):
    variables = quantize_weights(model, variables)
  network, params = quantization.deploy(
    module, variables['params'], problem.image_shape
  )
  return network, variables | {'params': params}


# --- Networks over whole splits. ---


def make_predict(
  model: ConfigDict, num_classes: int, scaling: str, batch_size: int
) -> inference.PredictFn:
  """Returns a network's `predict`, see evaluation/inference.py.

  Args:
    model: the network's section.
    num_classes: K.
    scaling: the name of the scaling of the images.
    batch_size: images per call of the network.
  Returns:
    A function from (variables, images uint8 [N, H, W, C]) to logits [N, K].
  """
  return inference.make_predict(
    apply.make_apply(make_module(model, num_classes)),
    preprocessing.apart(scaling),
    batch_size=batch_size,
  )


def make_features(
  model: ConfigDict,
  num_classes: int,
  scaling: str,
  batch_size: int,
  layers: tuple[str, ...],
) -> Callable[[PyTree, jax.Array], dict[str, jax.Array]]:
  """Returns a function that computes the features of some layers.

  Args:
    model: the network's section.
    num_classes: K.
    scaling: the name of the scaling of the images.
    batch_size: images per call of the network.
    layers: the names of the layers.
  Returns:
    A function from (variables, images uint8 [N, H, W, C]) to features
    [N, ...], by layer.
  """
  return inference.make_predict(
    apply.make_apply(make_module(model, num_classes)),
    preprocessing.apart(scaling),
    batch_size=batch_size,
    output=lambda logits, features: {name: features[name] for name in layers},
  )


def make_attack(
  model: ConfigDict, num_classes: int, scaling: str, batch_size: int
) -> inference.AttackFn:
  """Returns a network's `attack`, see evaluation/inference.py.

  Args:
    model: the network's section.
    num_classes: K.
    scaling: the name of the scaling of the images.
    batch_size: images per call of the network.
  Returns:
    A function from (variables, images uint8 [N, H, W, C], labels [N]) to the
    logits [N, K] of the attacked images.
  """
  return inference.make_attack(
    apply.make_apply(make_module(model, num_classes)),
    preprocessing.SCALINGS[scaling],
    batch_size=batch_size,
  )


# --- Networks in training. ---


def image_range(scaling: str, num_channels: int) -> tuple[jax.Array, jax.Array]:
  """Returns the lowest and highest values of scaled images, [1, 1, 1, C]."""
  scale = preprocessing.SCALINGS[scaling]
  pixel = (1, 1, 1, num_channels)
  low, high = (scale(jnp.full(pixel, value, jnp.uint8)) for value in (0, 255))
  return low, high


def make_peer(
  model: ConfigDict, problem: Problem
) -> tuple[Callable[[jax.Array], PyTree], Callable[..., jax.Array]]:
  """Returns a peer network of the student's kind, as two functions.

  Returns:
    init: maps a key to the peer's parameters.
    peer: maps (parameters, images, key) to logits [B, K] in training.
  """
  module = make_module(model, problem.num_classes)
  apply_fn = apply.make_apply(module)
  init = functools.partial(apply.init_variables, module, problem.image_shape)

  def peer(params, images, key):
    # Its running statistics are not kept: it is not used after training.
    stats = init(jax.random.key(0))['batch_stats']
    variables = {'params': params, 'batch_stats': stats}
    return apply_fn(variables, images, train=True, key=key)[0]

  return lambda key: init(key)['params'], peer
