"""Faults of a run's surroundings: `make faults`.

The user's account, the terminal, the clock, the disk and other people's hands.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from kd_jax.runtime import run_records
from tests import helpers

pytestmark = [pytest.mark.faults, pytest.mark.slow]
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
STUDENT = 'mnist-h50-*/students/h50/seed-0'


class Run:
  """A command of launch.py, its process and what it prints."""

  def __init__(self, folder, *args, env=None, **options):
    """Starts launch.py with its runs in a folder.

    Args:
      folder: the folder of all runs.
      *args: flags in addition to ARGS.
      env: environment variables; those whose value is None are unset.
      **options: options of `subprocess.Popen`.
    """
    self.folder = folder
    self.log = folder.with_name(f'{folder.name}.{time.monotonic_ns()}.log')
    environment = os.environ | (env or {})
    with open(self.log, 'wb') as file:
      self.process = subprocess.Popen(
        [sys.executable, 'launch.py', *ARGS, f'--runs_dir={folder}', *args],
        cwd=helpers.ROOT,
        env={k: v for k, v in environment.items() if v is not None},
        **{'stdout': file, 'stderr': file, 'stdin': subprocess.DEVNULL}
        | options,
      )

  def text(self):
    """Returns what the command has printed so far."""
    return self.log.read_text(encoding='utf-8', errors='replace')

  def wait_for(self, pattern):
    """Waits until a path exists in the folder; returns the path."""

    def is_there():
      assert self.process.poll() is None, f'{pattern} was missed: {self.text()}'
      return any(self.folder.glob(pattern))

    helpers.wait_until(is_there, poll_s=0.005)
    return next(self.folder.glob(pattern))

  def wait_in_training(self):
    """Waits until the student has a checkpoint, and is in training."""
    path = self.wait_for(f'{STUDENT}/checkpoints/[0-9]')
    assert not any(self.folder.glob(f'{STUDENT}/result.json'))
    return path.parents[1]

  def end(self, timeout_s=300):
    """Waits for the end; returns the exit status and the output."""
    return self.process.wait(timeout_s), self.text()


def _run(folder, *args, **options):
  """Runs launch.py; returns its exit status and its output."""
  return Run(folder, *args, **options).end()


def _results(folder):
  """Returns the results of a complete run that must not depend on faults."""
  (path,) = folder.glob('mnist-h50-*/run.json')
  record = json.loads(path.read_text())
  assert record['status'] == 'complete'
  assert (path.parent / 'report.md').exists()
  lines = (path.parent / 'metrics.jsonl').read_text().splitlines()
  return (
    record['teacher']['weights'],
    [(student['weights'], student['test']) for student in record['students']],
    [json.loads(line)['train/loss'] for line in lines],
  )


def _assert_clear(code, log, message):
  """Checks that a command ended with one error line that has the message."""
  assert code == 1, log
  assert 'Traceback' not in log
  (line,) = (line for line in log.splitlines() if line.startswith('error: '))
  assert message in log


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Returns the folder of a run without any fault."""
  folder = tmp_path_factory.mktemp('whole') / 'runs'
  code, log = _run(folder)
  assert code == 0, log
  return folder


@pytest.fixture(scope='module')
def long_whole(tmp_path_factory):
  """Returns the folder of a longer run without any fault."""
  folder = tmp_path_factory.mktemp('long') / 'runs'
  code, log = _run(folder, *LONG)
  assert code == 0, log
  return folder


# --- The account, the terminal, the locale. ---

# A user's cache, and not the one that tests share.
_USERS_CACHE = {'JAX_COMPILATION_CACHE_DIR': None, 'XDG_CACHE_HOME': None}
# Nobody can write there, not even root.
_UNWRITABLE = '/sys'
SURROUNDINGS = {
  'HOME is unset': {'env': {**_USERS_CACHE, 'HOME': None}},
  'HOME is no folder': {'env': {**_USERS_CACHE, 'HOME': '/dev/null'}},
  'HOME is not writable': {'env': {**_USERS_CACHE, 'HOME': _UNWRITABLE}},
  'the cache of compiled functions is not writable': {
    'env': {'JAX_COMPILATION_CACHE_DIR': _UNWRITABLE}
  },
  'stdin is closed': {'stdin': None, 'preexec_fn': lambda: os.close(0)},
  'umask 077': {'umask': 0o077},
  'umask 000': {'umask': 0},
}


