"""ResNets for small images: every network of the CIFAR-10 experiments."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from kd_jax.models import folding, layers, quantization
from kd_jax.models.mlp import Features

# Kaiming normal over fan_out for convolutions; dense layers uniform in
# +-1/sqrt(fan_in), weights and bias alike. Both are PyTorch's.
_CONV_INIT = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
_DENSE_INIT = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


def _bias_init(fan_in: int):
  limit = fan_in**-0.5
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
    key, shape, dtype, -limit, limit
  )


def _conv_norm(
  x: jax.Array,
  features: int,
  size: int,
  stride: int,
  *,
  net: 'ResNet | _Block',
  name: str,
  train: bool,
  scale_init: float = 1.0,
) -> jax.Array:
  """A convolution, padded to keep the size but for the stride, and its norm.

  Once the latter is folded into it, it has a bias instead; see folding.py.
  """
  x = nn.Conv(
    features,
    (size, size),
    strides=(stride, stride),
    padding=size // 2,
    use_bias=net.folded,
    dtype=net.dtype,
    kernel_init=_CONV_INIT,
    conv_general_dilated=quantization.ARITHMETICS[
      net.arithmetic
    ].conv_general_dilated,
    name=name,
  )(x)
  if net.folded:
    return x
  return layers.BatchNorm(scale_init=scale_init, name=folding.norm_name(name))(
    x, train=train
  )


class _Block(nn.Module):
  """A residual block.

  Attributes:
    layers: (kernel size, channels) of each convolution; the first of size 3
      carries the stride.
    stride: of the block.
    zero_init: whether the last batch norm's scale starts at 0, and with it
      the block as its shortcut.
    dtype: of the computation.
    arithmetic: a name in `quantized.ARITHMETICS`.
    folded: as in `ResNet`.
  """

  layers: Sequence[tuple[int, int]]
  stride: int
  zero_init: bool
  dtype: jnp.dtype
  arithmetic: str
  folded: bool

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    channels = self.layers[-1][1]
    convolution = functools.partial(_conv_norm, net=self, train=train)
    shortcut = x
    if self.stride != 1 or x.shape[-1] != channels:
      shortcut = convolution(x, channels, 1, self.stride, name='shortcut')
    stride = self.stride
    for i, (size, width) in enumerate(self.layers):
      if i > 0:
        x = nn.relu(x)
      own = stride if size == 3 else 1
      stride = stride // own  # Taken once.
      is_last = i == len(self.layers) - 1
      scale_init = 0.0 if self.zero_init and is_last else 1.0
      x = convolution(
        x, width, size, own, name=f'conv{i}', scale_init=scale_init
      )
    return nn.relu(x + shortcut)


# Convolutions of a block of so many filters, as (kernel size, channels).
BLOCKS = {
  'basic': lambda width: ((3, width), (3, width)),
  'bottleneck': lambda width: ((1, width), (3, width), (1, 4 * width)),
}


class ResNet(nn.Module):
  """Stem -> stages of residual blocks -> global average pool -> Dense.

  The defaults are ResNet-18 as the paper's program has it for 32x32 images: a
  3x3 stem of stride 1 and a 3x3 max pool of stride 2 behind it. Its ResNet-50
  has `block='bottleneck', blocks=(3, 4, 6, 3)`.

  Attributes:
    num_classes: K.
    block: a name in BLOCKS.
    blocks: of each stage.
    min_blocks: a stage has at least so many. With 0, a stage of no blocks is
      left out; with 1, it is as in the paper's program, where (1, 1, 0, 0) is
      the same network as (1, 1, 1, 1).
    widths: filters of each stage, and of the stem as those of the first.
    strides: of the first block of each stage.
    stem_stride: of the first convolution.
    stem_pool: whether a max pool follows it.
    zero_init: whether each block starts as its shortcut, the last scale in it
      being 0 (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
    temperature: as in `MLP`.
    dtype: of the computation; parameters, statistics and logits are float32.
    arithmetic: a name in `quantized.ARITHMETICS`.
    folded: whether the batch norms are in the convolutions: for use alone, of
      variables from `fold`.

  Reference: He et al. 2016, arXiv:1512.03385.
  """

  num_classes: int
  block: str = 'basic'
  blocks: Sequence[int] = (2, 2, 2, 2)
  min_blocks: int = 0
  widths: Sequence[int] = (64, 128, 256, 512)
  strides: Sequence[int] = (1, 2, 2, 2)
  stem_stride: int = 1
  stem_pool: bool = True
  zero_init: bool = False
  temperature: float = 1.0
  dtype: jnp.dtype = jnp.float32
  arithmetic: str = 'float'
  folded: bool = False

  @property
  def cpu_batch(self) -> int | None:
    """Images that a CPU computes fastest at a time; None if that is unknown.

    Of many more, what a layer leaves for the next falls out of its caches.
    """
    return None if self.arithmetic == 'flax' else 100

  @property
  def feature_names(self) -> tuple[str, ...]:
    """Names of the features, in the order of depth."""
    stages = (
      f'stage{i + 1}'
      for i, count in enumerate(self.blocks)
      if max(count, self.min_blocks) > 0
    )
    return ('stem', *stages, 'pooled')

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> tuple[jax.Array, Features]:
    """Args: images [B, H, W, C] float. Returns: logits [B, K], features.

    Features are 'stem' and 'stage1' to 'stage4', [B, H, W, C] each, and
    'pooled' [B, C].
    """
    features: Features = {}
    x = images.astype(self.dtype)
    x = _conv_norm(
      x,
      self.widths[0],
      3,
      self.stem_stride,
      net=self,
      name='stem',
      train=train,
    )
    x = nn.relu(x)
    if self.stem_pool:
      is_plain = self.arithmetic == 'flax'
      x = (layers.plain_max_pool if is_plain else layers.max_pool)(x)
    features['stem'] = x
    stages = zip(self.blocks, self.widths, self.strides, strict=True)
    for i, (count, width, stride) in enumerate(stages):
      for j in range(max(count, self.min_blocks)):
        x = _Block(
          BLOCKS[self.block](width),
          stride if j == 0 else 1,
          self.zero_init,
          self.dtype,
          self.arithmetic,
          self.folded,
          name=f'stage{i + 1}_block{j}',
        )(x, train=train)
        features[f'stage{i + 1}'] = x
    x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    features['pooled'] = x
    logits = nn.Dense(
      self.num_classes,
      kernel_init=_DENSE_INIT,
      bias_init=_bias_init(x.shape[-1]),
      dot_general=quantization.ARITHMETICS[self.arithmetic].dot_general,
      name='logits',
    )(x)
    return logits / self.temperature, features
