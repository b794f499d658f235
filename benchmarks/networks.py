"""The networks that are compared: ours, and the same in PyTorch.

Every system has the same weights, which are random: times do not depend.
"""

import harness  # noqa: F401  (which finds the project)
import numpy as np

RESNETS = {
  'baseline': dict(blocks=(2, 2, 2, 2)),
  'ideal': dict(blocks=(1, 1, 1, 1)),
  'ideal_stem_2': dict(blocks=(1, 1, 1, 1), stem_stride=2),
  'teacher': dict(block='bottleneck', blocks=(3, 4, 6, 3)),
}
MLPS = {'h300': dict(hidden=(300,))}


def image_shape(name: str) -> tuple[int, int, int]:
  """Returns [H, W, C] of a network's images."""
  return (32, 32, 3) if name in RESNETS else (28, 28, 1)


def make_config(name: str):
  """Returns the config of the row that trains a student, closed."""
  from configs import cifar, mnist
  from kd_jax.training import build

  if name in MLPS:
    return build.close_row(mnist.get_config(name), name)
  row, at_stem, _ = name.partition('_stem_2')
  config = cifar.get_config(f'{row},stride_at=stem' if at_stem else row)
  return build.close_row(config, row)


def row_examples(name: str) -> int:
  """Returns the examples of a student's row, all its epochs together."""
  from kd_jax.training import train

  section = make_config(name).train
  used = np.ones(60_000 if name in MLPS else 50_000, bool)
  phases = train.make_phases(used, epochs=section.epochs, folds=section.folds)
  return sum(own.epochs * int(own.subset.sum()) for own in phases)


def macs(name: str) -> int:
  """Returns the multiply-accumulates of an image, forward."""
  fields = {'quantization': 'flax'} if name in RESNETS else {}
  return _count(make_module(name, **fields), image_shape(name))


