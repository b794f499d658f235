"""Faults of a run's surroundings: `make faults`.

The user's account, the terminal, the clock, the disk and other people's hands.
"""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from tests import fault_runs, short_runs

pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Returns the folder of a run without any fault."""
  folder = tmp_path_factory.mktemp('whole') / 'runs'
  code, log = short_runs.launch(folder)
  assert code == 0, log
  return folder


@pytest.fixture(scope='module')
def long_whole(tmp_path_factory):
  """Returns the folder of a longer run without any fault."""
  folder = tmp_path_factory.mktemp('long') / 'runs'
  code, log = short_runs.launch(folder, *short_runs.LONG)
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
  'stdin is closed': {'starter': ('sh', '-c', 'exec "$@" <&-', 'sh')},
  'umask 077': {'umask': 0o077},
  'umask 000': {'umask': 0},
}


@pytest.mark.parametrize('name', SURROUNDINGS)
def test_a_run_does_not_depend_on_its_surroundings(tmp_path, whole, name):
  """No HOME, no cache, no stdin, any umask: the run ends as always."""
  options = SURROUNDINGS[name]
  folder = tmp_path / 'runs'
  code, log = short_runs.launch(folder, **options)
  assert code == 0, log
  assert 'Traceback' not in log
  assert short_runs.results(folder) == short_runs.results(whole)
  if 'umask' in options:
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob('*.json')}
    assert modes == {0o666 & ~options['umask']}


@pytest.mark.parametrize('home', ['/dev/null', _UNWRITABLE])
def test_without_a_folder_for_data_one_line_says_so(tmp_path, home):
  """HOME not writable, and data to keep: one clear error."""
  code, log = short_runs.launch(
    tmp_path / 'runs',
    '--config.data.name=mnist',
    env={'HOME': home, 'XDG_CACHE_HOME': None},
  )
  short_runs.assert_clear(code, log, home)


# The locale C. Python then takes UTF-8, unless it is told not to.
_LOCALE_C = dict.fromkeys(
  ('LANG', 'LC_CTYPE', 'PYTHONIOENCODING', 'PYTHONUTF8', 'PYTHONCOERCECLOCALE')
) | {'LC_ALL': 'C'}


def test_the_locale_c_takes_any_path(tmp_path, whole):
  """The locale C, and paths that are not ASCII: the run ends as always."""
  folder = tmp_path / 'läufe 実験'
  code, log = short_runs.launch(folder, env=_LOCALE_C)
  assert code == 0, log
  assert 'Traceback' not in log
  assert short_runs.results(folder) == short_runs.results(whole)


def test_a_locale_without_unicode_is_named_before_any_work(tmp_path):
  """An encoding that lacks the letters of a path: one clear error.

  The libraries that write checkpoints take UTF-8 alone.
  """
  folder = tmp_path / 'läufe 実験'
  code, log = short_runs.launch(
    folder,
    env=_LOCALE_C | {'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
  )
  short_runs.assert_clear(code, log, 'PYTHONUTF8=1')
  assert not folder.exists()


def test_a_link_to_the_folder_of_runs_is_that_folder(tmp_path, whole):
  """A linked folder of runs: the run resumes by either name."""
  folder, link = tmp_path / 'runs', tmp_path / 'link'
  folder.mkdir()
  link.symlink_to(folder)
  first = short_runs.Run(link, *short_runs.LONG)
  first.wait_in_training()
  code, log = short_runs.launch(folder, *short_runs.LONG)
  short_runs.assert_clear(code, log, 'another process is at work in')
  first.process.kill()
  first.process.wait()
  shutil.rmtree(next(folder.glob('mnist-*')))
  code, log = short_runs.launch(link)
  assert code == 0, log
  assert short_runs.results(folder) == short_runs.results(whole)


# --- Signals. ---


def test_a_terminal_that_closes_ends_the_run_which_resumes(
  tmp_path, long_whole
):
  """SIGHUP in training, as a closed terminal sends it: the run resumes."""
  folder = tmp_path / 'runs'
  with fault_runs.default_signal(signal.SIGHUP):
    run = short_runs.Run(folder, *short_runs.LONG, start_new_session=True)
  training = run.wait_in_training()
  os.killpg(run.process.pid, signal.SIGHUP)
  code, log = run.end(30)
  assert code == -signal.SIGHUP
  assert not (training / 'result.json').exists()
  assert 'Traceback' not in log
  code, log = short_runs.launch(folder, *short_runs.LONG)
  assert code == 0, log
  assert 'resumed after epoch' in log
  assert short_runs.results(folder) == short_runs.results(long_whole)


def test_a_stopped_machine_that_goes_on_hands_over_its_lock(
  tmp_path, long_whole
):
  """Suspended for 30 s while another run waits: both end as always."""
  folder = tmp_path / 'runs'
  first = short_runs.Run(folder, *short_runs.LONG)
  first.wait_for(
    lambda: list(folder.glob('teachers/*/identity.json')), 'the teacher'
  )
  first.process.send_signal(signal.SIGSTOP)
  assert not any(folder.glob('teachers/*/result.json'))
  second = short_runs.Run(
    folder, *short_runs.LONG, f'--workdir={folder}/mnist-h50-other'
  )
  time.sleep(30)
  assert second.process.poll() is None
  assert f'kill -CONT {first.process.pid}' in second.text()
  first.process.send_signal(signal.SIGCONT)
  for run in (first, second):
    code, log = run.end()
    assert code == 0, log
  assert 'teacher: restored from' in second.text()
  shutil.rmtree(folder / 'mnist-h50-other')
  assert short_runs.results(folder) == short_runs.results(long_whole)


def test_two_launches_at_once_are_one_run(tmp_path, long_whole):
  """Two launches within the same second: one runs, the other is refused."""
  folder = tmp_path / 'runs'
  runs = [short_runs.Run(folder, *short_runs.LONG) for _ in range(2)]
  ends = sorted((run.end() for run in runs), key=lambda end: end[0])
  assert [code for code, _ in ends] == [0, 1], ends
  short_runs.assert_clear(*ends[1], 'another process is at work in')
  assert short_runs.results(folder) == short_runs.results(long_whole)


# --- Folders that are copied and moved. ---


def test_a_copied_run_goes_on_and_so_does_the_original(tmp_path, long_whole):
  """A run copied in training: the copy and the original end as always."""
  folder, copy = tmp_path / 'runs', tmp_path / 'copy'
  first = short_runs.Run(folder, *short_runs.LONG)
  first.wait_in_training()
  # A checkpoint may be removed while it is copied, which `cp` reports.
  subprocess.run(['cp', '-r', folder, copy], capture_output=True)
  assert first.process.poll() is None
  second = short_runs.Run(copy, *short_runs.LONG)
  for run in (first, second):
    code, log = run.end()
    assert code == 0, log
    assert short_runs.results(run.folder) == short_runs.results(long_whole)


def test_a_renamed_run_is_one_clear_error(tmp_path, long_whole):
  """A run folder renamed in training: one clear error, and it resumes."""
  folder = tmp_path / 'runs'
  run = short_runs.Run(folder, *short_runs.LONG)
  run.wait_in_training()
  (workdir,) = folder.glob('mnist-h50-*')
  workdir.rename(folder / 'elsewhere')
  code, log = run.end()
  short_runs.assert_clear(code, log, f'{workdir} was moved or removed')
  # A checkpoint may have been half written when the folder was renamed.
  assert not any(workdir.glob('*.json*')), log
  shutil.rmtree(workdir, ignore_errors=True)
  (folder / 'elsewhere').rename(workdir)
  code, log = short_runs.launch(folder, *short_runs.LONG)
  assert code == 0, log
  assert short_runs.results(folder) == short_runs.results(long_whole)


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
  code, log = short_runs.launch(folder, env=env)
  assert code == 0, log
  assert 'Traceback' not in log
  (line,) = (line for line in log.splitlines() if 'clock read' in line)
  assert int(line.split()[-1]) > 10
  assert short_runs.results(folder) == short_runs.results(whole)
  # Files that seem to be years older or newer than others.
  for number, path in enumerate(sorted(folder.rglob('*'))):
    when = time.time() + (-1) ** number * number * 1e6
    os.utime(path, (when, when))
  code, log = short_runs.launch(folder, '--config.seeds=2', env=env)
  assert code == 0, log
  assert 'teacher: restored from' in log
  (path,) = folder.glob('mnist-h50-*/run.json')
  record = json.loads(path.read_text())
  assert len(record['students']) == 2
  lines = (path.parent / 'metrics.jsonl').read_text().splitlines()
  durations = list(_durations([record, *map(json.loads, lines)]))
  assert len(durations) > 4
  assert all(seconds >= 0 for _, seconds in durations), durations
