"""Training the ResNet students: ours beside plain Flax and PyTorch.

  make bench

Batches of 100 CIFAR-10-sized images, SGD with Nesterov momentum, cross-entropy
and distillation, on stored teacher logits or with a live teacher: a ResNet-50
that is called in every step, as the paper's program does. Plain Flax is the
same network of layers as they come. PyTorch runs channels-last, in float32 and
under bfloat16 autocast, as it is and compiled. Keras' Distiller and
torchdistill call the teacher in every step. All have the setting of the memory
allocator that ours has, which helps the others, too. Before any timing, all
that compute in float32 take the same two steps, those on stored logits and
those of a live teacher; but for Keras' Distiller, whose loss is its own.

Where JAX has a GPU, all compute on that: ours with the loop over steps in the
program, PyTorch also with its whole step as one CUDA graph, and compiled with
mode='max-autotune'.

Writes results/bench-MACHINE-training-NETWORK.json, for each network.
"""

import functools
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
  'torch-live-compiled-float32': ('PyTorch compiled, live teacher', 3),
  'torch-live-bfloat16': ('PyTorch bfloat16, live teacher', 4),
  'torch-live-compiled-bfloat16': (
    'PyTorch compiled bfloat16, live teacher',
    4,
  ),
  'distiller-jax': ('Keras Distiller on JAX, live teacher', 2),
  'distiller-torch': ('Keras Distiller on torch, live teacher', 2),
  'torchdistill-live': ('torchdistill, live teacher', 3),
}
GPU_SYSTEMS = {
  'ours': ('kd_jax, stored outputs', 1000),
  'ours-bfloat16': ('kd_jax bfloat16, stored outputs', 1000),
  'ours-live': ('kd_jax, live teacher', 200),
  'ours-live-bfloat16': ('kd_jax bfloat16, live teacher', 200),
  'torch-float32': ('PyTorch, stored outputs', 300),
  'torch-bfloat16': ('PyTorch bfloat16, stored outputs', 300),
  'torch-compiled-float32': ('PyTorch compiled, stored outputs', 500),
  'torch-compiled-bfloat16': ('PyTorch compiled bfloat16, stored outputs', 500),
  'torch-graph-float32': ('PyTorch, one CUDA graph, stored outputs', 1000),
  'torch-graph-bfloat16': (
    'PyTorch bfloat16, one CUDA graph, stored outputs',
    1000,
  ),
  'torch-live-float32': ('PyTorch, live teacher', 100),
  'torch-live-compiled-bfloat16': (
    'PyTorch compiled bfloat16, live teacher',
    200,
  ),
  'torch-live-graph-bfloat16': (
    'PyTorch bfloat16, one CUDA graph, live teacher',
    200,
  ),
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
  network: str, system: str, *, quantization: str = 'float'
) -> harness.System:
  """The step of a training, in a loop of calls or, on a GPU, of the program."""
  import jax
  import jax.numpy as jnp

  from kd_jax.training import build, objectives, optimizers, steps

  live, dtype = 'live' in system, 'float32'
  if 'bfloat16' in system:
    dtype = 'bfloat16'
  optimizer = optimizers.make_optimizer(
    'sgd', momentum=0.9, nesterov=True, weight_decay=5e-4
  )
  module = networks.make_module(network, quantization=quantization, dtype=dtype)
  step = steps.make_train_step(
    build.apply_fn(module),
    objectives.make_objective({'kl': {}}),
    optimizer,
    lambda step: 1.0,
  )
  teacher = networks.make_module('teacher', dtype=dtype)
  variables = networks.make_variables('teacher') if live else {}

  def train_step(state, batch, variables, key, settings):
    if live:
      logits, _ = teacher.apply(variables, batch['images'], train=False)
      batch = batch | {'teacher_logits': logits}
    return step(state, batch, key, settings)

  @functools.partial(jax.jit, donate_argnums=0)
  def train_steps(state, count, *args):
    body = lambda i, carry: train_step(carry[0], *args)
    sums = jax.eval_shape(train_step, state, *args)[1]
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums)
    return jax.lax.fori_loop(0, count, body, (state, zeros))

  call_step = jax.jit(train_step, donate_argnums=0)
  batch = jax.tree.map(jnp.asarray, make_batch()) | {'mask': jnp.ones(BATCH)}
  key, one = jax.random.key(0), jnp.float32(1)
  settings = steps.Settings(
    jnp.float32(RATE), objectives.Weights(one, one, jnp.float32(TEMPERATURE))
  )
  # The optimizer starts from copies: the step takes its state's buffers.
  state = steps.init_state(networks.make_variables(network), optimizer)
  held = {'state': jax.tree.map(jnp.copy, state)}

  def take(count):
    args = batch, variables, key, settings
    if harness.on_gpu():
      held['state'], sums = train_steps(held['state'], count, *args)
    else:
      for _ in range(count):
        held['state'], sums = call_step(held['state'], *args)
    jax.block_until_ready((held['state'], sums))
    return float(sums['loss'] / BATCH)

  checked = None
  if dtype == 'float32':
    checked = [take(1) for _ in range(CHECKED_STEPS)]
  return harness.System(_turn(take, system), checked, _group(system))


def _group(system: str) -> str:
  """The systems whose first losses are the same."""
  return 'live' if 'live' in system else 'stored'


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

  def max_pool(x):
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))

  resnet.layers = types.SimpleNamespace(
    BatchNorm=BatchNorm, max_pool=max_pool, plain_max_pool=max_pool
  )
  return ours(network, 'flax', quantization='flax')


