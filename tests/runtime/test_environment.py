"""The description of the machine and the versions."""

import json
import subprocess

import pytest

from kd_jax.runtime import environment, files, project_files


def test_a_cpu_beside_an_accelerator_is_a_loud_warning(
  monkeypatch, caplog, tmp_path
):
  with caplog.at_level('INFO'):
    environment.log_device()
  assert '(cpu)' in caplog.text and 'THIS RUNS' not in caplog.text
  (tmp_path / 'accel0').touch()
  monkeypatch.setattr(environment, '_ACCELERATORS', (str(tmp_path / 'accel0'),))
  environment.log_device()
  assert 'THIS RUNS ON THE CPU' in caplog.text and 'accel0' in caplog.text


def test_environment_names_versions_and_device():
  described = environment.describe()
  assert described['backend'] == 'cpu'
  assert set(described['versions']) >= {'jax', 'flax', 'optax'}
  json.dumps(described)


@pytest.mark.parametrize(
  'field, flags, instructions',
  [
    ('flags', 'fpu avx avx2', 'AVX2'),
    ('flags', 'avx2 avx512f avx512_bf16', 'AVX-512, bfloat16'),
    ('Features', 'fp asimd bf16', 'NEON, bfloat16'),
    ('flags', 'fpu', ''),
    ('none', '', ''),
  ],
)
def test_environment_names_the_vector_instructions(
  monkeypatch, field, flags, instructions
):
  found = {field: flags}
  monkeypatch.setattr(environment, 'cpu_info', lambda name: found.get(name, ''))
  assert environment.describe()['instructions'] == instructions


def test_the_code_version_marks_changes_outside_results(tmp_path, monkeypatch):
  monkeypatch.delenv('KD_JAX_CODE')

  def git(*args):
    identity = ('-c', 'user.name=a', '-c', 'user.email=a@b')
    subprocess.run(
      ['git', *identity, *args], cwd=tmp_path, check=True, capture_output=True
    )

  for name in ('kd_jax/runtime/environment.py', 'results/run.json'):
    files.write_text(tmp_path / name, 'first')
  git('init')
  git('add', '.')
  git('commit', '-m', 'first')
  monkeypatch.setattr(project_files, 'checkout', lambda: tmp_path)
  code_version = lambda: environment.describe()['code']
  clean = code_version()
  assert len(clean) == 12
  files.write_text(tmp_path / 'results/run.json', 'second')
  assert code_version() == clean
  files.write_text(tmp_path / 'kd_jax/runtime/environment.py', 'second')
  assert code_version() == f'{clean}-dirty'


def test_a_recorded_command_names_no_folder_of_the_machine():
  argv = [
    'launch.py',
    '--config=configs/cifar.py:ideal,seeds=2',
    '--workdir=/home/me/run',
    '--runs_dir',
    '/home/me/runs',
    '-data_dir=/data',
    '--workers=2',
  ]
  assert environment.command(argv) == (
    'launch.py --config=configs/cifar.py:ideal,seeds=2 --workers=2'
  )


def test_a_recorded_command_of_an_installed_package_names_no_folder():
  for program in ('/venv/bin/kd-jax', '/venv/lib/kd_jax/__main__.py'):
    command = environment.command([program, '--config=configs/mnist.py:h300'])
    assert command == 'kd-jax run --config=configs/mnist.py:h300'


def test_the_commit_is_taken_from_the_variable_where_there_is_no_git(
  monkeypatch,
):
  monkeypatch.setenv('KD_JAX_CODE', '0123abc')
  assert environment.describe()['code'] == '0123abc'
