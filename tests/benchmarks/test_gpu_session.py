"""The session on a lent GPU: packed data, steps, and a rehearsal."""

import json
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from kd_jax.data.builtin import array_cache, specs
from kd_jax.runtime import files
from tests import helpers

sys.path.insert(0, str(helpers.ROOT / 'benchmarks'))
gpu_session = pytest.importorskip('gpu_session')
gpu_steps = pytest.importorskip('gpu_steps')
packed_cifar = pytest.importorskip('packed_cifar')


def _session(tmp_path: pathlib.Path) -> 'gpu_session.Session':
  session = gpu_session.Session(tmp_path / 'work', tmp_path / 'out', smoke=True)
  session.runs.mkdir(parents=True)
  session.out_dir.mkdir()
  return session


def test_parts_give_the_arrays_back(tmp_path):
  rng = np.random.default_rng(0)
  arrays = {}
  for split, count in (('train', 7), ('test', 4)):
    images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    arrays[f'{split}_images'] = images
    arrays[f'{split}_labels'] = rng.integers(0, 10, count, np.int32)
  packed_cifar.pack(arrays, tmp_path / 'parts')
  work_dir = tmp_path / 'work'
  for part in range(packed_cifar.PARTS):
    folder = tmp_path / f'call-{part}'
    folder.mkdir()
    (tmp_path / f'parts/part-{part}.npz').rename(folder / f'part-{part}.npz')
    packed_cifar.take_in(folder, work_dir)
  store = work_dir / 'data' / 'cifar10' / specs.VERSION
  for name, array in arrays.items():
    found = np.load(store / f'{name}.npy')
    np.testing.assert_array_equal(found, array)
    assert array_cache.array_digest(found) == array_cache.array_digest(array)


def test_the_recipe_of_highest_held_out_accuracy_is_chosen(tmp_path):
  session = _session(tmp_path)
  accuracies = {'published': 0.91, 'one_cycle': 0.93, 'cutout': 0.93}
  for training, accuracy in accuracies.items():
    files.write_json(
      session.runs / f'choice-{training}' / 'run.json',
      {'status': 'complete', 'teacher': {'test': {'accuracy': accuracy}}},
    )
  gpu_session.STEPS['choose'].finish(session)
  choice = files.read_json(session.work_dir / 'choice.json')
  assert choice == {'chosen': 'one_cycle', 'held_out_accuracy': accuracies}
  (command,) = gpu_session.STEPS['teacher'].commands(session)
  assert '--config=configs/cifar.py:teacher,training=one_cycle,smoke' in (
    command.argv
  )


def test_a_recipe_that_was_not_tried_to_its_end_is_not_chosen(tmp_path):
  session = _session(tmp_path)
  files.write_json(
    session.runs / 'choice-cutout' / 'run.json',
    {'status': 'running', 'teacher': {'test': {'accuracy': 0.99}}},
  )
  with pytest.raises(RuntimeError, match='no recipe has finished'):
    gpu_session.STEPS['choose'].finish(session)


def _step(*source: str, limit_s: float = 60) -> 'gpu_steps.Step':
  """Returns a step of Python programs."""
  return gpu_steps.Step(
    limit_s,
    lambda session: [
      gpu_steps.Command(f'program-{i}', [sys.executable, '-c', text])
      for i, text in enumerate(source)
    ],
  )


def test_a_failed_step_leaves_the_next_ones_and_their_results(
  tmp_path, monkeypatch
):
  session = _session(tmp_path)
  record = session.runs / 'good' / 'run.json'
  good = (
    'import pathlib; path = pathlib.Path(r"' + str(record) + '"); '
    'path.parent.mkdir(); path.write_text("{}")'
  )
  steps = {'bad': _step('raise SystemExit(3)', 'pass'), 'good': _step(good)}
  monkeypatch.setattr(gpu_session, 'STEPS', steps)
  assert not gpu_session.run(session, ['bad', 'good'], budget_s=120)
  bad, good = json.loads((session.out_dir / 'status.json').read_text())
  assert bad['problem'] == 'program-0 ended with 3' and not good['problem']
  with tarfile.open(session.out_dir / 'session.tar.gz') as archive:
    names = archive.getnames()
  assert 'runs/good/run.json' in names and 'runs/program-0.log' in names


def test_a_step_ends_when_the_budget_is_spent(tmp_path, monkeypatch):
  session = _session(tmp_path)
  steps = {'long': _step('import time; time.sleep(600)'), 'late': _step('pass')}
  monkeypatch.setattr(gpu_session, 'STEPS', steps)
  assert not gpu_session.run(session, ['long', 'late'], budget_s=1)
  long, late = json.loads((session.out_dir / 'status.json').read_text())
  assert long['problem'] == 'program-0 was stopped'
  assert 'no time' in late['problem']


@pytest.mark.slow
def test_every_step_runs_in_smoke_size(tmp_path):
  work_dir = tmp_path / 'work'
  work_dir.mkdir()
  (work_dir / 'data').symlink_to(files.cache_dir() / 'data')
  steps = [step for step in gpu_session.STEPS if step != 'training']
  command = [
    *(sys.executable, 'benchmarks/gpu_session.py', 'run', '--smoke'),
    *(
      f'--work_dir={work_dir}',
      f'--out_dir={tmp_path / "out"}',
      '--budget_s=3000',
    ),
    *steps,
  ]
  subprocess.run(command, cwd=helpers.ROOT, check=True)
  with tarfile.open(tmp_path / 'out/session.tar.gz') as archive:
    names = archive.getnames()
  for run in ('teacher', 'table2', 'own_scaling', 'labels'):
    assert f'runs/{run}/run.json' in names
  assert 'runs/teacher/outputs/symmetric-train.npy' in names
  assert (tmp_path / 'out/weights-0.bin').exists()
