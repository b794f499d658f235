"""Training the ResNet students: ours beside plain Flax and PyTorch.

  make bench

Batches of 100 CIFAR-10-sized images, SGD with Nesterov momentum, cross-entropy
and distillation, on stored teacher logits or with a live teacher: a ResNet-50
that is called in every step, as the paper's program does. Plain Flax is the
same network of layers as they come. PyTorch runs channels-last, in float32 and
under bfloat16 autocast, as it is and compiled, and with the setting of the
memory allocator that ours has, which helps it too. Keras' Distiller calls the
teacher in every step. Before any timing, all that compute in float32 on stored
logits take the same two steps.

Writes results/bench-training-NETWORK.json.
"""

import argparse
import functools
import pathlib
import time
import types
from collections.abc import Callable

import harness
import networks
import numpy as np

BATCH, TEMPERATURE, RATE = 100, 4.0, 0.1
NETWORKS = ('ideal_stem_2', 'ideal', 'baseline')
TURN_S = 5.0  # What a turn should not be longer than.
# System: (what it is, steps of a timed turn).
SYSTEMS = {
  'ours': ('kd_jax, stored outputs', 6),
  'ours-live': ('kd_jax, live teacher', 3),
  'flax': ('plain Flax, stored outputs', 1),
  'torch-float32': ('PyTorch, stored outputs', 6),
  'torch-bfloat16': ('PyTorch bfloat16, stored outputs', 6),
  'torch-compiled-float32': ('PyTorch compiled, stored outputs', 6),
  'torch-compiled-bfloat16': ('PyTorch compiled bfloat16, stored outputs', 6),
  'torch-live-float32': ('PyTorch, live teacher', 3),
  'torch-live-bfloat16': ('PyTorch bfloat16, live teacher', 4),
  'torch-live-compiled-bfloat16': (
    'PyTorch compiled bfloat16, live teacher',
    4,
  ),
  'distiller-jax': ('Keras Distiller on JAX, live teacher', 2),
  'distiller-torch': ('Keras Distiller on torch, live teacher', 2),
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


# --- Ours; each system takes the name of a network. ---


def ours(
  network: str, *, live: bool = False, arithmetic: str = 'float'
) -> harness.System:
  """The step of a training, called in a loop as on a CPU."""
  import jax
  import jax.numpy as jnp

  from kd_jax import build, host_memory, objectives, optim, steps

  host_memory.keep_freed_memory()
  optimizer = optim.make_optimizer(
    'sgd', momentum=0.9, nesterov=True, weight_decay=5e-4
  )
  step = steps.make_train_step(
    build.apply_fn(networks.make_module(network, arithmetic=arithmetic)),
    objectives.make_objective({'kl': {}}),
    optimizer,
    lambda step: 1.0,
  )
  teacher = networks.make_module('teacher')
  variables = networks.make_variables('teacher') if live else {}

  @functools.partial(jax.jit, donate_argnums=0)
  def train_step(state, batch, variables, key, settings):
    if live:
      logits, _ = teacher.apply(variables, batch['images'], train=False)
      batch = batch | {'teacher_logits': logits}
    return step(state, batch, key, settings)

  batch = jax.tree.map(jnp.asarray, make_batch()) | {'mask': jnp.ones(BATCH)}
  key, one = jax.random.key(0), jnp.float32(1)
  settings = steps.Settings(
    jnp.float32(RATE), objectives.Weights(one, one, jnp.float32(TEMPERATURE))
  )
  # The optimizer starts from copies: the step takes its state's buffers.
  state = steps.init_state(networks.make_variables(network), optimizer)
  held = {'state': jax.tree.map(jnp.copy, state)}

  def take(count):
    for _ in range(count):
      held['state'], sums = train_step(
        held['state'], batch, variables, key, settings
      )
    jax.block_until_ready((held['state'], sums))
    return float(sums['loss'] / BATCH)

  is_checked = arithmetic == 'float' and not live
  checked = [take(1) for _ in range(CHECKED_STEPS)] if is_checked else None
  name = 'ours-live' if live else 'ours' if is_checked else 'flax'
  return harness.System(_turn(take, name), checked)


def plain_flax(network: str) -> harness.System:
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
  return ours(network, arithmetic='flax')


def _turn(take: Callable[[int], float], system: str):
  """Returns a turn of so many steps as the table says, fewer if they are slow.

  bfloat16 is 20 times slower on a processor without instructions for it.
  """
  count = SYSTEMS[system][1]

  def turn(case):
    nonlocal count
    del case
    began, taken = time.perf_counter(), count
    take(taken)
    seconds = time.perf_counter() - began
    fitting = int(taken * TURN_S / seconds)
    count = max(1, min(SYSTEMS[system][1], fitting))
    return BATCH * taken, seconds

  return turn


# --- PyTorch. ---


def _torch_batch():
  import torch

  batch = make_batch()
  images = torch.from_numpy(batch['images'].transpose(0, 3, 1, 2).copy())
  return (
    images.to(memory_format=torch.channels_last),
    torch.from_numpy(batch['labels']).long(),
    torch.from_numpy(batch['teacher_logits']),
  )


def torch(
  network: str, system: str, *, live: bool, compiled: bool, bfloat16: bool
) -> harness.System:
  """A plain loop."""
  import torch
  from torch.nn import functional as F

  from kd_jax import host_memory

  host_memory.keep_freed_memory()
  student = networks.make_torch(network)
  teacher = networks.make_torch('teacher').eval() if live else None
  optimizer = torch.optim.SGD(
    student.parameters(),
    lr=RATE,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
  )
  if compiled:
    student = torch.compile(student, dynamic=False)
    teacher = teacher and torch.compile(teacher, dynamic=False)
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

  def take(count):
    return [step() for _ in range(count)]

  is_checked = not (bfloat16 or live)
  checked = take(CHECKED_STEPS) if is_checked else None
  return harness.System(_turn(take, system), checked)


def keras_distiller(network: str, system: str) -> harness.System:
  """Keras' own distillation."""
  import keras
  from keras.distillation import Distiller, LogitsDistillation

  from kd_jax import costs

  student, teacher = (
    networks.make_keras(name) for name in (network, 'teacher')
  )
  ours = networks.make_variables(network)['params']
  trainable = sum(int(np.prod(own.shape)) for own in student.trainable_weights)
  assert trainable == costs.count_parameters(ours)
  distiller = Distiller(
    teacher=teacher,
    student=student,
    distillation_losses=LogitsDistillation(temperature=TEMPERATURE),
  )
  distiller.compile(
    optimizer=keras.optimizers.SGD(
      RATE, momentum=0.9, nesterov=True, weight_decay=5e-4
    ),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
  )
  batch = make_batch()

  def take(count):
    tile = lambda own: np.concatenate([own] * count)
    distiller.fit(
      tile(batch['images']), tile(batch['labels']), batch_size=BATCH, verbose=0
    )

  return harness.System(_turn(take, system), None)


def make(worker: str) -> harness.System:
  """Returns the system of `NETWORK:SYSTEM`."""
  network, system = worker.split(':')
  if system.startswith('torch'):
    return torch(
      network,
      system,
      live='live' in system,
      compiled='compiled' in system,
      bfloat16='bfloat16' in system,
    )
  if system.startswith('distiller'):
    return keras_distiller(network, system)
  if system == 'flax':
    return plain_flax(network)
  return ours(network, live=system == 'ours-live')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--networks', nargs='*', default=NETWORKS)
  parser.add_argument('--worker', help=argparse.SUPPRESS)
  parser.add_argument(
    '--out_dir', type=pathlib.Path, default=harness.ROOT / 'results'
  )
  args = parser.parse_args()
  limits = {'ours': harness.jax_limits, 'torch-float32': harness.torch_limits}
  if args.worker:
    system = args.worker.split(':')[1]
    harness.worker(
      functools.partial(make, args.worker), ('training',), limits.get(system)
    )
    return
  for network in args.networks:
    print(f'--- {network}', flush=True)
    results = harness.compare(
      {
        system: functools.partial(
          harness.Worker,
          __file__,
          f'{network}:{system}',
          {'KERAS_BACKEND': system.partition('-')[2]}
          if system.startswith('distiller')
          else None,
        )
        for system in SYSTEMS
      },
      ('training',),
      rounds=args.rounds,
      limits_of=tuple(limits),
      rtol=5e-3,
    )
    harness.write(
      args.out_dir / f'bench-training-{network}.json',
      peers=('keras', 'torch'),
      network=network,
      batch=BATCH,
      about={name: about for name, (about, _) in SYSTEMS.items()},
      **results,
    )


if __name__ == '__main__':
  main()