def _turn(take: Callable[[int], float], system: str):
  """Returns a turn of so many steps as the table says, fewer if they are slow.

  bfloat16 is 20 times slower on a processor without instructions for it.
  """
  most = count = systems()[system][1]

  def turn(case):
    nonlocal count
    del case
    began, taken = time.perf_counter(), count
    take(taken)
    seconds = time.perf_counter() - began
    fitting = int(taken * TURN_S / seconds)
    count = max(1, min(most, fitting))
    return BATCH * taken, seconds

  return turn


# --- PyTorch. ---


def _torch_batch():
  import torch

  batch = make_batch()
  images = torch.from_numpy(batch['images'].transpose(0, 3, 1, 2).copy())
  tensors = (
    images.to(memory_format=torch.channels_last),
    torch.from_numpy(batch['labels']).long(),
    torch.from_numpy(batch['teacher_logits']),
  )
  return tuple(own.to(harness.torch_device()) for own in tensors)


def torch(network: str, system: str) -> harness.System:
  """A plain loop."""
  import torch
  from torch.nn import functional as F

  device = harness.torch_device()
  live, is_graph = 'live' in system, 'graph' in system
  student = networks.make_torch(network).to(device)
  teacher = networks.make_torch('teacher').eval().to(device) if live else None
  optimizer = torch.optim.SGD(
    student.parameters(),
    lr=RATE,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
    fused=device == 'cuda' or None,
  )
  initial = [own.detach().clone() for own in student.state_dict().values()]
  variables = list(student.state_dict().values())
  if 'compiled' in system:
    options = {'dynamic': False}
    if device == 'cuda':
      options['mode'] = 'max-autotune'
    student = torch.compile(student, **options)
    teacher = teacher and torch.compile(teacher, **options)
  images, labels, stored = _torch_batch()
  autocast = functools.partial(
    torch.autocast,
    device,
    dtype=torch.bfloat16,
    enabled='bfloat16' in system,
    cache_enabled=not is_graph,  # A graph must hold its own casts.
  )

  def step():
    optimizer.zero_grad()
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
    loss.backward()
    optimizer.step()
    return loss.detach().clone()

  if is_graph:
    step = _as_graph(step)
    # Captured with steps behind it, it starts from where the others do.
    with torch.no_grad():
      for own, value in zip(variables, initial, strict=True):
        own.copy_(value)
      for state in optimizer.state.values():
        state['momentum_buffer'].zero_()

  def take(count):
    losses = [step() for _ in range(count)]
    return [float(loss) for loss in losses]  # Waits for the last.

  checked = None if 'bfloat16' in system else take(CHECKED_STEPS)
  return harness.System(_turn(take, system), checked, _group(system))


def _as_graph(step: Callable) -> Callable:
  """Returns a step that replays one CUDA graph."""
  import torch

  stream = torch.cuda.Stream()
  stream.wait_stream(torch.cuda.current_stream())
  with torch.cuda.stream(stream):
    for _ in range(3):  # Allocates, and chooses algorithms.
      step()
  torch.cuda.current_stream().wait_stream(stream)
  graph = torch.cuda.CUDAGraph()
  with torch.cuda.graph(graph):
    loss = step()

  def replay():
    graph.replay()
    return loss.clone()

  return replay


def torchdistill(network: str, system: str) -> harness.System:
  """A step of its box, in float32."""
  import toolkits

  step = toolkits.torchdistill_step(
    networks.make_torch(network),
    networks.make_torch('teacher').eval(),
    optimizer=(
      'SGD',
      dict(lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4),
    ),
    temperature=TEMPERATURE,
    ce_weight=1.0,
    kd_weight=1.0,
  )
  images, labels, _ = _torch_batch()
  take = lambda count: [float(step(images, labels)) for _ in range(count)]
  return harness.System(
    _turn(take, system), take(CHECKED_STEPS), _group(system)
  )


def keras_distiller(network: str, system: str) -> harness.System:
  """Keras' own distillation."""
  import keras
  from keras.distillation import Distiller, LogitsDistillation

  from kd_jax.models import costs

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
  if system.startswith('torchdistill'):
    return torchdistill(network, system)
  if system.startswith('torch'):
    return torch(network, system)
  if system.startswith('distiller'):
    return keras_distiller(network, system)
  if system == 'flax':
    return plain_flax(network)
  return ours(network, system)


def systems() -> dict[str, tuple[str, int]]:
  """Returns what is compared on what JAX computes on."""
  return GPU_SYSTEMS if harness.on_gpu() else SYSTEMS


def main() -> None:
  parser = harness.parser(__doc__, rounds=7)
  parser.add_argument('--networks', nargs='*', default=NETWORKS)
  parser.add_argument('--systems', nargs='*', default=())
  args = parser.parse_args()
  limits = {'ours': harness.jax_limits, 'torch-float32': harness.torch_limits}
  if args.worker:
    system = args.worker.split(':')[1]
    harness.worker(
      functools.partial(make, args.worker), ('training',), limits.get(system)
    )
    return
  compared = harness.chosen(systems(), args.systems)
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
        for system in compared
      },
      ('training',),
      rounds=args.rounds,
      limits_of=tuple(name for name in limits if name in compared),
      # On a GPU factors have ten bits each; the files have what they make.
      rtol=0.1 if harness.on_gpu() else 5e-3,
    )
    harness.add_shares(results, networks.training_work(network))
    harness.write(
      args.out_dir,
      f'training-{network}',
      peers=('torch',)
      if harness.on_gpu()
      else ('keras', 'torch', 'torchdistill'),
      network=network,
      batch=BATCH,
      row_examples=networks.row_examples(network),
      about={name: about for name, (about, _) in compared.items()},
      **results,
    )


if __name__ == '__main__':
  main()
