"""The networks of the MNIST experiments: MLPs and their CNN teacher."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from kd_jax.models import quantization

Features = dict[str, jax.Array]

# The default of Keras, which the paper used.
_KERNEL_INIT = nn.initializers.glorot_uniform()


class MLP(nn.Module):
  """Flatten -> (Dense -> ReLU -> dropout) per hidden size -> Dense.

  Attributes:
    hidden: width of each hidden layer; empty for a linear classifier.
    num_classes: number of classes, K.
    dropout_rate: probability of dropping a hidden unit in training.
    temperature: divisor of the logits, in training and at inference. It is 1
      in an ordinary network; the paper's MNIST networks divide by another.
    dtype: type of the computation; parameters and logits are float32.
    quantization: a name in `quantization.SCHEMES`.
  """

  hidden: Sequence[int]
  num_classes: int
  dropout_rate: float = 0.0
  temperature: float = 1.0
  dtype: jnp.dtype = jnp.float32
  quantization: str = 'float'

  @property
  def feature_names(self) -> tuple[str, ...]:
    """The names of the features, from the first layer to the last."""
    return tuple(f'hidden{i}' for i in range(len(self.hidden)))

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> tuple[jax.Array, Features]:
    """Returns logits [B, K] and features [B, width] by name.

    Args:
      images: [B, ...] float.
      train: whether dropout is on.
    """
    features: Features = {}
    dot_general = quantization.SCHEMES[self.quantization].dot_general
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
  """Unpadded convolutions with ReLU, then an `MLP` head.

  With the defaults and 28x28x1 images, this is the paper's MNIST teacher: 32
  filters of 3x3 and two hidden layers of 1200 units with dropout 0.5, or
  27,413,130 parameters.

  Attributes:
    filters: output channels of each 3x3 convolution.
    All others: as in `MLP`.
  """

  num_classes: int
  filters: Sequence[int] = (32,)
  hidden: Sequence[int] = (1200, 1200)
  dropout_rate: float = 0.5
  temperature: float = 1.0
  dtype: jnp.dtype = jnp.float32
  quantization: str = 'float'

  @property
  def feature_names(self) -> tuple[str, ...]:
    """The names of the features, from the first layer to the last."""
    return (
      *(f'conv{i}' for i in range(len(self.filters))),
      *(f'hidden{i}' for i in range(len(self.hidden))),
    )

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> tuple[jax.Array, Features]:
    """Returns logits [B, K] and features by name.

    Features are 'conv0', ... [B, H, W, C] and 'hidden0', ... [B, width].

    Args:
      images: [B, H, W, C] float.
      train: whether dropout is on.
    """
    features: Features = {}
    scheme = quantization.SCHEMES[self.quantization]
    x = images.astype(self.dtype)
    for i, channels in enumerate(self.filters):
      x = nn.Conv(
        channels,
        (3, 3),
        padding='VALID',
        dtype=self.dtype,
        kernel_init=_KERNEL_INIT,
        conv_general_dilated=scheme.conv_general_dilated,
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
      quantization=self.quantization,
      name='head',
    )(x, train=train)
    return logits, features | head_features
