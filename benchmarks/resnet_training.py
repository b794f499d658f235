"""Training and using the ResNet students: ours beside plain Flax and PyTorch.

  make bench

Batches of 100 CIFAR-10-sized images, SGD with Nesterov momentum, cross-entropy
and distillation on stored teacher logits but for `torch-live`, which calls a
ResNet-50 in every step, as the paper's program does. Plain Flax is the same
network of nn.Conv, nn.BatchNorm and nn.max_pool as they come. PyTorch runs
channels-last, in float32 and under bfloat16 autocast, and with the setting of
the memory allocator that ours has, which helps it too.

Writes results/bench-resnet-NETWORK.json.
"""

import argparse
import functools
import sys
import time
import types
from collections.abc import Callable

import harness
import numpy as np

BATCH, TEMPERATURE, RATE = 100, 4.0, 0.1
NETWORKS = {
  'baseline': dict(blocks=(2, 2, 2, 2)),
  'ideal': dict(blocks=(1, 1, 1, 1)),
  'ideal_stem_2': dict(blocks=(1, 1, 1, 1), stem_stride=2),
}
TEACHER = dict(block='bottleneck', blocks=(3, 4, 6, 3))
# System: (what it is, steps of a timed turn).
SYSTEMS = {
  'ours': ('kd_jax, training', 6),
  'flax': ('plain Flax, training', 1),
  'torch-float32': ('PyTorch float32, training', 6),
  'torch-bfloat16': ('PyTorch bfloat16, training', 6),
  'torch-live': ('PyTorch bfloat16, training with a live teacher', 4),
  'ours-inference': ('kd_jax, inference', 12),
  'torch-float32-inference': ('PyTorch float32, inference', 12),
  'torch-bfloat16-inference': ('PyTorch bfloat16, inference', 12),
}
CHECKED_STEPS = 2


def make_batch() -> dict[str, np.ndarray]:
  """Returns random images, labels and teacher logits: times do not depend."""
  rng = np.random.default_rng(0)
  return {
    'images': rng.normal(size=(BATCH, 32, 32, 3)).astype(np.float32),
    'labels': rng.integers(0, 10, BATCH).astype(np.int32),
    'teacher_logits': rng.normal(size=(BATCH, 10)).astype(np.float32),
  }


def _module(network: dict):
  from kd_jax import models

  return models.ResNet(num_classes=10, **network)


def make_weights(network: dict):
  """Returns initial variables, the same everywhere."""
  import jax

  from kd_jax import build

  init = lambda key: build.init_variables(_module(network), (32, 32, 3), key)
  return jax.jit(init)(jax.random.key(0))


# --- Systems; each takes a network's fields. See harness.System. ---


def ours(network: dict) -> harness.System:
  """The step of a training, called in a loop as on a CPU."""
  from kd_jax import host_memory

  host_memory.keep_freed_memory()
  return _jax_training(network)


def plain_flax(network: dict) -> harness.System:
  """The same step over layers as Flax has them."""
  from flax import linen as nn

  from kd_jax.models import resnet

  class BatchNorm(nn.Module):
    scale_init: float = 1.0

    @nn.compact
    def __call__(self, x, *, train: bool):
      return nn.BatchNorm(
        not train,
        momentum=0.9,
        epsilon=1e-5,
        scale_init=nn.initializers.constant(self.scale_init),
        name='norm',
      )(x)

  resnet.layers = types.SimpleNamespace(
    BatchNorm=BatchNorm,
    max_pool=lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))),
  )
  return _jax_training(network | {'arithmetic': 'flax'}, checked=False)


