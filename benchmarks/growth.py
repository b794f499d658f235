"""Measures how the time and memory of training grow.

  make bench

784-300-10 on MNIST-sized images, and the ideal student with a stem of stride 2
on CIFAR-sized images, both on stored teacher outputs. One of four numbers grows
and the other three stay: the training examples, the student's width, the batch,
the seeds in one program. Each measurement is a training in a separate process.
An epoch's time is that of the second epoch, as the first includes compilation.

Writes results/bench/MACHINE/bench-MACHINE-growth.json.
"""

import argparse
import json
import random
import resource
from typing import Any

import harness

# The values of the numbers that stay, by network.
USUAL: dict[str, dict[str, int]] = {
  'h300': {'examples': 60_000, 'size': 300, 'batch': 32, 'seeds': 1},
  'ideal_stem_2': {'examples': 4_000, 'size': 64, 'batch': 100, 'seeds': 1},
}
# The values of the number that grows, by network and number.
AXES: dict[str, dict[str, tuple[int, ...]]] = {
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
  """Trains two epochs in this process, and measures the second.

  Args:
    network: a network of USUAL.
    case: values of 'examples', 'size', 'batch' and 'seeds'.
  Returns:
    'epoch_s': seconds of an epoch of all seeds. 'memory_mib': growth of the
    process's peak memory since before the data was made.
  """
  import jax
  import numpy as np

  from kd_jax import config as config_lib
  from kd_jax.data import ImageTask
  from kd_jax.runtime import host_memory
  from kd_jax.training import epoch_loop, plan, training_functions
  from kd_jax.training.example_source import ExampleSource

  host_memory.keep_freed_memory()
  config, shape = _make_config(network, case)
  before_mib = _peak_mib()
  examples = _make_examples(case['examples'], shape)
  phases = plan.make_phases(np.ones(case['examples'], bool), epochs=2, folds=0)
  training_plan = plan.Plan(
    None, phases, 0, case['batch'], config.train.drop_remainder
  )
  seeds = case['seeds']
  functions = training_functions.make_training_functions(
    training_functions.make_spec(
      config,
      config_lib.student_sections(config),
      ImageTask(10, shape),
      total_steps=training_plan.num_steps,
      num_seeds=seeds if seeds > 1 else None,
    )
  )
  key = jax.random.key(0)
  if seeds > 1:
    key = jax.random.split(key, seeds)
  *_, last = epoch_loop.train_epochs(
    functions.epoch_functions,
    functions.init(key),
    ExampleSource(examples),
    training_plan,
    epoch_loop.LoopOptions(
      key=key,
      hyperparameters_of_epoch=lambda epoch: (
        training_functions.hyperparameters_of_epoch(
          config.optim, config.distill, epoch
        )
      ),
    ),
  )
  return {'epoch_s': last.train_s, 'memory_mib': _peak_mib() - before_mib}


def _make_config(network: str, case: dict[str, int]):
  """Returns a case's config, and the images' shape [H, W, C]."""
  from configs import cifar, mnist
  from kd_jax import config as config_lib

  if network == 'h300':
    shape = (28, 28, 1)
    config = config_lib.close_row(mnist.get_config('h300'), 'h300')
    config.student.hidden = (case['size'],)
  else:
    shape = (32, 32, 3)
    config = cifar.get_config('ideal,stride_at=stem')
    config = config_lib.close_row(config, 'ideal')
    config.student.widths = tuple(case['size'] * 2**i for i in range(4))
  config.train.batch_size = case['batch']
  return config, shape


def _make_examples(count: int, shape: tuple[int, int, int]):
  """Returns random examples with teacher logits on the device."""
  import jax.numpy as jnp
  import numpy as np

  from kd_jax.training.batch import Examples

  rng = np.random.default_rng(0)
  return Examples(
    jnp.asarray(rng.integers(0, 256, (count, *shape), np.uint8)),
    jnp.asarray(rng.integers(0, 10, count).astype(np.int32)),
    jnp.asarray(rng.normal(size=(count, 10)).astype('f')),
  )


def _peak_mib() -> float:
  """Returns the peak memory of this process so far."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _parse_args() -> argparse.Namespace:
  parser = harness.make_parser(__doc__, rounds=3)
  parser.add_argument('--networks', nargs='*', default=list(USUAL))
  parser.add_argument('case', nargs='?', help='JSON for a worker')
  return parser.parse_args()


def main() -> None:
  """Runs the benchmark, or one worker of the benchmark."""
  args = _parse_args()
  if args.worker:
    print(json.dumps(measure(args.worker, json.loads(args.case))))
    return
  runs: dict[tuple[str, str, int], list[Any]] = {
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
      measured = harness.run_in_process(__file__, f'--worker={network}', case)
      runs[network, axis, value].append(measured)
      print(network, axis, value, measured, flush=True)
  growth: dict[str, dict[str, dict[str, Any]]] = {}
  for (network, axis, value), measured in runs.items():
    by_value = growth.setdefault(network, {}).setdefault(axis, {})
    by_value[str(value)] = harness.quartiles_by_key(measured)
  harness.write_record(args.out_dir, 'growth', usual=USUAL, growth=growth)


if __name__ == '__main__':
  main()