@pytest.mark.parametrize('name', SURROUNDINGS)
def test_a_run_does_not_depend_on_its_surroundings(tmp_path, whole, name):
  """No HOME, no cache, no stdin, any umask: the run ends as always."""
  options = SURROUNDINGS[name]
  folder = tmp_path / 'runs'
  code, log = _run(folder, **options)
  assert code == 0, log
  assert 'Traceback' not in log
  assert _results(folder) == _results(whole)
  if 'umask' in options:
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob('*.json')}
    assert modes == {0o666 & ~options['umask']}


@pytest.mark.parametrize('home', ['/dev/null', _UNWRITABLE])
def test_without_a_folder_for_data_one_line_says_so(tmp_path, home):
  """HOME not writable, and data to keep: one clear error."""
  code, log = _run(
    tmp_path / 'runs',
    '--config.data.name=mnist',
    env={'HOME': home, 'XDG_CACHE_HOME': None},
  )
  _assert_clear(code, log, home)


# The locale C. Python then takes UTF-8, unless it is told not to.
_LOCALE_C = dict.fromkeys(
  ('LANG', 'LC_CTYPE', 'PYTHONIOENCODING', 'PYTHONUTF8', 'PYTHONCOERCECLOCALE')
) | {'LC_ALL': 'C'}


def test_the_locale_c_takes_any_path(tmp_path, whole):
  """The locale C, and paths that are not ASCII: the run ends as always."""
  folder = tmp_path / 'läufe 実験'
  code, log = _run(folder, env=_LOCALE_C)
  assert code == 0, log
  assert 'Traceback' not in log
  assert _results(folder) == _results(whole)


