"""Records: atomic files, JSON lines, locks."""

import json
import logging
import pathlib
import subprocess
import sys

import pytest

from kd_jax import errors, records


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'run.json'
  records.write_json(path, {'a': 1})
  with pytest.raises(TypeError):
    records.write_json(path, {'a': object()})
  assert records.read_json(path) == {'a': 1}
  assert [p.name for p in tmp_path.iterdir()] == ['run.json']


@pytest.mark.parametrize(
  'folder, level, shown',
  [
    (pathlib.Path(records.__file__).parent / 'data', logging.INFO, True),
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
  assert records._is_shown(line) == shown
  assert (line.exc_info is None) == ('orbax' in str(folder))


def test_no_file_or_a_damaged_one_reads_as_none(tmp_path):
  assert records.read_json(tmp_path / 'none.json') is None
  (tmp_path / 'cut.json').write_text('{"a": ')
  assert records.read_json(tmp_path / 'cut.json') is None


def test_digest_ignores_key_order_alone():
  assert records.digest({'a': 1, 'b': [2]}) == records.digest(
    {'b': [2], 'a': 1}
  )
  assert records.digest({'a': 1}) != records.digest({'a': 2})


def test_differences_name_the_fields():
  a = {'x': {'y': 1, 'z': 2}, 'w': [1]}
  b = {'x': {'y': 1, 'z': 3}, 'w': [1], 'v': 0}
  assert list(records.differences(a, b, 'config')) == [
    'config.v: None, was 0',
    'config.x.z: 2, was 3',
  ]


def test_metrics_log_drops_and_survives_a_line_cut_short(tmp_path):
  log = records.MetricsLog(tmp_path / 'metrics.jsonl')
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
from kd_jax import records
with records.locked(sys.argv[1]):
  print('held', flush=True)
  time.sleep(60)
"""


def test_the_folder_one_is_in_is_locked_by_its_name(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with records.locked('.'):
    with pytest.raises(records.Busy), records.locked(tmp_path):
      pass


def test_a_folder_is_shared_by_those_who_share_it(tmp_path):
  with records.locked(tmp_path, shared=True):
    with records.locked(tmp_path, shared=True):
      with pytest.raises(records.Busy), records.locked(tmp_path):
        pass
  with records.locked(tmp_path):
    with pytest.raises(records.Busy), records.locked(tmp_path, shared=True):
      pass


def test_a_folder_is_held_against_others_until_its_holder_dies(tmp_path):
  folder = tmp_path / 'run'
  holder = subprocess.Popen(
    [sys.executable, '-c', _HOLD, folder],
    stdout=subprocess.PIPE,
    cwd=pathlib.Path(__file__).parents[1],
  )
  try:
    assert holder.stdout.readline() == b'held\n'
    with pytest.raises(errors.UserError, match='another process.*--workdir'):
      with records.locked(folder):
        pass
  finally:
    holder.kill()
    holder.communicate()
  with records.locked(folder):
    folder.mkdir()  # now ours


def test_a_cpu_beside_an_accelerator_is_said_loudly(
  monkeypatch, caplog, tmp_path
):
  with caplog.at_level('INFO'):
    records.log_device()
  assert '(cpu)' in caplog.text and 'THIS RUNS' not in caplog.text
  (tmp_path / 'accel0').touch()
  monkeypatch.setattr(records, '_ACCELERATORS', (str(tmp_path / 'accel0'),))
  records.log_device()
  assert 'THIS RUNS ON THE CPU' in caplog.text and 'accel0' in caplog.text


def test_environment_names_versions_and_device():
  environment = records.environment()
  assert environment['backend'] == 'cpu'
  assert set(environment['versions']) >= {'jax', 'flax', 'optax'}
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
  monkeypatch.setattr(records, 'cpu_info', lambda name: found.get(name, ''))
  assert records.environment()['instructions'] == said


def test_the_code_version_marks_changes_but_those_of_results(
  tmp_path, monkeypatch
):
  def git(*args):
    identity = ('-c', 'user.name=a', '-c', 'user.email=a@b')
    subprocess.run(
      ['git', *identity, *args], cwd=tmp_path, check=True, capture_output=True
    )

  for name in ('kd_jax/records.py', 'results/run.json'):
    records.write_text(tmp_path / name, 'first')
  git('init')
  git('add', '.')
  git('commit', '-m', 'first')
  monkeypatch.setattr(records, '__file__', str(tmp_path / 'kd_jax/records.py'))
  clean = records._code_version()
  assert len(clean) == 12
  records.write_text(tmp_path / 'results/run.json', 'second')
  assert records._code_version() == clean
  records.write_text(tmp_path / 'kd_jax/records.py', 'second')
  assert records._code_version() == f'{clean}-dirty'
