"""From the command to the first training step, first and second time.

  make bench

A fresh process loads its data, builds a row's programs, compiles and takes a
step. `cold` has an empty cache of compiled programs, `warm` has what an earlier
process left there. Both take turns.

Writes results/bench-start_up.json.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time

import harness
import networks

NETWORKS = ('h300', 'ideal_stem_2', 'ideal', 'baseline')


def first_step(network: str) -> dict[str, float]:
  """Returns seconds from the start of the process to the end of each stage."""
  began = time.time() - float(os.environ['STARTED'])
  import jax

  from kd_jax import benchmark, data, program_cache

  program_cache.enable()
  imported = time.time() - float(os.environ['STARTED'])
  config = networks.make_config(network)
  rgb = '_rgb' if network in networks.RESNETS else ''
  dataset = data.load(f'generated{rgb}')
  outputs = benchmark.random_outputs(config, dataset)
  jax.block_until_ready(benchmark.training_step(config, dataset, outputs)())
  return {
    'python_s': began,
    'imports_s': imported,
    'first_step_s': time.time() - float(os.environ['STARTED']),
  }


def _run(network: str, cache: str) -> dict[str, float]:
  return harness.in_process(
    __file__,
    f'--worker={network}',
    environment={'XDG_CACHE_HOME': cache, 'STARTED': str(time.time())},
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--networks', nargs='*', default=NETWORKS)
  parser.add_argument('--worker', help=argparse.SUPPRESS)
  parser.add_argument(
    '--out',
    type=pathlib.Path,
    default=harness.ROOT / 'results/bench-start_up.json',
  )
  args = parser.parse_args()
  if args.worker:
    print(json.dumps(first_step(args.worker)))
    return
  from kd_jax import timing

  seconds = {network: {'cold': [], 'warm': []} for network in args.networks}
  with tempfile.TemporaryDirectory() as warm:
    for network in args.networks:
      _run(network, warm)
    for _ in range(args.rounds):
      for network, own in seconds.items():
        with tempfile.TemporaryDirectory() as cold:
          own['cold'].append(_run(network, cold))
        own['warm'].append(_run(network, warm))
        print(network, own['cold'][-1], own['warm'][-1], flush=True)
  harness.write(
    args.out,
    start_up={
      network: {
        cache: {
          stage: timing.quartiles([run[stage] for run in runs])
          for stage in runs[0]
        }
        for cache, runs in own.items()
      }
      for network, own in seconds.items()
    },
  )


if __name__ == '__main__':
  main()
