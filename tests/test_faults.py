"""Faults that happen to runs, as their users see them: `make faults`.

Each fault ends in one clear line, and nothing is lost: the same command resumes
the run. For kills at any moment see test_kills.py.
"""

import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from kd_jax.runtime import json_records
from tests import fault_runs

pytestmark = [pytest.mark.faults, pytest.mark.slow]
GENERATED = '--config.data.name=generated'


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Returns the folder of a run on generated data without any fault."""
  folder = tmp_path_factory.mktemp('whole')
  assert fault_runs.launch(folder, GENERATED)[0] == 0
  return folder


def test_a_truncated_checkpoint_is_passed_over(tmp_path, whole):
  """A truncated checkpoint: the checkpoint before it is used."""
  process = fault_runs.start(tmp_path, GENERATED)
  while process.poll() is None and len(fault_runs.checkpoints(tmp_path)) < 2:
    time.sleep(0.01)
  process.kill()
  process.wait()
  # The process was in the training, not after it.
  assert process.returncode == -signal.SIGKILL
  newest = fault_runs.checkpoints(tmp_path)[-1]
  for path in newest.rglob('*'):
    if path.is_file() and path.stat().st_size > 100:
      os.truncate(path, path.stat().st_size // 2)
  code, log = fault_runs.launch(tmp_path, GENERATED)
  assert code == 0, log
  assert f'{newest} is damaged' in log and 'passed over' in log
  assert fault_runs.results(tmp_path) == fault_runs.results(whole)


# --- Disks. ---


def test_a_full_disk_is_a_clear_error_and_earlier_results_stay(tmp_path, whole):
  """A full disk: one clear error, and earlier results stay."""
  disk = tmp_path / 'disk'
  with fault_runs.small_disk(disk, '16m'):
    code, log = fault_runs.launch(disk, GENERATED)
    assert code == 0, log
    first = fault_runs.results(disk)
    free = shutil.disk_usage(disk).free
    (disk / 'filler').write_bytes(bytes(max(0, free - 40_000)))
    code, log = fault_runs.launch(disk, GENERATED, '--config.seeds=2')
    fault_runs.assert_clear(
      code, log, f'no space left for a checkpoint in {disk}'
    )
    assert _end_of_seed_0(disk) == first['students']
    (disk / 'filler').unlink()
    code, log = fault_runs.launch(disk, GENERATED, '--config.seeds=2')
    assert code == 0, log
    assert fault_runs.results(disk)['students'][:1] == first['students']
  assert first == fault_runs.results(whole)


def _end_of_seed_0(folder):
  """Returns the results of the first seed of a run that is not complete."""
  student = json.loads(
    (
      fault_runs.run_folder(folder) / 'students/h50/seed-0/result.json'
    ).read_text()
  )
  return [(student['weights'], student['test'], student['by_class'])]


def test_a_disk_that_becomes_read_only_is_a_clear_error(tmp_path, whole):
  """A disk becomes read-only: one clear error, and its results stay."""
  disk = tmp_path / 'disk'
  with fault_runs.small_disk(disk, '16m'):
    shutil.copytree(whole, disk, dirs_exist_ok=True)
    again = GENERATED, '--config.seeds=2'
    remount = lambda how: subprocess.run(
      ['mount', '-o', f'remount,{how}', disk], check=True
    )
    remount('ro')
    code, log = fault_runs.launch(disk, *again)
    fault_runs.assert_clear(code, log, 'Read-only file system')
    assert fault_runs.results(disk) == fault_runs.results(whole)
    remount('rw')
    code, log = fault_runs.launch(disk, *again)
    assert code == 0, log
    assert (
      fault_runs.results(disk)['students'][:1]
      == fault_runs.results(whole)['students']
    )


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
  """A folder that cannot be written: one clear error."""
  code, log = fault_runs.launch(tmp_path, GENERATED, '--workdir=/sys/kd_jax')
  fault_runs.assert_clear(code, log, '/sys/')


# --- Folders and files that belong to something else. ---


def test_a_second_run_in_a_folder_is_refused_by_name(tmp_path, whole):
  """A second run in a folder in use: it is refused, with the folder's name."""
  first = fault_runs.start(tmp_path, GENERATED)
  while not any(tmp_path.glob('mnist-h50-*/run.json')):
    assert first.poll() is None
    time.sleep(0.01)
  code, log = fault_runs.launch(tmp_path, GENERATED)
  assert code == 1
  assert (
    f'another process is at work in {fault_runs.run_folder(tmp_path)}' in log
  )
  assert first.wait(300) == 0
  assert fault_runs.results(tmp_path) == fault_runs.results(whole)


def test_outputs_of_another_teacher_are_not_used(tmp_path, whole):
  """Stored outputs of another teacher, data set or scaling: not used."""
  shutil.copytree(whole, tmp_path / 'again')
  folder = tmp_path / 'again'
  shutil.rmtree(fault_runs.run_folder(folder))
  (stored,) = folder.glob('teachers/*/outputs-*/manifest.json')
  manifest = json.loads(stored.read_text())
  assert {'weights', 'data_digest', 'scaling'} <= manifest['fingerprint'].keys()
  for field in ('weights', 'data_digest', 'scaling'):
    other = json.loads(json.dumps(manifest))
    other['fingerprint'][field] = 'of something else'
    json_records.write(stored, other)
    code, log = fault_runs.launch(folder, GENERATED)
    assert code == 0, log
    assert f'have another {field}' in log
    assert fault_runs.results(folder) == fault_runs.results(whole)
    shutil.rmtree(fault_runs.run_folder(folder))


def test_published_outputs_of_other_data_are_refused(tmp_path):
  """Published outputs of another data set: they are refused."""
  code, log = fault_runs.launch(
    tmp_path,
    '--config.data.name=generated_rgb',
    base=('--config=configs/cifar.py:ideal,smoke',),
  )
  fault_runs.assert_clear(code, log, 'are of other data (cifar10')


def test_logits_of_the_user_that_do_not_fit_are_refused(tmp_path):
  """The user's logits for another number of examples: they are refused."""
  np.save(tmp_path / 'short.npy', np.zeros((7, 10), 'f'))
  code, log = fault_runs.launch(
    tmp_path, GENERATED, f'--config.teacher.logits={tmp_path}/short.npy'
  )
  fault_runs.assert_clear(
    code, log, 'shape (7, 10); the train split needs (2000, 10)'
  )


# --- Numbers. ---


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(tmp_path, whole):
  """A loss that is not finite: the run stops and keeps the last good state."""
  shutil.copytree(whole / 'teachers', tmp_path / 'teachers')
  # The first epoch learns from labels alone. After that, the weight of the
  # distillation term is too large for any network.
  arguments = (
    GENERATED,
    # Large enough for an epoch of some seconds, after which a save is due.
    '--config.student.hidden=(3000,)',
    '--config.optim.name=sgd',
    '--config.distill.ce_weight=1',
    '--config.distill.kd_warmup_epochs=2',
    '--config.distill.kd_weight=1e30',
  )
  code, log = fault_runs.launch(tmp_path, *arguments)
  fault_runs.assert_clear(code, log, 'not finite')
  assert 'kd_weight=5e+29' in log
  (student,) = tmp_path.glob('mnist-*/students/h50/seed-0')
  assert not (student / 'result.json').exists()
  assert [path.name for path in fault_runs.checkpoints(tmp_path)] == ['1']
  code, log = fault_runs.launch(tmp_path, *arguments)
  fault_runs.assert_clear(code, log, 'not finite')
  assert 'resumed after epoch 1' in log
