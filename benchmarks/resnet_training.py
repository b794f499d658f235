"""Times training the ResNet students, ours and other systems.

  make bench

Batches of 100 CIFAR-10-sized images; SGD with Nesterov momentum; cross-entropy
and distillation, on stored teacher logits or with a live teacher: a ResNet-50
that is called in every step, as in the paper's program. Plain Flax is the same
network made of Flax' standard layers. PyTorch runs channels-last, in float32
and under bfloat16 autocast, eager and compiled. Keras' Distiller and
torchdistill call the teacher in every step. All systems have our setting of
the memory allocator, which helps the others, too. Before anything is timed, all
systems that compute in float32 take the same two steps, and their losses are
compared: those on stored logits with each other, and those with a live teacher
with each other. Keras' Distiller is excepted, as its loss is a different one.

If JAX has a GPU, all systems compute on the GPU: ours with the loop over steps
in the program, PyTorch also with its whole step as one CUDA graph, and compiled
with mode='max-autotune'.

For each network, writes
results/bench/MACHINE/bench-MACHINE-training-NETWORK.json.
"""

import argparse
import functools
from collections.abc import Mapping

import comparison
import harness
import limits
import networks
import resnet_systems

NETWORKS = ('ideal_stem_2', 'ideal', 'baseline')
_PEERS = ('keras', 'torch', 'torchdistill', 'torchvision')
_LIMITS = {
  'ours': limits.measure_with_jax,
  'torch-float32': limits.measure_with_torch,
}


def make(worker: str) -> harness.System:
  """Returns a system; imports only that system's library.

  Args:
    worker: 'NETWORK:SYSTEM'.
  """
  network, system = worker.split(':')
  library = system.partition('-')[0]
  if library == 'torchdistill':
    import resnet_torch

    return resnet_torch.make_torchdistill(network, system)
  if library == 'torch':
    import resnet_torch

    return resnet_torch.make(network, system)
  if library == 'distiller':
    import resnet_keras

    return resnet_keras.make(network, system)
  import resnet_jax

  if library == 'flax':
    return resnet_jax.make_plain_flax(network)
  return resnet_jax.make(network, system)


def _start(network: str, system: str) -> harness.Worker:
  """Starts the worker of a system."""
  environment = None
  if system.startswith('distiller'):
    environment = {'KERAS_BACKEND': system.partition('-')[2]}
  return harness.Worker(__file__, f'{network}:{system}', environment)


def _compare(
  network: str, systems: Mapping[str, tuple[str, int]], args: argparse.Namespace
) -> None:
  """Compares the systems on a network, and writes the record."""
  on_gpu = harness.on_gpu()
  results = comparison.compare(
    {system: functools.partial(_start, network, system) for system in systems},
    ('training',),
    rounds=args.rounds,
    limit_systems=tuple(name for name in _LIMITS if name in systems),
    # A GPU multiplies with ten bits of mantissa; the record has the losses.
    rtol=0.1 if on_gpu else 5e-3,
  )
  limits.add_shares(results, networks.training_work(network))
  harness.write_record(
    args.out_dir,
    f'training-{network}',
    peers=('torch',) if on_gpu else _PEERS,
    network=network,
    batch=resnet_systems.BATCH,
    row_examples=networks.row_examples(network),
    about={name: about for name, (about, _) in systems.items()},
    **results,
  )


def main() -> None:
  """Runs the benchmark, or one worker of the benchmark."""
  parser = harness.make_parser(
    __doc__, rounds=7, systems=[*resnet_systems.systems()]
  )
  parser.add_argument('--networks', nargs='*', default=NETWORKS)
  args = parser.parse_args()
  if args.worker:
    system = args.worker.split(':')[1]
    harness.serve(
      functools.partial(make, args.worker), ('training',), _LIMITS.get(system)
    )
    return
  systems = harness.select_systems(resnet_systems.systems(), args.systems)
  for network in args.networks:
    print(f'--- {network}', flush=True)
    _compare(network, systems, args)


if __name__ == '__main__':
  main()
