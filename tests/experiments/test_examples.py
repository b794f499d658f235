"""The commands of the documents that train networks of the user's."""

import shlex
import sys

import numpy as np
import pytest

from kd_jax import config as config_lib
from tests import documents, helpers

# Overrides with which the examples take seconds.
_QUICK = (
  '--config.data.train_examples=320',
  '--config.data.test_examples=64',
  '--config.train.epochs=1',
  '--config.train.folds=0',
  '--config.teacher.train.epochs=1',
  '--config.teacher.model.filters=(2,)',
  '--config.teacher.model.hidden=(32,)',
  '--config.benchmark.enabled=false',
)


@pytest.mark.slow
def test_the_networks_of_the_example_run(tmp_path, monkeypatch):
  (tmp_path / 'mine.py').write_text(documents.EXAMPLES['mine.py'])
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, 'mine', raising=False)
  python, program, *args = shlex.split(documents.EXAMPLES['networks'])
  assert (python, program) == ('python', 'launch.py')
  result = helpers.launch_here(*args, *_QUICK, f'--runs_dir={tmp_path}')
  assert result.returncode == 0, result.stderr
  assert '| h300 ' in result.stdout


def _run_command(name, *arguments, folder='FOLDER'):
  """Runs a command of the documents; returns what it printed."""
  command = documents.EXAMPLES[name].replace('FOLDER', str(folder))
  python, program, *args = shlex.split(command)
  assert (python, program) == ('python', 'launch.py')
  result = helpers.launch_here(*args, *arguments)
  assert result.returncode == 0, result.stderr
  return result.stdout


def test_the_start_describes_its_recipe(tmp_path):
  printed = _run_command(
    'start-describe',
    *_QUICK,
    '--config.data.name=generated',
    f'--runs_dir={tmp_path}',
  )
  (student,) = [
    line for line in printed.splitlines() if line.startswith('| h300 ')
  ]
  assert student.split('|')[2].strip() == 'mlp'


def test_the_rows_of_the_sweep_example_differ_as_it_says():
  namespace = {}
  exec(documents.EXAMPLES['sweep.py'], namespace)
  config = namespace['get_config']('h300')
  row = config_lib.close_row(config, 't4_kd50')
  assert (row.distill.temperature, row.distill.kd_weight) == (4.0, 0.5)
  assert len(config.rows) == 4


@pytest.mark.slow
def test_the_commands_of_the_start_train_and_export(tmp_path):
  quick = (*_QUICK, '--config.data.name=generated')
  python, _, module, run, *rest = shlex.split(
    documents.EXAMPLES['start-export']
  )
  folder = tmp_path / run
  runs = f'--runs_dir={folder.parent}'
  printed = _run_command('start-train', *quick, runs, f'--workdir={folder}')
  assert '| h300 ' in printed
  assert '| h300 ' in _run_command('start-override', *quick, runs)
  result = helpers.run_python('-m', module, folder, *rest)
  assert result.returncode == 0, result.stderr
  assert (folder / 'export/h300-seed-0/manifest.json').exists()


@pytest.mark.slow
def test_the_command_for_the_users_data_trains(tmp_path):
  labels = np.arange(120) % 3
  images = np.zeros((120, 8, 8, 3), np.uint8)
  images[np.arange(120), labels] = 200
  arrays = {
    f'{split}_{name}': value
    for split in ('train', 'test')
    for name, value in (('images', images), ('labels', labels))
  }
  np.savez(tmp_path / 'data.npz', **arrays)
  printed = _run_command(
    'data', f'--runs_dir={tmp_path}/runs', folder=f'{tmp_path}/data.npz,smoke'
  )
  assert '| distilled ' in printed
