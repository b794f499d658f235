"""What workers gain: seeds side by side, over one by one.

  make bench

As many seeds of a student as this machine has cores, trained by one process and
by a worker for each core, in turns; each time by a run of launch.py. What is
compared is the seconds of the epochs: all of them of one process, those of the
slowest of workers. The teacher's outputs are there before.

Writes results/bench-MACHINE-side_by_side.json.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import harness

# Recipe, and what makes a run of it a minute's.
STUDENTS = {
  'h300': ('mnist.py:h300', ('--config.train.epochs=2',)),
  'ideal_stem_2': (
    'cifar.py:ideal,stride_at=stem',
    ('--config.train.epochs=3', '--config.train.subset=first500'),
  ),
  'ideal': (
    'cifar.py:ideal',
    ('--config.train.epochs=2', '--config.train.subset=first100'),
  ),
}


def measure(runs_dir: pathlib.Path, student: str, seeds: int, workers: int):
  """Returns seconds of the epochs of each seed."""
  recipe, overrides = STUDENTS[student]
  with tempfile.TemporaryDirectory(dir=runs_dir) as workdir:
    subprocess.run(
      [
        *(sys.executable, 'launch.py', f'--config=configs/{recipe}'),
        *overrides,
        f'--config.seeds={seeds}',
        '--config.benchmark.enabled=false',
        f'--runs_dir={runs_dir}',
        f'--workdir={workdir}/run',
        f'--workers={workers}',
      ],
      cwd=harness.ROOT,
      env=os.environ | {'TQDM_DISABLE': '1'},
      stdout=subprocess.DEVNULL,
      check=True,
    )
    record = json.loads(pathlib.Path(workdir, 'run/run.json').read_text())
  return [own['time']['train_s'] for own in record['students']]


def main() -> None:
  parser = harness.parser(__doc__, rounds=3)
  parser.add_argument('--students', nargs='*', default=list(STUDENTS))
  args = parser.parse_args()
  from kd_jax.benchmark import timing
  from kd_jax.runtime import environment

  seeds = environment.describe()['cores']
  seconds = {
    name: {'one_by_one': [], 'side_by_side': []} for name in args.students
  }
  with tempfile.TemporaryDirectory() as folder:
    runs_dir = pathlib.Path(folder)
    for name in args.students:  # The teacher, and the programs.
      measure(runs_dir, name, 1, 1)
    for _ in range(args.rounds):
      for name, own in seconds.items():
        own['one_by_one'].append(sum(measure(runs_dir, name, seeds, 1)))
        own['side_by_side'].append(max(measure(runs_dir, name, seeds, seeds)))
        print(name, own, flush=True)
  harness.write(
    args.out_dir,
    'side_by_side',
    seeds=seeds,
    side_by_side={
      name: {how: timing.quartiles(taken) for how, taken in own.items()}
      | {
        'gain': timing.quartiles(
          [
            one / side
            for one, side in zip(
              own['one_by_one'], own['side_by_side'], strict=True
            )
          ]
        )
      }
      for name, own in seconds.items()
    },
  )


if __name__ == '__main__':
  main()
