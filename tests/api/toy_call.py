"""Images with a bright line for each class, logits, and small students."""

import flax.linen as nn
import numpy as np

from kd_jax import config_fields

RNG = np.random.RandomState(0)
LABELS = np.arange(96) % 3
IMAGES = RNG.randint(0, 50, (96, 8, 8, 1)).astype(np.uint8)
IMAGES[np.arange(96), LABELS] += 100  # A bright row in each image.
LOGITS = (4 * np.eye(3)[LABELS] + RNG.normal(size=(96, 3))).astype(np.float32)
MLP = config_fields.mlp((8,))
QUICK = {'epochs': 2, 'batch_size': 16, 'model': MLP}


class Small(nn.Module):
  """A hidden layer, whose activations are a feature."""

  num_classes: int = 3

  @nn.compact
  def __call__(self, images, *, train):
    hidden = nn.relu(nn.Dense(8)(images.reshape(images.shape[0], -1)))
    return nn.Dense(self.num_classes)(hidden), {'hidden': hidden}


class Constant(nn.Module):
  """A module without fields."""

  @nn.compact
  def __call__(self, images):
    return nn.Dense(3)(images.reshape(images.shape[0], -1))
