"""Runs to which faults happen: started, logged, and their results compared."""

import contextlib
import json
import signal
import subprocess

import pytest

from tests import helpers

# A whole run takes half a minute. Each of its phases has several epochs that
# take long enough for a checkpoint.
ARGS = (
  '--config=configs/mnist.py:h50',
  *helpers.as_flags(
    {
      'data.train_examples': 2000,
      'data.test_examples': 256,
      'teacher.model.hidden': (32, 32),
      'teacher.model.filters': (4,),
      'teacher.model.dropout_rate': 0,
      'teacher.model.temperature': 1,
      'teacher.train.epochs': 8,
      'teacher.train.batch_size': 4,
      'train.epochs': 4,
      'train.batch_size': 2,
      **helpers.TINY_BENCHMARK,
    }
  ),
)


def checkpoints(folder):
  """Returns the complete checkpoints of the first student, oldest first.

  Their numbers depend on the machine: an epoch may be too short for a save.
  """
  paths = folder.glob('mnist-h50-*/students/h50/seed-0/checkpoints/*')
  complete = (path for path in paths if path.name.isdigit())
  return sorted(complete, key=lambda path: int(path.name))


def log_file(folder):
  """Returns the log file, beside the folder, which may not be writable."""
  return folder.with_name(f'{folder.name}.log')


def start(folder, *args, base=ARGS, env=None):
  """Starts launch.py with its runs in a folder."""
  return helpers.start_python(
    'launch.py',
    *base,
    f'--runs_dir={folder}',
    *args,
    env=env,
    log=log_file(folder),
  )


def written(folder, since):
  """Returns the log from a position in bytes on."""
  return log_file(folder).read_bytes()[since:].decode()


def log_size(folder):
  """Returns the size of the log in bytes."""
  return log_file(folder).stat().st_size if log_file(folder).exists() else 0


def launch(folder, *args, base=ARGS):
  """Returns the exit code of a run, and its output."""
  since = log_size(folder)
  code = start(folder, *args, base=base).wait(600)
  return code, written(folder, since)


def run_folder(folder):
  """Returns the folder of the run."""
  (workdir,) = folder.glob('mnist-h50-*')
  return workdir


def results(folder):
  """Returns the results of a complete run that must not depend on faults."""
  workdir = run_folder(folder)
  record = json.loads((workdir / 'run.json').read_text())
  assert record['status'] == 'complete'
  assert 'h50' in (workdir / 'report.md').read_text()
  assert (workdir / 'reliability.png').exists()
  lines = [
    {
      k: v
      for k, v in json.loads(line).items()
      if not k.startswith('time/') and k != 'checksum'
    }
    for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  return {
    'teacher': (record['teacher']['weights'], record['teacher']['outputs']),
    'students': [
      (student['weights'], student['test'], student['by_class'])
      for student in record['students']
    ],
    'lines': lines,
  }


def assert_clear(code, log, message):
  """Checks that a run ended with one error line that has the message."""
  assert code == 1
  assert message in log
  assert 'Traceback' not in log
  assert [line for line in log.splitlines() if line.startswith('error: ')]


@contextlib.contextmanager
def small_disk(folder, size):
  """Mounts a disk of a size, such as '16k', at a folder.

  Yields:
    A function that gives the disk another size.
  """
  folder.mkdir(parents=True, exist_ok=True)
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', folder]
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('nothing can be mounted here')
  try:
    yield lambda size: subprocess.run(
      ['mount', '-o', f'remount,size={size}', folder], check=True
    )
  finally:
    subprocess.run(['umount', '-l', folder], check=True)


@contextlib.contextmanager
def default_signal(number):
  """Lets processes started inside end at a signal, as from a terminal.

  A process inherits which signals its parent ignores, and `nohup` ignores
  SIGHUP.
  """
  before = signal.signal(number, signal.SIG_DFL)
  try:
    yield
  finally:
    signal.signal(number, before)