def _jax_training(network: dict, checked: bool = True) -> harness.System:
  import jax
  import jax.numpy as jnp

  from kd_jax import build, objectives, optim, steps

  optimizer = optim.make_optimizer(
    'sgd', momentum=0.9, nesterov=True, weight_decay=5e-4
  )
  train_step = jax.jit(
    steps.make_train_step(
      build.apply_fn(_module(network)),
      objectives.make_objective({'kl': {}}),
      optimizer,
      lambda step: 1.0,
    ),
    donate_argnums=0,
  )
  batch = jax.tree.map(jnp.asarray, make_batch()) | {'mask': jnp.ones(BATCH)}
  key = jax.random.key(0)
  one = jnp.float32(1)
  settings = steps.Settings(
    jnp.float32(RATE), objectives.Weights(one, one, jnp.float32(TEMPERATURE))
  )
  # The optimizer starts from copies: the step takes its state's buffers.
  state = steps.init_state(make_weights(network), optimizer)
  state, losses = jax.tree.map(jnp.copy, state), []
  for _ in range(CHECKED_STEPS if checked else 0):
    state, sums = train_step(state, batch, key, settings)
    losses.append(float(sums['loss'] / BATCH))
  held = {'state': state}

  def run(examples):
    began = time.perf_counter()
    for _ in range(examples // BATCH):
      held['state'], sums = train_step(held['state'], batch, key, settings)
    jax.block_until_ready((held['state'], sums))
    return time.perf_counter() - began

  return losses or None, run


def our_inference(network: dict) -> harness.System:
  """Compiled ahead, from images to classes."""
  import jax
  import jax.numpy as jnp

  from kd_jax import host_memory

  host_memory.keep_freed_memory()
  module, variables = _module(network), make_weights(network)
  images = jnp.asarray(make_batch()['images'])

  def predict(variables, images):
    return jnp.argmax(module.apply(variables, images, train=False)[0], axis=-1)

  compiled = jax.jit(predict).lower(variables, images).compile()

  def run(examples):
    began = time.perf_counter()
    for _ in range(examples // BATCH):
      jax.block_until_ready(compiled(variables, images))
    return time.perf_counter() - began

  return None, run


def _torch_network(network: dict):
  """Returns the network in PyTorch, with our initial weights."""
  import torch
  from torch import nn
  from torch.nn import functional as F

  module = _module(network)
  variables = make_weights(network)
  from kd_jax.models.resnet import BLOCKS

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
          name = f'stage{i + 1}_block{j}'
          self.add_module(
            name, Block(channels, convolutions, stride if j == 0 else 1)
          )
          self.blocks.append(name)
          channels = convolutions[-1][1]
      self.logits = nn.Linear(channels, 10)

    def forward(self, x):
      x = F.max_pool2d(F.relu(self.stem_norm(self.stem(x))), 3, 2, 1)
      for name in self.blocks:
        x = getattr(self, name)(x)
      return self.logits(x.mean((2, 3)))

  net = Net()

  def copy(layer, params):
    for name, value in params.items():
      own = getattr(layer, name, None)
      value = np.asarray(value) if not isinstance(value, dict) else value
      if isinstance(value, dict):
        copy(own, value)
      elif name == 'kernel':
        axes = (3, 2, 0, 1) if value.ndim == 4 else (1, 0)
        layer.weight.copy_(torch.from_numpy(value.transpose(axes).copy()))
      else:
        target = layer.weight if name == 'scale' else layer.bias
        target.copy_(torch.from_numpy(value.copy()))

  with torch.no_grad():
    copy(net, variables['params'])
  return net.to(memory_format=torch.channels_last)


def _torch_batch():
  import torch

  batch = make_batch()
  images = torch.from_numpy(batch['images'].transpose(0, 3, 1, 2).copy())
  return (
    images.to(memory_format=torch.channels_last),
    torch.from_numpy(batch['labels']).long(),
    torch.from_numpy(batch['teacher_logits']),
  )


def torch_training(
  network: dict, *, bfloat16: bool, live: bool = False
) -> harness.System:
  """A plain loop."""
  import torch
  from torch.nn import functional as F

  from kd_jax import host_memory

  host_memory.keep_freed_memory()
  student = _torch_network(network)
  teacher = _torch_network(TEACHER).eval() if live else None
  optimizer = torch.optim.SGD(
    student.parameters(),
    lr=RATE,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
  )
  images, labels, stored = _torch_batch()
  autocast = functools.partial(
    torch.autocast, 'cpu', dtype=torch.bfloat16, enabled=bfloat16
  )

  def step():
    teacher_logits = stored
    if live:
      with torch.no_grad(), autocast():
        teacher_logits = teacher(images).float()
    with autocast():
      logits = student(images)
    logits = logits.float()
    loss = F.cross_entropy(logits, labels)
    loss = loss + TEMPERATURE**2 * F.kl_div(
      F.log_softmax(logits / TEMPERATURE, dim=1),
      F.log_softmax(teacher_logits / TEMPERATURE, dim=1),
      log_target=True,
      reduction='batchmean',
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())

  losses = [step() for _ in range(CHECKED_STEPS)]

  def run(examples):
    began = time.perf_counter()
    for _ in range(examples // BATCH):
      step()
    return time.perf_counter() - began

  return (None if bfloat16 or live else losses), run


def torch_inference(network: dict, *, bfloat16: bool) -> harness.System:
  """A forward pass without gradients."""
  import torch

  from kd_jax import host_memory

  host_memory.keep_freed_memory()
  net, images = _torch_network(network).eval(), _torch_batch()[0]

  def run(examples):
    began = time.perf_counter()
    with (
      torch.inference_mode(),
      torch.autocast('cpu', dtype=torch.bfloat16, enabled=bfloat16),
    ):
      for _ in range(examples // BATCH):
        net(images).argmax(dim=1)
    return time.perf_counter() - began

  return None, run


MAKERS: dict[str, Callable[[dict], harness.System]] = {
  'ours': ours,
  'flax': plain_flax,
  'torch-float32': functools.partial(torch_training, bfloat16=False),
  'torch-bfloat16': functools.partial(torch_training, bfloat16=True),
  'torch-live': functools.partial(torch_training, bfloat16=True, live=True),
  'ours-inference': our_inference,
  'torch-float32-inference': functools.partial(torch_inference, bfloat16=False),
  'torch-bfloat16-inference': functools.partial(torch_inference, bfloat16=True),
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--networks', nargs='*', default=list(NETWORKS))
  parser.add_argument('--worker', help=argparse.SUPPRESS)
  parser.add_argument('--out_dir', default=str(harness.ROOT / 'results'))
  args = parser.parse_args()
  if args.worker:
    network, system = args.worker.split(':')
    harness.worker(
      functools.partial(MAKERS[system], NETWORKS[network]),
      BATCH * SYSTEMS[system][1],
    )
    return
  from kd_jax import records

  for network in args.networks:
    parts = []
    for is_inference in (False, True):
      systems = [
        system
        for system in SYSTEMS
        if system.endswith('-inference') == is_inference
      ]
      results = harness.compare(
        {
          system: functools.partial(
            harness.Worker, __file__, f'{network}:{system}'
          )
          for system in systems
        },
        {system: BATCH * SYSTEMS[system][1] for system in systems},
        rounds=args.rounds,
        tolerance=5e-3,
      )
      for system in systems:
        results['systems'][system]['about'] = SYSTEMS[system][0]
      parts.append(results)
    training, inference = parts
    name = f'bench-resnet-{network}'
    records.write_json(
      f'{args.out_dir}/{name}.json',
      {
        'name': name,
        'command': ' '.join(['benchmarks/resnet_training.py', *sys.argv[1:]]),
        'environment': harness.environment(('torch',)),
        'network': f'ResNet {NETWORKS[network]}, batch {BATCH}, SGD',
        **training,
        'systems': training['systems'] | inference['systems'],
      },
    )


if __name__ == '__main__':
  main()
