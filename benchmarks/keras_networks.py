"""Our ResNets in Keras, made of its standard layers."""

import keras
import networks
from keras import layers

from kd_jax.models import resnet


def make(name: str) -> keras.Model:
  """Returns a ResNet of `networks`, with Keras' initial weights."""
  module = networks.make_module(name)
  images = keras.Input((32, 32, 3))
  x = _convolution(images, module.widths[0], 3, module.stem_stride)
  # Zero padding suits the max pool, as no output of a ReLU is below zero.
  x = layers.ZeroPadding2D(1)(layers.ReLU()(x))
  x = layers.MaxPooling2D(3, 2)(x)
  stages = zip(module.blocks, module.widths, module.strides, strict=True)
  for count, width, stride in stages:
    for j in range(count):
      convolutions = resnet.BLOCKS[module.block](width)
      x = _block(x, convolutions, stride if j == 0 else 1)
  logits = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
  return keras.Model(images, logits)


def _convolution(x, width: int, size: int, stride: int):
  """Applies a convolution and a batch norm."""
  # Explicit padding, as ours and PyTorch's; Keras' SAME pads differently.
  if size > 1:
    x = layers.ZeroPadding2D(size // 2)(x)
  x = layers.Conv2D(width, size, stride, use_bias=False)(x)
  return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def _block(x, convolutions, stride: int):
  """Applies a residual block."""
  out, shortcut = convolutions[-1][1], x
  if stride != 1 or x.shape[-1] != out:
    shortcut = _convolution(x, out, 1, stride)
  for i, (size, width) in enumerate(convolutions):
    # The first 3x3 convolution takes the stride of the block.
    step = stride if size == 3 else 1
    stride //= step
    x = layers.ReLU()(x) if i > 0 else x
    x = _convolution(x, width, size, step)
  return layers.ReLU()(layers.Add()([x, shortcut]))
