"""Functions that run the network of a config over whole splits."""

from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from kd_jax.data import preprocessing
from kd_jax.evaluation import inference
from kd_jax.models import apply
from kd_jax.models.from_config import make_module

PyTree = Any


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
  return inference.make_batched_predict(
    apply.make_apply(make_module(model, num_classes)),
    preprocessing.unfused(scaling),
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
  return inference.make_batched_predict(
    apply.make_apply(make_module(model, num_classes)),
    preprocessing.unfused(scaling),
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
  return inference.make_batched_attack(
    apply.make_apply(make_module(model, num_classes)),
    preprocessing.SCALINGS[scaling],
    batch_size=batch_size,
  )
