"""From the command to the end of the first epoch, first and second time.

  make bench

`launch.py` trains one student for an epoch of one step, on teacher logits of a
file and data made on the spot: all else is as in any run. What counts is when
that step, and the evaluation of the student after it, are written down. `cold`
has an empty cache of compiled programs, `warm` has what an earlier process left
there. They take turns.

Writes results/bench-MACHINE-start_up.json.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import harness
import numpy as np

NETWORKS = ('h300', 'ideal_stem_2', 'ideal', 'baseline')
# Of the recipe that has it: its recipe, data, and a batch.
RECIPES = {
  'h300': ('mnist.py:h300', 'generated', 32),
  'ideal_stem_2': ('cifar.py:ideal,stride_at=stem', 'generated_rgb', 100),
  'ideal': ('cifar.py:ideal', 'generated_rgb', 100),
  'baseline': ('cifar.py:baseline', 'generated_rgb', 100),
}


def measure(network: str, cache: str) -> dict[str, float]:
  """Returns seconds from the command to the end of the epoch, and of all."""
  recipe, data, batch = RECIPES[network]
  with tempfile.TemporaryDirectory() as folder:
    logits = pathlib.Path(folder, 'logits.npz')
    rng = np.random.default_rng(0)
    np.savez(logits, train=rng.normal(size=(batch, 10)).astype('f'))
    began = time.time()
    subprocess.run(
      [
        *(sys.executable, 'launch.py', f'--config=configs/{recipe}'),
        f'--config.data.name={data}',
        f'--config.data.train_examples={batch}',
        f'--config.data.test_examples={batch}',
        f'--config.teacher.logits={logits}',
        '--config.train.folds=0',
        '--config.train.epochs=1',
        f'--config.train.batch_size={batch}',
        '--config.benchmark.enabled=false',
        f'--workdir={folder}/run',
      ],
      cwd=harness.ROOT,
      env=os.environ | {'TQDM_DISABLE': '1', 'XDG_CACHE_HOME': cache},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      check=True,
    )
    ended = time.time()
    log = pathlib.Path(folder, 'run/metrics.jsonl')
    (epoch,) = map(json.loads, log.read_text().splitlines())
    assert epoch['epoch'] == 0
    return {
      'first_epoch_s': log.stat().st_mtime - began,
      'compile_s': epoch['time/compile_s'],
      'run_s': ended - began,
    }


def main() -> None:
  parser = harness.parser(__doc__, rounds=5)
  parser.add_argument('--networks', nargs='*', default=NETWORKS)
  args = parser.parse_args()
  from kd_jax.benchmark import timing

  seconds = {network: {'cold': [], 'warm': []} for network in args.networks}
  with tempfile.TemporaryDirectory() as warm:
    for network in args.networks:
      measure(network, warm)
    for done in range(args.rounds):
      for network, own in seconds.items():
        for which in random.Random(done).sample(['cold', 'warm'], 2):
          with tempfile.TemporaryDirectory() as cold:
            cache = {'cold': cold, 'warm': warm}[which]
            own[which].append(measure(network, cache))
        print(network, own['cold'][-1], own['warm'][-1], flush=True)
  harness.write(
    args.out_dir,
    'start_up',
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
