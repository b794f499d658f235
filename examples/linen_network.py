"""A teacher and a student in Flax Linen.

python launch.py --config=configs/mnist.py:h300 \
  --config.teacher.module=examples.linen_network:teacher \
  --config.student.kind=examples.linen_network:student
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Network(nn.Module):
  """A convolution with batch norm, dropout and a linear layer.

  Attributes:
    channels: the channels of the convolution.
    num_classes: K.
  """

  channels: int
  num_classes: int

  @nn.compact
  def __call__(self, images, *, train: bool):
    """Returns (logits [B, K], features by name)."""
    x = nn.Conv(self.channels, (3, 3), strides=2)(images)
    x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
    features = {'map': x}
    x = nn.Dropout(0.1, deterministic=not train)(jnp.mean(x, axis=(1, 2)))
    return nn.Dense(self.num_classes)(x), features


def student(num_classes: int) -> Network:
  """Returns the module; it is initialized with a key for each seed."""
  return Network(4, num_classes)


def teacher():
  """Random weights here; restore yours, such as with orbax.

  The images of a teacher are scaled as config.teacher.outputs_scaling says.
  """
  module = Network(8, 10)
  images = jnp.zeros((1, 28, 28, 1))
  return module, module.init(jax.random.key(0), images, train=False)
