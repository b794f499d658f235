"""Times launch.py from the command to the end of the first epoch.

  make bench

`launch.py` trains one student for an epoch of one step, on teacher logits from
a file and on generated data; everything else is as in any run. The clock stops
when the metrics of that epoch, which include an evaluation, are written. `cold`
starts with an empty cache of compiled programs, `warm` with the programs of an
earlier process. The two take turns.

Writes results/bench/MACHINE/bench-MACHINE-start_up.json.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from typing import Any

import harness
import numpy as np

NETWORKS = ('h300', 'ideal_stem_2', 'ideal', 'baseline')
# Network: (recipe, data, batch size).
RECIPES = {
  'h300': ('mnist.py:h300', 'generated', 32),
  'ideal_stem_2': ('cifar.py:ideal,stride_at=stem', 'generated_rgb', 100),
  'ideal': ('cifar.py:ideal', 'generated_rgb', 100),
  'baseline': ('cifar.py:baseline', 'generated_rgb', 100),
}


def measure(network: str, cache: str) -> dict[str, float]:
  """Times one run of launch.py.

  Args:
    network: a network of RECIPES.
    cache: folder of the cache of compiled programs.
  Returns:
    Seconds: 'first_epoch_s' from the command to the end of the epoch,
    'compile_s' of compilation in the epoch, 'run_s' of the whole run.
  """
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
  """Runs the benchmark."""
  parser = harness.make_parser(__doc__, rounds=5)
  parser.add_argument('--networks', nargs='*', default=NETWORKS)
  args = parser.parse_args()
  runs: dict[str, dict[str, list[Any]]] = {
    network: {'cold': [], 'warm': []} for network in args.networks
  }
  with tempfile.TemporaryDirectory() as warm:
    for network in args.networks:
      measure(network, warm)
    for done in range(args.rounds):
      for network, by_state in runs.items():
        for state in random.Random(done).sample(['cold', 'warm'], 2):
          with tempfile.TemporaryDirectory() as cold:
            cache = {'cold': cold, 'warm': warm}[state]
            by_state[state].append(measure(network, cache))
        print(network, by_state['cold'][-1], by_state['warm'][-1], flush=True)
  harness.write_record(
    args.out_dir,
    'start_up',
    start_up={
      network: {
        state: harness.quartiles_by_key(measured)
        for state, measured in by_state.items()
      }
      for network, by_state in runs.items()
    },
  )


if __name__ == '__main__':
  main()
