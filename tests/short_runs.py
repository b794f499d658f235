"""Runs of a few seconds, in surroundings that a test chooses."""

import json
import os
import subprocess
import sys
import time

from tests import fault_runs, helpers

# A run of a few seconds. Each training has several epochs that take long enough
# for a checkpoint.
ARGS = (
  '--config=configs/mnist.py:h50',
  *helpers.as_flags(
    {
      **helpers.TINY_MNIST,
      'data.train_examples': 400,
      'data.test_examples': 100,
      'benchmark.enabled': False,
    }
  ),
)
# Its student trains for seconds.
LONG = helpers.as_flags({'train.epochs': 40, 'train.batch_size': 2})


class Run:
  """A command of launch.py, its process and what it prints."""

  def __init__(self, folder, *args, env=None, starter=(), **options):
    """Starts launch.py with its runs in a folder.

    Args:
      folder: the folder of all runs.
      *args: flags in addition to ARGS.
      starter: a command that starts its arguments as a command.
      env: environment variables; those whose value is None are unset.
      **options: options of `subprocess.Popen`.
    """
    self.folder = folder
    self.log = folder.with_name(f'{folder.name}.{time.monotonic_ns()}.log')
    environment = os.environ | (env or {})
    with open(self.log, 'wb') as file:
      self.process = subprocess.Popen(
        [
          *(*starter, sys.executable, 'launch.py'),
          *(*ARGS, f'--runs_dir={folder}', *args),
        ],
        cwd=helpers.ROOT,
        env={k: v for k, v in environment.items() if v is not None},
        **{'stdout': file, 'stderr': file, 'stdin': subprocess.DEVNULL}
        | options,
      )

  def text(self):
    """Returns what the command has printed so far."""
    return self.log.read_text(encoding='utf-8', errors='replace')

  def wait_for(self, find, what):
    """Waits until a function returns paths; returns the first of them.

    Args:
      find: the function, without arguments.
      what: what it looks for, in words.
    """

    def is_there():
      assert self.process.poll() is None, f'{what} was missed: {self.text()}'
      return find()

    helpers.wait_until(is_there, poll_s=0.005)
    return find()[0]

  def wait_in_training(self):
    """Waits until the student is in training; returns its folder."""
    checkpoint = self.wait_for(
      lambda: fault_runs.checkpoints(self.folder), 'the first checkpoint'
    )
    training = checkpoint.parents[1]
    assert not (training / 'result.json').exists()
    return training

  def end(self, timeout_s=300):
    """Waits for the end; returns the exit status and the output."""
    return self.process.wait(timeout_s), self.text()


def launch(folder, *args, **options):
  """Runs launch.py; returns its exit status and its output."""
  return Run(folder, *args, **options).end()


def results(folder):
  """Returns the results of a complete run that must not depend on faults."""
  path = fault_runs.run_folder(folder) / 'run.json'
  record = json.loads(path.read_text())
  assert record['status'] == 'complete'
  assert (path.parent / 'report.md').exists()
  lines = (path.parent / 'metrics.jsonl').read_text().splitlines()
  return (
    record['teacher']['weights'],
    [(student['weights'], student['test']) for student in record['students']],
    [json.loads(line)['train/loss'] for line in lines],
  )


def assert_clear(code, log, message):
  """Checks that a command ended with one error line that has the message."""
  assert code == 1, log
  assert 'Traceback' not in log
  (line,) = (line for line in log.splitlines() if line.startswith('error: '))
  assert message in log
