"""The package: the files of a wheel, and a run where it is installed.

Also tests `kd_jax/__main__.py` and `kd_jax/runtime/project_files.py`.
"""

import os
import subprocess
import tomllib

import pytest

from kd_jax.runtime import errors, project_files
from kd_jax.teachers import pretrained
from tests import helpers

PROJECT = tomllib.loads((helpers.ROOT / 'pyproject.toml').read_text())
SETUPTOOLS = PROJECT['tool']['setuptools']


def _requirement_files():
  dynamic = SETUPTOOLS['dynamic']
  entries = [
    dynamic['dependencies'],
    *dynamic['optional-dependencies'].values(),
  ]
  return {name for entry in entries for name in entry['file']}


def test_a_wheel_holds_every_folder_of_the_package():
  folders = {
    '.'.join(path.parent.relative_to(helpers.ROOT).parts)
    for path in (helpers.ROOT / 'kd_jax').rglob('__init__.py')
  }
  named = set(SETUPTOOLS['packages'])
  assert named == folders | set(SETUPTOOLS['package-dir']) - {'kd_jax'}


def test_an_extra_has_each_file_of_requirements():
  files = {
    str(path.relative_to(helpers.ROOT))
    for path in [
      *helpers.ROOT.glob('requirements*.txt'),
      *helpers.ROOT.glob('*/requirements.txt'),
    ]
  }
  assert _requirement_files() == files
  for name in files:  # Setuptools refuses options of pip.
    lines = (helpers.ROOT / name).read_text().splitlines()
    assert not [line for line in lines if line.startswith('-')], name
    # Before the marker of an extra, pip 23 cannot read `===`.
    pins = [line.partition('#')[0] for line in lines]
    assert not [pin for pin in pins if '===' in pin], name


def test_a_wheel_holds_every_teacher_that_is_small():
  """Weights of 5 MB or more are left out, and a message says so."""
  patterns = SETUPTOOLS['package-data']['kd_jax.project.teachers']
  teachers = helpers.ROOT / 'teachers'
  packed = {path for pattern in patterns for path in teachers.glob(pattern)}
  for folder in teachers.iterdir():
    files = set(folder.iterdir())
    is_small = max(path.stat().st_size for path in files) < 5_000_000
    assert files & packed == (files if is_small else set()), folder


def test_a_teacher_that_a_wheel_leaves_out_is_an_error(tmp_path, monkeypatch):
  monkeypatch.setattr(project_files, '_INSTALLED', tmp_path)
  with pytest.raises(errors.UserError, match='installed package does not have'):
    pretrained.has_weights('teachers/cifar10-resnet18')


@pytest.mark.slow
def test_an_installed_wheel_runs_from_an_empty_folder(tmp_path):
  site = tmp_path / 'site'
  wheel = helpers.build_wheel(tmp_path)
  assert wheel.stat().st_size < 20_000_000
  helpers.pip('install', str(wheel), f'--target={site}', cwd=tmp_path)
  empty = tmp_path / 'empty'
  empty.mkdir()

  def command(*args):
    result = subprocess.run(
      [site / 'bin' / 'kd-jax', *args],
      cwd=empty,
      env=os.environ | {'PYTHONPATH': str(site)},
      capture_output=True,
      text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout

  assert 'configs/mnist.py:table1' in command('list')
  recipe = '--config=configs/mnist.py:h300,smoke'
  output = command('run', recipe, '--config.data.name=generated')
  assert '| h300 ' in output
  (run,) = (empty / 'runs').glob('mnist-h300*')
  record = (run / 'run.json').read_text()
  assert '"command": "kd-jax run --config=configs/mnist.py:h300,smoke' in record
  assert str(tmp_path) not in record
  command('report', str(run))
  command('export', str(run))
  assert sorted(path.name for path in empty.iterdir()) == ['runs']
