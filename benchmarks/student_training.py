"""Compares training times of a student on stored outputs between systems.

  make bench

The network is 784-300-10, trained with Adam on MNIST, batch 32, float32. Every
system runs in a separate process and the systems take turns, so that other
load on the machine slows all of them alike. Medians and quartiles are over
rounds; ratios are taken round by round. Before anything is timed, all systems
that compute in float32 train the same ten steps from the same weights, and
their losses are compared: among the systems on stored outputs, and among those
with a live teacher. The comparison leaves out Keras' Distiller, which has
another loss.

Writes results/bench/MACHINE/bench-MACHINE-training-h300.json.
"""

import functools

import comparison
import harness
import limits
import networks
from student_systems import BATCH, SYSTEMS, Trainer


def _make_trainer(system: str) -> Trainer:
  """Returns the trainer of a system; imports only that system's library."""
  options = {
    option: option in system for option in ('live', 'compiled', 'bfloat16')
  }
  library = system.partition('-')[0]
  if library == 'ours':
    import student_jax

    return student_jax.make(live=options['live'])
  if library == 'torch':
    import student_torch

    return student_torch.make_loop(**options)
  if library == 'torchdistill':
    import student_torch

    return student_torch.make_torchdistill()
  import student_keras

  if library == 'distiller':
    return student_keras.make_distiller()
  return student_keras.make_fit()


def make(system: str) -> harness.System:
  """Returns a system of the table."""
  losses, train = _make_trainer(system)
  examples = SYSTEMS[system][2]
  group = 'live' if 'live' in system else 'stored'
  turn = lambda case: (examples, train(examples))
  return harness.System(turn, losses, group)


def main() -> None:
  """Runs the benchmark, or one worker of the benchmark."""
  parser = harness.make_parser(__doc__, rounds=9, systems=[*SYSTEMS])
  args = parser.parse_args()
  if args.worker:
    harness.serve(
      functools.partial(make, args.worker),
      ('training',),
      limits.measure_with_jax if args.worker == 'ours' else None,
    )
    return
  systems = harness.select_systems(SYSTEMS, args.systems)
  results = comparison.compare(
    {
      system: functools.partial(
        harness.Worker,
        __file__,
        system,
        {'KERAS_BACKEND': backend} if backend else None,
      )
      for system, (_, backend, _) in systems.items()
    },
    ('training',),
    rounds=args.rounds,
    limit_systems=('ours',),
    rtol=2e-3,
  )
  limits.add_shares(results, networks.training_work('h300'))
  harness.write_record(
    args.out_dir,
    'training-h300',
    peers=('keras', 'torch', 'torchdistill', 'torchvision'),
    network='h300',
    batch=BATCH,
    row_examples=networks.row_examples('h300'),
    about={system: about for system, (about, *_) in systems.items()},
    **results,
  )


if __name__ == '__main__':
  main()
