"""Disks that are full in each part of a run, and ends of exports.

Another part of `make faults`.
"""

import json
import shutil
import signal

import pytest

from kd_jax.runtime import run_records
from tests import fault_runs, helpers, short_runs

pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Returns the folder of a run without any fault."""
  folder = tmp_path_factory.mktemp('whole') / 'runs'
  code, log = short_runs.launch(folder)
  assert code == 0, log
  return folder


def _command(*args):
  """Returns the exit status of a command of Python, and its output."""
  ended = helpers.run_python(*args)
  return ended.returncode, ended.stdout + ended.stderr


def test_a_disk_that_is_full_in_an_export(tmp_path, whole):
  """A full disk in an export: one clear error, and the next export succeeds."""
  disk = tmp_path / 'disk'
  export = (
    '-m',
    'kd_jax.export',
    fault_runs.run_folder(whole),
    f'--output={disk}',
  )
  with fault_runs.small_disk(disk, '16k') as resize:
    code, log = _command(*export)
    short_runs.assert_clear(code, log, f'{disk}/')
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
  shutil.rmtree(fault_runs.run_folder(folder))
  (store,) = folder.glob('teachers/*/outputs-*')
  shutil.rmtree(store)
  with fault_runs.small_disk(store, '8k') as resize:
    code, log = short_runs.launch(folder)
    assert 'teacher outputs: computed' in log
    short_runs.assert_clear(code, log, f'{store}/')
    assert 'No space left on device' in log
    assert not (store / 'manifest.json').exists()
    resize('16m')
    code, log = short_runs.launch(folder)
    assert code == 0, log
    assert (store / 'manifest.json').exists()
    assert short_runs.results(folder) == short_runs.results(whole)


def test_a_disk_that_is_full_for_a_report(tmp_path, whole):
  """A full disk for a report: one clear error, and the record stays."""
  disk = tmp_path / 'disk'
  with fault_runs.small_disk(disk, '16m') as resize:
    folder = disk / 'run'
    shutil.copytree(fault_runs.run_folder(whole), folder)
    record = (folder / 'run.json').read_bytes()
    for pattern in ('report.*', '*.png'):
      for path in folder.glob(pattern):
        path.unlink()
    used = shutil.disk_usage(disk).used
    resize(str(used + 2 * 4096))
    code, log = _command('-m', 'kd_jax.report', folder)
    short_runs.assert_clear(code, log, f'{folder}/')
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
  with fault_runs.small_disk(tmp_path / 'disk', '12k') as resize:
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
  export = (
    '-m',
    'kd_jax.export',
    fault_runs.run_folder(whole),
    f'--output={output}',
  )
  with fault_runs.default_signal(signal.SIGHUP):
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