def training_macs(name: str) -> int:
  """Returns those of a training step, an image.

  Forward, for each kernel's gradient, and for that of each layer's input but
  the network's own.
  """
  if name in MLPS:
    first = int(np.prod(image_shape(name))) * MLPS[name]['hidden'][0]
  else:
    module = make_module(name)
    first = 3 * 9 * module.widths[0] * (32 // module.stem_stride) ** 2
  return 3 * macs(name) - first


def teacher_macs(name: str) -> int:
  """Returns those of an image in the teacher that a student is trained by."""
  from kd_jax.training import build

  if name in RESNETS:
    return macs('teacher')
  model = make_config(name).teacher.model
  return _count(build.model(model, 10), image_shape(name))


def _count(module, shape: tuple[int, ...]) -> int:
  import jax

  from kd_jax.models import costs
  from kd_jax.training import build

  variables = build.init_variables(module, shape, jax.random.key(0))
  forward = lambda images: build.apply_fn(module)(
    variables, images, train=False, key=None
  )[0]
  return costs.count_macs(forward, jax.ShapeDtypeStruct((1, *shape), 'float32'))


def training_work(name: str):
  """Returns (case, system) -> operations and bytes of an example's training.

  Bytes are none: what of a step's memory stays in caches is not known.
  """
  own, teacher = training_macs(name), teacher_macs(name)

  def work(case: str, system: str) -> tuple[float, float]:
    del case
    is_live = 'live' in system or 'distiller' in system
    return 2 * (own + teacher * is_live), 0

  return work


def make_module(name: str, **fields):
  """Returns a network of ours."""
  from kd_jax import models

  if name in MLPS:
    return models.MLP(num_classes=10, **MLPS[name], **fields)
  return models.ResNet(num_classes=10, **RESNETS[name], **fields)


def make_variables(name: str):
  """Returns initial variables, the same everywhere.

  But for batch norms, which are as of a trained network: a compiler would leave
  out their zeros and ones.
  """
  import jax

  from kd_jax.training import build

  rng = np.random.default_rng(0)

  def trained(path, leaf):
    is_norm = 'norm' in jax.tree_util.keystr(path)
    return rng.uniform(0.5, 1, leaf.shape).astype('f') if is_norm else leaf

  variables = build.init_variables(
    make_module(name), image_shape(name), jax.random.key(0)
  )
  return jax.tree_util.tree_map_with_path(trained, variables)


def make_torch(name: str):
  """Returns the network in PyTorch, channels-last, with our weights."""
  import torch

  net = _torch_mlp(name) if name in MLPS else _torch_resnet(name)
  with torch.no_grad():
    variables = make_variables(name)
    _copy(net, variables['params'])
    _copy(net, variables['batch_stats'])
  return net.to(memory_format=torch.channels_last)


def make_keras(name: str):
  """Returns a ResNet in Keras, as its layers come, with its own weights."""
  import keras
  from keras import layers

  from kd_jax.models.resnet import BLOCKS

  module = make_module(name)

  def convolution(x, width, size, stride):
    # Padded as ours and PyTorch's are, and not as SAME would.
    if size > 1:
      x = layers.ZeroPadding2D(size // 2)(x)
    x = layers.Conv2D(width, size, stride, use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

  def block(x, convolutions, stride):
    out, shortcut = convolutions[-1][1], x
    if stride != 1 or x.shape[-1] != out:
      shortcut = convolution(x, out, 1, stride)
    for i, (size, width) in enumerate(convolutions):
      own = stride if size == 3 else 1
      stride //= own
      x = layers.ReLU()(x) if i > 0 else x
      x = convolution(x, width, size, own)
    return layers.ReLU()(layers.Add()([x, shortcut]))

  images = keras.Input((32, 32, 3))
  x = convolution(images, module.widths[0], 3, module.stem_stride)
  x = layers.ZeroPadding2D(1)(layers.ReLU()(x))  # 0 is below none of these.
  x = layers.MaxPooling2D(3, 2)(x)
  stages = zip(module.blocks, module.widths, module.strides, strict=True)
  for count, width, stride in stages:
    for j in range(count):
      x = block(x, BLOCKS[module.block](width), stride if j == 0 else 1)
  logits = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
  return keras.Model(images, logits)


def _torch_mlp(name: str):
  from torch import nn

  class Net(nn.Module):
    def __init__(self):
      super().__init__()
      (hidden,) = MLPS[name]['hidden']
      self.hidden0 = nn.Linear(784, hidden)
      self.logits = nn.Linear(hidden, 10)

    def forward(self, x):
      return self.logits(self.hidden0(x.flatten(1)).relu())

  return Net()


def _torch_resnet(name: str):
  from torch import nn
  from torch.nn import functional as F

  from kd_jax.models.resnet import BLOCKS

  module = make_module(name)

  class Block(nn.Module):
    def __init__(self, channels, convolutions, stride):
      super().__init__()
      out, inputs = convolutions[-1][1], channels
      self.shortcut = None
      if stride != 1 or channels != out:
        self.shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(out)
      self.count = len(convolutions)
      for i, (size, width) in enumerate(convolutions):
        own = stride if size == 3 else 1
        stride //= own
        convolution = nn.Conv2d(inputs, width, size, own, size // 2, bias=False)
        self.add_module(f'conv{i}', convolution)
        self.add_module(f'norm{i}', nn.BatchNorm2d(width))
        inputs = width

    def forward(self, x):
      shortcut = x
      if self.shortcut is not None:
        shortcut = self.shortcut_norm(self.shortcut(x))
      for i in range(self.count):
        x = F.relu(x) if i > 0 else x
        x = getattr(self, f'norm{i}')(getattr(self, f'conv{i}')(x))
      return F.relu(x + shortcut)

  class Net(nn.Module):
    def __init__(self):
      super().__init__()
      channels = module.widths[0]
      self.stem = nn.Conv2d(3, channels, 3, module.stem_stride, 1, bias=False)
      self.stem_norm = nn.BatchNorm2d(channels)
      self.blocks = []
      stages = zip(module.blocks, module.widths, module.strides, strict=True)
      for i, (count, width, stride) in enumerate(stages):
        for j in range(count):
          convolutions = BLOCKS[module.block](width)
          block = f'stage{i + 1}_block{j}'
          self.add_module(
            block, Block(channels, convolutions, stride if j == 0 else 1)
          )
          self.blocks.append(block)
          channels = convolutions[-1][1]
      self.logits = nn.Linear(channels, 10)

    def forward(self, x):
      x = F.max_pool2d(F.relu(self.stem_norm(self.stem(x))), 3, 2, 1)
      for block in self.blocks:
        x = getattr(self, block)(x)
      return self.logits(x.mean((2, 3)))

  return Net()


def _copy(layer, params) -> None:
  """Copies arrays of ours into a PyTorch layer of the same names."""
  import torch

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
