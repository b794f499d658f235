"""ResNets for small images: all networks of the CIFAR-10 experiments."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from kd_jax.models import folding, initializers, layers, quantization
from kd_jax.models.mlp import Features


class _Conv(NamedTuple):
  """A convolution that is followed by a batch norm.

  Attributes:
    features: number of output channels.
    size: height and width of the kernel.
    stride: stride of both axes.
    scale_init: initial scale of the batch norm.
    kernel_init: initial kernel.
  """

  features: int
  size: int
  stride: int = 1
  scale_init: float = 1.0
  kernel_init: nn.initializers.Initializer = initializers.kaiming


def _conv_norm(
  x: jax.Array,
  conv: _Conv,
  *,
  net: 'ResNet | _Block | _PooledBlock',
  name: str,
  train: bool,
) -> jax.Array:
  """Applies a convolution that keeps height / stride, and its batch norm.

  If the batch norm is folded into the convolution, the convolution has a bias
  instead; see folding.py.
  """
  scheme = quantization.SCHEMES[net.quantization]
  x = nn.Conv(
    conv.features,
    (conv.size, conv.size),
    strides=(conv.stride, conv.stride),
    padding=conv.size // 2,
    use_bias=net.folded,
    dtype=net.dtype,
    kernel_init=conv.kernel_init,
    conv_general_dilated=scheme.conv_general_dilated,
    name=name,
  )(x)
  if net.folded:
    return x
  norm = layers.BatchNorm(
    scale_init=conv.scale_init, name=folding.norm_name(name)
  )
  return norm(x, train=train)


class _Block(nn.Module):
  """A residual block.

  Attributes:
    layers: (kernel size, channels) of each convolution. The first convolution
      of size 3 has the stride of the block.
    stride: stride of the block.
    zero_init: whether the scale of the last batch norm starts at 0. The block
      then starts as its shortcut.
    conv_init, dtype, quantization, folded: as in `ResNet`.
  """

  layers: Sequence[tuple[int, int]]
  stride: int
  zero_init: bool
  conv_init: str
  dtype: jnp.dtype
  quantization: str
  folded: bool

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    channels = self.layers[-1][1]
    conv_norm = functools.partial(_conv_norm, net=self, train=train)
    shortcut = x
    if self.stride != 1 or x.shape[-1] != channels:
      shortcut = conv_norm(x, _Conv(channels, 1, self.stride), name='shortcut')
    kernel_init = initializers.KERNELS[self.conv_init]
    remaining_stride = self.stride
    for i, (size, width) in enumerate(self.layers):
      if i > 0:
        x = nn.relu(x)
      stride = remaining_stride if size == 3 else 1
      remaining_stride //= stride
      is_last = i == len(self.layers) - 1
      scale_init = 0.0 if self.zero_init and is_last else 1.0
      conv = _Conv(width, size, stride, scale_init, kernel_init)
      x = conv_norm(x, conv, name=f'conv{i}')
    return nn.relu(x + shortcut)


class _PooledBlock(nn.Module):
  """A convolution and a max pool, without a shortcut.

  Attributes:
    width: number of output channels.
    stride: height and width of the pool's windows, which do not overlap.
    conv_init, dtype, quantization, folded: as in `ResNet`.
  """

  width: int
  stride: int
  conv_init: str
  dtype: jnp.dtype
  quantization: str
  folded: bool

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    kernel_init = initializers.KERNELS[self.conv_init]
    conv = _Conv(self.width, 3, kernel_init=kernel_init)
    x = nn.relu(_conv_norm(x, conv, net=self, name='conv0', train=train))
    if self.stride == 1:
      return x
    plain = quantization.SCHEMES[self.quantization].uses_flax_layers
    pool = layers.plain_tiled_max_pool if plain else layers.tiled_max_pool
    return pool(x, self.stride)


# From the number of filters to the convolutions of a block, each as (kernel
# size, channels). The first block of a stage of 'pooled' is a `_PooledBlock`.
BLOCKS = {
  'basic': lambda width: ((3, width), (3, width)),
  'bottleneck': lambda width: ((1, width), (3, width), (1, 4 * width)),
  'pooled': lambda width: ((3, width), (3, width)),
}


def _mean(x: jax.Array) -> jax.Array:
  return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


def _max(x: jax.Array) -> jax.Array:
  return jnp.max(x, axis=(1, 2)).astype(jnp.float32)


# From [B, H, W, C] to float32 [B, C].
HEAD_POOLS = {'mean': _mean, 'max': _max}


class ResNet(nn.Module):
  """Stem -> stages of residual blocks -> global average pool -> Dense.

  The defaults are the ResNet-18 of the paper's code for 32x32 images: a 3x3
  stem of stride 1, followed by a 3x3 max pool of stride 2. The paper's
  ResNet-50 has `block='bottleneck', blocks=(3, 4, 6, 3)`.

  With `block='pooled'`, each stage begins with one convolution and a max pool
  in place of a residual block with a stride. The ResNet-9 of DAWNBench (David
  Page 2018) is `block='pooled', blocks=(0, 2, 1, 2), stem_pool=False,
  head_pool='max', temperature=8`, apart from the scales of its batch norms,
  which it does not train.

  Attributes:
    num_classes: number of classes, K.
    block: a name in BLOCKS.
    blocks: number of blocks of each stage.
    min_blocks: least number of blocks of a stage. With 0, a stage of 0 blocks
      is left out. With 1, as in the paper's code, such a stage has one block:
      (1, 1, 0, 0) is the same network as (1, 1, 1, 1).
    widths: number of filters of each stage. The stem has those of the first.
    strides: stride of the first block of each stage.
    stem_stride: stride of the first convolution.
    stem_pool: whether a max pool follows the first convolution.
    stem_init: initial kernel of the first convolution, a name in
      `initializers.KERNELS`.
    conv_init: the same for convolutions of blocks; shortcuts have `kaiming`.
    zero_init: whether each block starts as its shortcut, because its last
      scale is 0 (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
    head_pool: the pool over all pixels before the last layer, a name in
      HEAD_POOLS.
    temperature: as in `MLP`.
    dtype: type of the computation; parameters, statistics and logits are
      float32.
    quantization: a name in `quantization.SCHEMES`.
    folded: whether the batch norms are folded into the convolutions. For
      inference only, with variables from `folding.fold`.

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
  stem_init: str = 'kaiming'
  conv_init: str = 'kaiming'
  zero_init: bool = False
  head_pool: str = 'mean'
  temperature: float = 1.0
  dtype: jnp.dtype = jnp.float32
  quantization: str = 'float'
  folded: bool = False

  @property
  def cpu_batch(self) -> int | None:
    """The batch size at which a CPU is fastest; None if it is unknown.

    With much larger batches, the output of a layer does not fit into the CPU's
    caches.
    """
    return None if self._uses_flax_layers else 100

  @property
  def _uses_flax_layers(self) -> bool:
    return quantization.SCHEMES[self.quantization].uses_flax_layers

  @property
  def feature_names(self) -> tuple[str, ...]:
    """The names of the features, from the first layer to the last."""
    stages = (
      f'stage{i + 1}'
      for i, count in enumerate(self.blocks)
      if max(count, self.min_blocks) > 0
    )
    return ('stem', *stages, 'pooled')

  def _block(
    self, width: int, stride: int, *, is_first: bool
  ) -> Callable[..., nn.Module]:
    """Returns the constructor of a block, which takes the block's name.

    Args:
      width: number of filters of the stage.
      stride: stride of the stage.
      is_first: whether the block is the first of its stage.
    """
    common: dict[str, Any] = {
      'conv_init': self.conv_init,
      'dtype': self.dtype,
      'quantization': self.quantization,
      'folded': self.folded,
    }
    if self.block == 'pooled' and is_first:
      return functools.partial(_PooledBlock, width, stride, **common)
    return functools.partial(
      _Block,
      BLOCKS[self.block](width),
      stride if is_first else 1,
      self.zero_init,
      **common,
    )

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool
  ) -> tuple[jax.Array, Features]:
    """Returns logits [B, K] and features by name.

    Features are 'stem' and 'stage1' to 'stage4', each [B, H, W, C], and
    'pooled' [B, C].

    Args:
      images: [B, H, W, C] float.
      train: whether batch norm takes the statistics of the batch.
    """
    features: Features = {}
    x = images.astype(self.dtype)
    stem = _Conv(
      self.widths[0],
      3,
      self.stem_stride,
      kernel_init=initializers.KERNELS[self.stem_init],
    )
    x = nn.relu(_conv_norm(x, stem, net=self, name='stem', train=train))
    if self.stem_pool:
      plain = self._uses_flax_layers
      x = (layers.plain_max_pool if plain else layers.max_pool)(x)
    features['stem'] = x
    stages = zip(self.blocks, self.widths, self.strides, strict=True)
    for i, (count, width, stride) in enumerate(stages):
      for j in range(max(count, self.min_blocks)):
        block = self._block(width, stride, is_first=j == 0)
        x = block(name=f'stage{i + 1}_block{j}')(x, train=train)
        features[f'stage{i + 1}'] = x
    x = HEAD_POOLS[self.head_pool](x)
    features['pooled'] = x
    logits = nn.Dense(
      self.num_classes,
      kernel_init=initializers.dense_kernel,
      bias_init=initializers.dense_bias(x.shape[-1]),
      dot_general=quantization.SCHEMES[self.quantization].dot_general,
      name='logits',
    )(x)
    return logits / self.temperature, features
