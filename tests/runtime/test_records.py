"""Records: atomic files, JSON lines, locks."""

import json
import logging
import pathlib
import subprocess
import sys

import pytest

from kd_jax.runtime import environment, errors, files, logs, run_records


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'run.json'
  files.write_json(path, {'a': 1})
  with pytest.raises(TypeError):
    files.write_json(path, {'a': object()})
  assert files.read_json(path) == {'a': 1}
  assert [p.name for p in tmp_path.iterdir()] == ['run.json']


@pytest.mark.parametrize(
  'folder, level, shown',
  [
    (pathlib.Path(logs.__file__).parents[1] / 'data', logging.INFO, True),
    ('/home/kd_jax/.venv/lib/orbax', logging.INFO, False),
    ('/home/kd_jax/.venv/lib/orbax', logging.ERROR, True),
  ],
)
def test_of_libraries_warnings_are_shown_without_tracebacks(
  folder, level, shown
):
  try:
    raise OSError('full')
  except OSError:
    error = sys.exc_info()
  line = logging.LogRecord('absl', level, f'{folder}/x.py', 1, 'x', (), error)
  assert logs._is_shown(line) == shown
  assert (line.exc_info is None) == ('orbax' in str(folder))


def test_no_file_or_a_damaged_one_reads_as_none(tmp_path):
  assert files.read_json(tmp_path / 'none.json') is None
  (tmp_path / 'cut.json').write_text('{"a": ')
  assert files.read_json(tmp_path / 'cut.json') is None


def test_digest_ignores_key_order_alone():
  assert files.digest({'a': 1, 'b': [2]}) == files.digest({'b': [2], 'a': 1})
  assert files.digest({'a': 1}) != files.digest({'a': 2})


def test_differences_name_the_fields():
  a = {'x': {'y': 1, 'z': 2}, 'w': [1]}
  b = {'x': {'y': 1, 'z': 3}, 'w': [1], 'v': 0}
  assert list(files.differences(a, b, 'config')) == [
    'config.v: None, was 0',
    'config.x.z: 2, was 3',
  ]


def test_metrics_log_drops_and_survives_a_line_cut_short(tmp_path):
  log = run_records.MetricsLog(tmp_path / 'metrics.jsonl')
  assert log.read() == []
  for epoch in range(3):
    log.append({'row': 'a', 'epoch': epoch})
  log.append({'row': 'b', 'epoch': 2})
  with open(log.path, 'a') as file:
    file.write('{"row": "a", "epo')  # killed here
  log.drop(lambda r: r['row'] == 'a' and r['epoch'] >= 1)
  log.append({'row': 'a', 'epoch': 1})
  expected = [('a', 0), ('b', 2), ('a', 1)]
  assert [(r['row'], r['epoch']) for r in log.read()] == expected
  lines = log.path.read_text().splitlines()
  assert len([json.loads(line) for line in lines]) == 3


_HOLD = """
import sys, time
from kd_jax.runtime import files
with files.locked(sys.argv[1]):
  print('held', flush=True)
  time.sleep(60)
"""


def test_the_folder_one_is_in_is_locked_by_its_name(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with files.locked('.'):
    with pytest.raises(files.Busy), files.locked(tmp_path):
      pass


def test_a_folder_is_shared_by_those_who_share_it(tmp_path):
  with files.locked(tmp_path, shared=True):
    with files.locked(tmp_path, shared=True):
      with pytest.raises(files.Busy), files.locked(tmp_path):
        pass
  with files.locked(tmp_path):
    with pytest.raises(files.Busy), files.locked(tmp_path, shared=True):
      pass


def test_a_folder_is_held_against_others_until_its_holder_dies(tmp_path):
  folder = tmp_path / 'run'
  holder = subprocess.Popen(
    [sys.executable, '-c', _HOLD, folder],
    stdout=subprocess.PIPE,
    cwd=pathlib.Path(__file__).parents[2],
  )
  try:
    assert holder.stdout.readline() == b'held\n'
    with pytest.raises(errors.UserError, match='another process.*--workdir'):
      with files.locked(folder):
        pass
  finally:
    holder.kill()
    holder.communicate()
  with files.locked(folder):
    folder.mkdir()  # now ours


def test_a_cpu_beside_an_accelerator_is_said_loudly(
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
  said = environment.describe()
  assert said['backend'] == 'cpu'
  assert set(said['versions']) >= {'jax', 'flax', 'optax'}
  json.dumps(environment)


@pytest.mark.parametrize(
  'field, flags, said',
  [
    ('flags', 'fpu avx avx2', 'AVX2'),
    ('flags', 'avx2 avx512f avx512_bf16', 'AVX-512, bfloat16'),
    ('Features', 'fp asimd bf16', 'NEON, bfloat16'),
    ('flags', 'fpu', ''),
    ('none', '', ''),
  ],
)
def test_environment_names_what_a_cpu_computes_with(
  monkeypatch, field, flags, said
):
  found = {field: flags}
  monkeypatch.setattr(environment, 'cpu_info', lambda name: found.get(name, ''))
  assert environment.describe()['instructions'] == said


def test_the_code_version_marks_changes_but_those_of_results(
  tmp_path, monkeypatch
):
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
  monkeypatch.setattr(
    environment, '__file__', str(tmp_path / 'kd_jax/runtime/environment.py')
  )
  clean = environment._code_version()
  assert len(clean) == 12
  files.write_text(tmp_path / 'results/run.json', 'second')
  assert environment._code_version() == clean
  files.write_text(tmp_path / 'kd_jax/runtime/environment.py', 'second')
  assert environment._code_version() == f'{clean}-dirty'
