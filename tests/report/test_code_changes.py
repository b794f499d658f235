"""Records that were made by code that has changed since.

Also tests `kd_jax/report/training_costs.py`.
"""

import pathlib
import subprocess

import pytest

from kd_jax.report import code_changes, publish
from kd_jax.report.code_changes import Change, Part
from kd_jax.runtime import files

ROOT = pathlib.Path(__file__).parents[2]
CODE = '''"""A module."""


def f(x):
  """Returns x."""
  return x  # as it is
'''


def _git(folder, *args):
  identity = ('-c', 'user.name=a', '-c', 'user.email=a@b')
  return subprocess.run(
    ['git', *identity, *args],
    cwd=folder,
    check=True,
    capture_output=True,
    text=True,
  ).stdout.strip()


@pytest.fixture(name='project')
def _project(tmp_path):
  """A repository of two files, and its first commit."""
  folder = tmp_path / 'project'
  files.write_text(folder / 'kd_jax/losses.py', CODE)
  files.write_text(folder / 'kd_jax/models/mlp.py', CODE.replace('x', 'y'))
  _git(tmp_path, 'init', 'project')
  _git(folder, 'add', '.')
  _git(folder, 'commit', '-m', 'first')
  return folder, _git(folder, 'rev-parse', '--short=12', 'HEAD')


def _change(folder, code, kind='trainings'):
  return code_changes.History(folder).change(Part(kind, code, 1.0))


def test_code_without_changes_is_not_marked(project):
  folder, code = project
  assert _change(folder, code) is None
  assert _change(folder, f'{code}-dirty') is None
  files.write_text(folder / 'README.md', 'other files do not matter')
  _git(folder, 'add', '.')
  assert _change(folder, code) is None


def test_comments_docstrings_and_names_of_files_are_no_change(project):
  folder, code = project
  path = folder / 'kd_jax/losses.py'
  path.write_text(CODE.replace('as it is', 'new').replace('Returns', 'Gives'))
  _git(folder, 'mv', 'kd_jax/models/mlp.py', 'kd_jax/models/dense.py')
  assert _change(folder, code) is None


def test_changed_and_new_code_is_counted(project):
  folder, code = project
  path = folder / 'kd_jax/losses.py'
  path.write_text(CODE.replace('return x', 'return 2 * x'))
  change = _change(folder, code)
  assert (change.changed, change.files) == (1, 2)
  assert _change(folder, code, 'timings') is None  # These need no losses.
  files.write_text(folder / 'kd_jax/models/new.py', 'X = 1')
  _git(folder, 'add', '.')
  change = _change(folder, code)
  assert (change.changed, change.files) == (2, 3)
  assert _change(folder, code, 'timings').changed == 1


def test_an_unknown_commit_is_said(project):
  folder, _ = project
  assert _change(folder, '0123456789ab').changed is None
  assert _change(folder, '').changed is None


def test_a_shallow_clone_and_a_plain_folder_have_no_history(project, tmp_path):
  folder, _ = project
  files.write_text(folder / 'a', 'a')
  _git(folder, 'add', '.')
  _git(folder, 'commit', '-m', 'second')
  _git(tmp_path, 'clone', '--depth=1', f'file://{folder}', 'shallow')
  assert code_changes.History(folder).is_complete()
  assert not code_changes.History(tmp_path / 'shallow').is_complete()
  assert not code_changes.History(tmp_path).is_complete()


def test_the_paths_are_those_of_today():
  for paths in code_changes.PATHS.values():
    assert all((ROOT / path).exists() for path in paths)


def test_every_record_has_parts():
  for name, record in publish.load_results(ROOT).items():
    for part in code_changes.parts(record):
      assert part.kind in code_changes.PATHS, name


def test_a_run_has_trainings_and_timings(record):
  record['config']['teacher'] = {}
  record['benchmark']['environment'] = record['environment'] | {'code': 'b'}
  record['environment'] = record['environment'] | {'code': 'a'}
  trainings, timings = code_changes.parts(record)
  assert (trainings.kind, trainings.code) == ('trainings', 'a')
  assert trainings.minutes == pytest.approx(9 / 60)  # 2, 3, 2 and 2 s.
  assert timings == Part('timings', 'b', None)


CHANGES = {
  'a-run': [Change(Part('trainings', 'abc', 12.0), 3, 90)],
  'a-run-2': [Change(Part('theory', '', 0.5), None, 12)],
}


def test_a_page_ends_with_the_changes_of_its_records():
  text = "# Page\n\n<!-- number: mean('a-run/h50') | .1f -->9<!-- end -->\n"
  marked = code_changes.mark(text, CHANGES)
  assert marked.startswith(text.rstrip())
  assert '\n- `a-run`: trainings of abc\n' in marked
  assert 'a-run-2' not in marked
  assert code_changes.mark(marked, CHANGES) == marked
  assert code_changes.mark(marked, {}) == text


def test_what_to_run_again_has_its_cost_and_command():
  results = {name: {'command': f'launch {name}'} for name in (*CHANGES, 'new')}
  text = code_changes.to_run_again(results, CHANGES)
  assert text.startswith('The code of 2 of 3 records has changed since')
  # The least costly record comes first.
  assert text.index('0.5 min  a-run-2:') < text.index('12.0 min  a-run:')
  assert 'launch a-run-2\n' in text and 'In all: 12 minutes' in text
  assert "of abc, from which 3 of today's 90 files differ\n" in text
  assert 'unknown code, which the git history does not hold' in text
  assert code_changes.to_run_again(results, {}).startswith('No record')