def test_a_locale_without_unicode_is_named_before_any_work(tmp_path):
  """An encoding that lacks the letters of a path: one clear error.

  The libraries that write checkpoints take UTF-8 alone.
  """
  folder = tmp_path / 'läufe 実験'
  code, log = _run(
    folder,
    env=_LOCALE_C | {'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
  )
  _assert_clear(code, log, 'PYTHONUTF8=1')
  assert not folder.exists()


def test_a_link_to_the_folder_of_runs_is_that_folder(tmp_path, whole):
  """A linked folder of runs: the run resumes by either name."""
  folder, link = tmp_path / 'runs', tmp_path / 'link'
  folder.mkdir()
  link.symlink_to(folder)
  first = Run(link, *LONG)
  first.wait_in_training()
  code, log = _run(folder, *LONG)
  _assert_clear(code, log, 'another process is at work in')
  first.process.kill()
  first.process.wait()
  shutil.rmtree(next(folder.glob('mnist-*')))
  code, log = _run(link)
  assert code == 0, log
  assert _results(folder) == _results(whole)


# --- Signals. ---


def test_a_terminal_that_closes_ends_the_run_which_resumes(
  tmp_path, long_whole
):
  """SIGHUP in training, as a closed terminal sends it: the run resumes."""
  folder = tmp_path / 'runs'
  run = Run(folder, *LONG, start_new_session=True)
  training = run.wait_in_training()
  os.killpg(run.process.pid, signal.SIGHUP)
  code, log = run.end(30)
  assert code == -signal.SIGHUP
  assert not (training / 'result.json').exists()
  assert 'Traceback' not in log
  code, log = _run(folder, *LONG)
  assert code == 0, log
  assert 'resumed after epoch' in log
  assert _results(folder) == _results(long_whole)


def test_a_stopped_machine_that_goes_on_hands_over_its_lock(
  tmp_path, long_whole
):
  """Suspended for 30 s while another run waits: both end as always."""
  folder = tmp_path / 'runs'
  first = Run(folder, *LONG)
  first.wait_for('teachers/*/identity.json')
  first.process.send_signal(signal.SIGSTOP)
  assert not any(folder.glob('teachers/*/result.json'))
  second = Run(folder, *LONG, f'--workdir={folder}/mnist-h50-other')
  time.sleep(30)
  assert second.process.poll() is None
  assert f'kill -CONT {first.process.pid}' in second.text()
  first.process.send_signal(signal.SIGCONT)
  for run in (first, second):
    code, log = run.end()
    assert code == 0, log
  assert 'teacher: restored from' in second.text()
  shutil.rmtree(folder / 'mnist-h50-other')
  assert _results(folder) == _results(long_whole)


def test_two_launches_at_once_are_one_run(tmp_path, long_whole):
  """Two launches within the same second: one runs, the other is refused."""
  folder = tmp_path / 'runs'
  runs = [Run(folder, *LONG) for _ in range(2)]
  ends = sorted((run.end() for run in runs), key=lambda end: end[0])
  assert [code for code, _ in ends] == [0, 1], ends
  _assert_clear(*ends[1], 'another process is at work in')
  assert _results(folder) == _results(long_whole)


# --- Folders that are copied and moved. ---


def test_a_copied_run_goes_on_and_so_does_the_original(tmp_path, long_whole):
  """A run copied in training: the copy and the original end as always."""
  folder, copy = tmp_path / 'runs', tmp_path / 'copy'
  first = Run(folder, *LONG)
  first.wait_in_training()
  # A checkpoint may be removed while it is copied, which `cp` reports.
  subprocess.run(['cp', '-r', folder, copy], capture_output=True)
  assert first.process.poll() is None
  second = Run(copy, *LONG)
  for run in (first, second):
    code, log = run.end()
    assert code == 0, log
    assert _results(run.folder) == _results(long_whole)


def test_a_renamed_run_is_one_clear_error(tmp_path, long_whole):
  """A run folder renamed in training: one clear error, and it resumes."""
  folder = tmp_path / 'runs'
  run = Run(folder, *LONG)
  run.wait_in_training()
  (workdir,) = folder.glob('mnist-h50-*')
  workdir.rename(folder / 'elsewhere')
  code, log = run.end()
  _assert_clear(code, log, f'{workdir} was moved or removed')
  # A checkpoint may have been half written when the folder was renamed.
  assert not any(workdir.glob('*.json*')), log
  shutil.rmtree(workdir, ignore_errors=True)
  (folder / 'elsewhere').rename(workdir)
  code, log = _run(folder, *LONG)
  assert code == 0, log
  assert _results(folder) == _results(long_whole)


# --- The clock. ---

# Python imports a module of this name when it starts. The clock of the day
# jumps by hours and by years, forth and back; the monotonic clock goes on.
_CLOCK = """
import datetime, itertools, sys, time

_now_ns = time.time_ns
_jumps_ns = itertools.cycle(
  int(hours * 3600e9) for hours in (0, 9e3, -9e3, 1, -2e5, 30)
)
_readings = itertools.count()
time.time_ns = lambda: next(_readings) and _now_ns() + next(_jumps_ns)
time.time = lambda: time.time_ns() / 1e9

class _Jumping(datetime.datetime):
  @classmethod
  def now(cls, tz=None):
    return cls.fromtimestamp(time.time(), tz)

datetime.datetime = _Jumping
import atexit
atexit.register(lambda: print('clock read', next(_readings), file=sys.stderr))
"""


def _durations(value, name=''):
  """Yields the name and the value of every duration of a record."""
  if isinstance(value, dict):
    for key, item in value.items():
      yield from _durations(item, key)
  elif isinstance(value, list):
    for item in value:
      yield from _durations(item, name)
  elif name.endswith(('_s', 'seconds')) or name.startswith('time/'):
    yield name, value


def test_a_clock_that_jumps_changes_nothing(tmp_path, whole):
  """A clock that jumps back and forth: the run ends as always."""
  hook = tmp_path / 'hook'
  hook.mkdir()
  (hook / 'sitecustomize.py').write_text(_CLOCK)
  folder, env = tmp_path / 'runs', {'PYTHONPATH': str(hook)}
  code, log = _run(folder, env=env)
  assert code == 0, log
  assert 'Traceback' not in log
  (line,) = (line for line in log.splitlines() if 'clock read' in line)
  assert int(line.split()[-1]) > 10
  assert _results(folder) == _results(whole)
  # Files that seem to be years older or newer than others.
  for number, path in enumerate(sorted(folder.rglob('*'))):
    when = time.time() + (-1) ** number * number * 1e6
    os.utime(path, (when, when))
  code, log = _run(folder, '--config.seeds=2', env=env)
  assert code == 0, log
  assert 'teacher: restored from' in log
  (path,) = folder.glob('mnist-h50-*/run.json')
  record = json.loads(path.read_text())
  assert len(record['students']) == 2
  lines = (path.parent / 'metrics.jsonl').read_text().splitlines()
  durations = list(_durations([record, *map(json.loads, lines)]))
  assert len(durations) > 4
  assert all(seconds >= 0 for _, seconds in durations), durations


# --- Disks that are full. ---


@contextlib.contextmanager
def _disk(folder, size):
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


def _command(*args):
  """Returns the exit status of a command of Python, and its output."""
  ended = helpers.run_python(*args)
  return ended.returncode, ended.stdout + ended.stderr


def _workdir(folder):
  (workdir,) = folder.glob('mnist-h50-*')
  return workdir


def test_a_disk_that_is_full_in_an_export(tmp_path, whole):
  """A full disk in an export: one clear error, and the next export succeeds."""
  disk = tmp_path / 'disk'
  export = ('-m', 'kd_jax.export', _workdir(whole), f'--output={disk}')
  with _disk(disk, '16k') as resize:
    code, log = _command(*export)
    _assert_clear(code, log, f'{disk}/')
    assert 'No space left on device' in log and 'free some space' in log
    assert not list(disk.iterdir())
    resize('16m')
    code, log = _command(*export)
    assert code == 0, log
    assert (disk / 'manifest.json').exists()


def test_a_disk_that_is_full_for_stored_outputs(tmp_path, whole):
  """A full disk for the teacher's outputs: one clear error; it resumes."""
  folder = tmp_path / 'runs'
  shutil.copytree(whole, folder)
  shutil.rmtree(_workdir(folder))
  (store,) = folder.glob('teachers/*/outputs-*')
  shutil.rmtree(store)
  with _disk(store, '8k') as resize:
    code, log = _run(folder)
    assert 'teacher outputs: computed' in log
    _assert_clear(code, log, f'{store}/')
    assert 'No space left on device' in log
    assert not (store / 'manifest.json').exists()
    resize('16m')
    code, log = _run(folder)
    assert code == 0, log
    assert (store / 'manifest.json').exists()
    assert _results(folder) == _results(whole)


def test_a_disk_that_is_full_for_a_report(tmp_path, whole):
  """A full disk for a report: one clear error, and the record stays."""
  disk = tmp_path / 'disk'
  with _disk(disk, '16m') as resize:
    folder = disk / 'run'
    shutil.copytree(_workdir(whole), folder)
    record = (folder / 'run.json').read_bytes()
    for pattern in ('report.*', '*.png'):
      for path in folder.glob(pattern):
        path.unlink()
    used = shutil.disk_usage(disk).used
    resize(str(used + 2 * 4096))
    code, log = _command('-m', 'kd_jax.report', folder)
    _assert_clear(code, log, f'{folder}/')
    assert 'No space left on device' in log
    assert (folder / 'run.json').read_bytes() == record
    assert not (folder / 'report.md').exists()
    resize('16m')
    code, log = _command('-m', 'kd_jax.report', folder)
    assert code == 0, log
    assert (folder / 'report.html').exists()


def test_a_disk_that_is_full_for_the_log_of_epochs(tmp_path):
  """A full disk for metrics.jsonl: the file is named; its lines stay whole."""
  record = {'row': 'h50', 'seed': 0, 'epoch': 0, 'phase': 'x' * 900}
  with _disk(tmp_path / 'disk', '12k') as resize:
    log = run_records.MetricsLog(tmp_path / 'disk/metrics.jsonl')
    with pytest.raises(OSError, match='No space left on device.*metrics'):
      for epoch in range(100):
        log.append(record | {'epoch': epoch})
    written = [line['epoch'] for line in log.read()]
    assert written == list(range(len(written))) and written
    resize('16m')
    log.append(record | {'epoch': len(written)})
    assert [line['epoch'] for line in log.read()] == [*written, len(written)]


# --- Exports. ---


def test_a_terminal_that_closes_in_an_export(tmp_path, whole):
  """SIGHUP in an export: the same command exports again."""
  output = tmp_path / 'export'
  export = ('-m', 'kd_jax.export', _workdir(whole), f'--output={output}')
  process = helpers.start_python(*export)
  manifest = output / 'manifest.json'
  helpers.wait_until(lambda: manifest.exists() or process.poll() is not None)
  process.send_signal(signal.SIGHUP)
  _, log = process.communicate()
  assert process.returncode == -signal.SIGHUP, log
  assert 'Traceback' not in log
  # The networks are measured after they are written.
  assert 'measured' not in json.loads(manifest.read_text())
  code, log = _command(*export)
  assert code == 0, log
  assert 'measured' in json.loads(manifest.read_text())
