"""A teacher and a student in Equinox (pip install equinox).

python launch.py --config=configs/mnist.py:h300 \
  --config.teacher.module=examples.equinox_network:teacher \
  --config.student.kind=examples.equinox_network:student

The network is called with one image [C, H, W], which is channels first as
Equinox's convolutions need it, and is mapped over the batch as an axis named
'batch'. A `key` differs between images and steps, and is None outside training.
"""

import equinox as eqx
import jax
import jax.numpy as jnp


class Network(eqx.Module):
  """A convolution with batch norm, dropout and a linear layer."""

  conv: eqx.nn.Conv2d
  norm: eqx.nn.BatchNorm
  dropout: eqx.nn.Dropout
  linear: eqx.nn.Linear

  def __init__(self, channels: int, num_classes: int, *, key: jax.Array):
    """Makes the layers for images with one channel."""
    keys = jax.random.split(key)
    self.conv = eqx.nn.Conv2d(1, channels, 3, stride=2, key=keys[0])
    self.norm = eqx.nn.BatchNorm(channels, axis_name='batch', mode='batch')
    self.dropout = eqx.nn.Dropout(0.1)
    self.linear = eqx.nn.Linear(channels, num_classes, key=keys[1])

  def __call__(self, image, state, *, key):
    """Returns ((logits [K], features by name), the state after the call)."""
    x, state = self.norm(self.conv(image), state)
    features = {'map': jax.nn.relu(x)}
    x = self.dropout(jnp.mean(features['map'], axis=(1, 2)), key=key)
    return (self.linear(x), features), state


def student(num_classes: int, *, key: jax.Array):
  """Returns an untrained network and its state; `key` differs between seeds."""
  return eqx.nn.make_with_state(Network)(4, num_classes, key=key)


def teacher():
  """Random weights here; restore yours with eqx.tree_deserialise_leaves.

  The images of a teacher are scaled as config.teacher.outputs_scaling says.
  """
  return eqx.nn.make_with_state(Network)(8, 10, key=jax.random.key(0))
