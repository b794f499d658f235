"""The networks of the MNIST experiments: MLPs and their CNN teacher."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from kd_jax.models import quantization

Features = dict[str, jax.Array]

# Keras' default for dense and convolutional layers, which the paper used.
_KERNEL_INIT = nn.initializers.glorot_uniform()


class MLP(nn.Module):
  """Flatten -> (Dense -> ReLU -> dropout) per hidden size -> Dense.

  Attributes:
    hidden: width of each hidden layer; empty for a linear classifier.
    num_classes: K.
    dropout_rate: probability of dropping a hidden unit while training.
    temperature: the logits are divided by it, in training and in use alike.
      1 is an ordinary network; the paper's MNIST networks carry theirs inside.
    dtype: of the computation; parameters and logits stay float32.
    arithmetic: a name in `quantized.ARITHMETICS`.
  """

  hidden: Sequence[int]
  num_classes: int
  dropout_rate: float = 0.0
  temperature: float = 1.0
  dtype: jnp.dtype = jnp.float32
  arithmetic: str = 'float'

  @property
  def feature_names(self) -> tuple[str, ...]:
    """Names of the features, in the order of depth."""
    return tuple(f'hidden{i}' for i in range(len(self.hidden)))

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> tuple[jax.Array, Features]:
    """Args: images [B, ...] float. Returns: logits [B, K] and features."""
    features: Features = {}
    dot_general = quantization.ARITHMETICS[self.arithmetic].dot_general
    x = images.reshape(images.shape[0], -1).astype(self.dtype)
    for i, width in enumerate(self.hidden):
      x = nn.Dense(
        width,
        dtype=self.dtype,
        kernel_init=_KERNEL_INIT,
        dot_general=dot_general,
        name=f'hidden{i}',
      )(x)
      x = nn.relu(x)
      features[f'hidden{i}'] = x
      x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
    x = nn.Dense(
      self.num_classes,
      dtype=self.dtype,
      kernel_init=_KERNEL_INIT,
      dot_general=dot_general,
      name='logits',
    )(x)
    return x.astype(jnp.float32) / self.temperature, features


class ConvNet(nn.Module):
  """Valid convolutions with ReLU, then an `MLP` head.

  With the defaults and 28x28x1 images it is the paper's MNIST teacher: 32
  filters of 3x3, two hidden layers of 1200 with dropout 0.5, 27,413,130
  parameters.

  Attributes:
    filters: output channels of each 3x3 convolution.
    Others: as in `MLP`.
  """

  num_classes: int
  filters: Sequence[int] = (32,)
  hidden: Sequence[int] = (1200, 1200)
  dropout_rate: float = 0.5
  temperature: float = 1.0
  dtype: jnp.dtype = jnp.float32
  arithmetic: str = 'float'

  @property
  def feature_names(self) -> tuple[str, ...]:
    """Names of the features, in the order of depth."""
    return (
      *(f'conv{i}' for i in range(len(self.filters))),
      *(f'hidden{i}' for i in range(len(self.hidden))),
    )

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> tuple[jax.Array, Features]:
    """Args: images [B, H, W, C] float. Returns: logits [B, K], features."""
    features: Features = {}
    arithmetic = quantization.ARITHMETICS[self.arithmetic]
    x = images.astype(self.dtype)
    for i, channels in enumerate(self.filters):
      x = nn.Conv(
        channels,
        (3, 3),
        padding='VALID',
        dtype=self.dtype,
        kernel_init=_KERNEL_INIT,
        conv_general_dilated=arithmetic.conv_general_dilated,
        name=f'conv{i}',
      )(x)
      x = nn.relu(x)
      features[f'conv{i}'] = x
    logits, head_features = MLP(
      hidden=self.hidden,
      num_classes=self.num_classes,
      dropout_rate=self.dropout_rate,
      temperature=self.temperature,
      dtype=self.dtype,
      arithmetic=self.arithmetic,
      name='head',
    )(x, train=train)
    return logits, features | head_features
