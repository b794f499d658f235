"""Our networks in PyTorch: layers have our names and get our weights."""

import networks
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from kd_jax.models import resnet


def make(name: str) -> nn.Module:
  """Returns a network of `networks`, channels-last, with our weights."""
  if name in networks.MLPS:
    (hidden,) = networks.MLPS[name]['hidden']
    net = MLP(hidden)
  else:
    net = ResNet(networks.make_module(name))
  with torch.no_grad():
    variables = networks.make_variables(name)
    _copy(net, variables['params'])
    _copy(net, variables['batch_stats'])
  return net.to(memory_format=torch.channels_last)


class MLP(nn.Module):
  """784 inputs, one hidden layer, 10 logits."""

  def __init__(self, hidden: int):
    super().__init__()
    self.hidden0 = nn.Linear(784, hidden)
    self.logits = nn.Linear(hidden, 10)

  def forward(self, x):
    """Maps images [B, 1, 28, 28] to logits [B, 10]."""
    return self.logits(self.hidden0(x.flatten(1)).relu())


class Block(nn.Module):
  """A residual block."""

  def __init__(
    self, channels: int, convolutions: tuple[tuple[int, int], ...], stride: int
  ):
    super().__init__()
    out, inputs = convolutions[-1][1], channels
    self.shortcut = None
    if stride != 1 or channels != out:
      self.shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)
      self.shortcut_norm = nn.BatchNorm2d(out)
    self.count = len(convolutions)
    for i, (size, width) in enumerate(convolutions):
      # The first 3x3 convolution takes the stride of the block.
      step = stride if size == 3 else 1
      stride //= step
      convolution = nn.Conv2d(inputs, width, size, step, size // 2, bias=False)
      self.add_module(f'conv{i}', convolution)
      self.add_module(f'norm{i}', nn.BatchNorm2d(width))
      inputs = width

  def forward(self, x):
    """Maps feature maps [B, C, H, W] to the block's output."""
    shortcut = x
    if self.shortcut is not None:
      shortcut = self.shortcut_norm(self.shortcut(x))
    for i in range(self.count):
      x = F.relu(x) if i > 0 else x
      x = getattr(self, f'norm{i}')(getattr(self, f'conv{i}')(x))
    return F.relu(x + shortcut)


class ResNet(nn.Module):
  """The ResNet that a module of `kd_jax.models.ResNet` describes."""

  def __init__(self, module):
    super().__init__()
    channels = module.widths[0]
    self.stem = nn.Conv2d(3, channels, 3, module.stem_stride, 1, bias=False)
    self.stem_norm = nn.BatchNorm2d(channels)
    self.blocks = []
    stages = zip(module.blocks, module.widths, module.strides, strict=True)
    for i, (count, width, stride) in enumerate(stages):
      for j in range(count):
        convolutions = resnet.BLOCKS[module.block](width)
        name = f'stage{i + 1}_block{j}'
        block = Block(channels, convolutions, stride if j == 0 else 1)
        self.add_module(name, block)
        self.blocks.append(name)
        channels = convolutions[-1][1]
    self.logits = nn.Linear(channels, 10)

  def forward(self, x):
    """Maps images [B, 3, 32, 32] to logits [B, 10]."""
    x = F.max_pool2d(F.relu(self.stem_norm(self.stem(x))), 3, 2, 1)
    for name in self.blocks:
      x = getattr(self, name)(x)
    return self.logits(x.mean((2, 3)))


def _copy(layer: nn.Module, params) -> None:
  """Copies our arrays into the PyTorch layers of the same names."""
  attributes = {'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}
  for name, value in params.items():
    if isinstance(value, dict):
      _copy(getattr(layer, name), value)
      continue
    value = np.asarray(value)
    if name == 'kernel':
      axes = (3, 2, 0, 1) if value.ndim == 4 else (1, 0)
      layer.weight.copy_(torch.from_numpy(value.transpose(axes).copy()))
    else:
      target = getattr(layer, attributes.get(name, name))
      target.copy_(torch.from_numpy(value.copy()))
