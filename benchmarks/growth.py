"""What training costs as things grow: seconds of an epoch, and peak memory.

  make bench

784-300-10 on MNIST-sized images and the ideal student with its stem's stride at
2 on CIFAR-sized ones, on stored teacher outputs; one of the training set's
size, the student's, the batch and the number of seeds in one program grows, and
the others stay. Each measurement is a run of its own, in a process of its own;
an epoch's time is that of the second, its compilation being in the first.

Writes results/bench-MACHINE-growth.json.
"""

import json
import random
import resource

import harness

# For each network: what stays, and for each axis what it grows through.
USUAL = {
  'h300': {'examples': 60_000, 'size': 300, 'batch': 32, 'seeds': 1},
  'ideal_stem_2': {'examples': 4_000, 'size': 64, 'batch': 100, 'seeds': 1},
}
AXES = {
  'h300': {
    'examples': (15_000, 60_000, 240_000),
    'size': (75, 300, 1200),
    'batch': (8, 32, 128, 512),
    'seeds': (1, 4, 16),
  },
  'ideal_stem_2': {
    'examples': (1_000, 4_000, 16_000),
    'size': (32, 64, 128),
    'batch': (25, 100, 400),
    'seeds': (1, 2, 4),
  },
}


def measure(network: str, case: dict[str, int]) -> dict[str, float]:
  """Returns seconds of an epoch of all seeds, and MiB that the process took."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from configs import cifar, mnist
  from kd_jax.runtime import host_memory
  from kd_jax.training import build, train

  host_memory.keep_freed_memory()
  if network == 'h300':
    row, shape = 'h300', (28, 28, 1)
    config = build.close_row(mnist.get_config('h300'), row)
    config.student.hidden = (case['size'],)
  else:
    row, shape = 'ideal', (32, 32, 3)
    config = build.close_row(cifar.get_config('ideal,stride_at=stem'), row)
    config.student.widths = tuple(case['size'] * 2**i for i in range(4))
  config.train.batch_size = case['batch']
  count = case['examples']
  before = _peak_mib()
  rng = np.random.default_rng(0)
  arrays = {
    'images': jnp.asarray(rng.integers(0, 256, (count, *shape), np.uint8)),
    'labels': jnp.asarray(rng.integers(0, 10, count).astype(np.int32)),
    'teacher_logits': jnp.asarray(rng.normal(size=(count, 10)).astype('f')),
  }
  phases = train.make_phases(np.ones(count, bool), epochs=2, folds=0)
  seeds = case['seeds']
  programs = build.make_programs(
    build.row_key(
      config,
      num_classes=10,
      image_shape=shape,
      total_steps=train.num_steps(
        phases, case['batch'], drop_remainder=config.train.drop_remainder
      ),
      num_seeds=seeds if seeds > 1 else None,
    )
  )
  key = jax.random.key(0)
  if seeds > 1:
    key = jax.random.split(key, seeds)
  *_, last = train.fit(
    programs.epochs,
    programs.init(key),
    arrays,
    phases,
    key=key,
    settings=lambda epoch: build.settings(config.optim, config.distill, epoch),
  )
  return {'epoch_s': last.train_s, 'memory_mib': _peak_mib() - before}


def _peak_mib() -> float:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
  parser = harness.parser(__doc__, rounds=3)
  parser.add_argument('--networks', nargs='*', default=list(USUAL))
  parser.add_argument('case', nargs='?', help='of a worker')
  args = parser.parse_args()
  if args.worker:
    print(json.dumps(measure(args.worker, json.loads(args.case))))
    return
  from kd_jax.benchmark import timing

  runs = {
    (network, axis, value): []
    for network in args.networks
    for axis, values in AXES[network].items()
    for value in values
  }
  for done in range(args.rounds):
    for network, axis, value in random.Random(done).sample(
      list(runs), len(runs)
    ):
      case = json.dumps(USUAL[network] | {axis: value})
      measured = harness.in_process(__file__, f'--worker={network}', case)
      runs[network, axis, value].append(measured)
      print(network, axis, value, measured, flush=True)
  growth = {}
  for (network, axis, value), own in runs.items():
    growth.setdefault(network, {}).setdefault(axis, {})[str(value)] = {
      what: timing.quartiles([run[what] for run in own]) for what in own[0]
    }
  harness.write(args.out_dir, 'growth', usual=USUAL, growth=growth)


if __name__ == '__main__':
  main()
