"""Measures how much --workers gains over training seeds one by one.

  make bench

Each core of this machine gets one seed of a student. launch.py trains the seeds
in one process, and then with a worker for each core; the two take turns.
Compares the seconds of the epochs: the sum over the seeds of one process, and
the maximum over the workers. The teacher's outputs are stored beforehand.

Writes results/bench/MACHINE/bench-MACHINE-side_by_side.json.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import harness
import numpy as np

# Student: (recipe, overrides that make a run take about a minute).
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


def measure(
  runs_dir: pathlib.Path, student: str, seeds: int, workers: int
) -> list[float]:
  """Runs launch.py, and returns the seconds of the epochs of each seed.

  Args:
    runs_dir: the folder that keeps the teachers between runs.
    student: a student of STUDENTS.
    seeds: number of seeds.
    workers: number of workers.
  """
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
  return [trained['time']['train_s'] for trained in record['students']]


def _summarize(seconds: dict[str, list[float]]) -> dict[str, dict]:
  """Returns quartiles of the seconds, and of their ratios round by round."""
  from kd_jax.benchmark import timing

  gain = np.divide(seconds['one_by_one'], seconds['side_by_side'])
  return {
    how: timing.quartiles(values)
    for how, values in (seconds | {'gain': gain}).items()
  }


def main() -> None:
  """Runs the benchmark."""
  parser = harness.make_parser(__doc__, rounds=3)
  parser.add_argument('--students', nargs='*', default=list(STUDENTS))
  args = parser.parse_args()
  from kd_jax.runtime import environment

  seeds = environment.describe()['cores']
  seconds: dict[str, dict[str, list[float]]] = {
    student: {'one_by_one': [], 'side_by_side': []} for student in args.students
  }
  with tempfile.TemporaryDirectory() as folder:
    runs_dir = pathlib.Path(folder)
    for student in args.students:  # Makes the teacher; compiles the programs.
      measure(runs_dir, student, 1, 1)
    for _ in range(args.rounds):
      for student, taken in seconds.items():
        one_by_one = measure(runs_dir, student, seeds, 1)
        taken['one_by_one'].append(sum(one_by_one))
        side_by_side = measure(runs_dir, student, seeds, seeds)
        taken['side_by_side'].append(max(side_by_side))
        print(student, taken, flush=True)
  harness.write_record(
    args.out_dir,
    'side_by_side',
    seeds=seeds,
    side_by_side={
      student: _summarize(taken) for student, taken in seconds.items()
    },
  )


if __name__ == '__main__':
  main()
