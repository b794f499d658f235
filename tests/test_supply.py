"""What the project is made from: what it needs, locked; and no pickle."""

import ast
import pathlib
import re
import subprocess

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
# Modules that run code which lies in data.
_UNSAFE = {'pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib', 'shelve'}
_UNSAFE |= {'marshal'}


def _requirements():
  lines = (ROOT / 'requirements.txt').read_text().splitlines()
  return [Requirement(line.partition('#')[0]) for line in lines]


def _locked():
  """Pairs of a pinned requirement and how many hashes it has."""
  text = (ROOT / 'requirements.lock').read_text()
  for block in re.split(r'\n(?=\S)', text):
    line = block.partition('\\')[0].strip()
    if line and not line.startswith('#'):
      yield Requirement(line), block.count('--hash=sha256:')


def test_requirements_have_lower_bounds_and_no_upper_ones():
  for requirement in _requirements():
    operators = {own.operator for own in requirement.specifier}
    if requirement.name != 'importlib_resources':  # Which any will do for.
      assert operators == {'>='}, requirement


@pytest.mark.parametrize('python', ['3.11.9', '3.12.3', '3.13.0'])
def test_the_lock_has_one_version_of_all_that_is_required(python):
  environment = {
    'python_version': python.rpartition('.')[0],
    'python_full_version': python,
    'sys_platform': 'linux',
  }
  locked = {}
  for requirement, _ in _locked():
    if requirement.marker is None or requirement.marker.evaluate(environment):
      name = canonicalize_name(requirement.name)
      assert name not in locked
      ((_, locked[name]),) = [
        (own.operator, own.version) for own in requirement.specifier
      ]
  for requirement in _requirements():
    version = locked[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), requirement


def test_everything_in_the_lock_has_hashes():
  locked = list(_locked())
  assert len(locked) > 50
  assert all(hashes > 0 for _, hashes in locked)


def _tracked():
  files = subprocess.run(
    ['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True
  ).stdout.splitlines()
  return [ROOT / name for name in files]


def test_nothing_is_or_reads_a_pickle():
  if not (ROOT / '.git').exists():
    pytest.skip('no git checkout')
  for path in _tracked():
    assert path.suffix not in ('.pkl', '.pickle', '.joblib', '.pt', '.pth')
    if path.suffix != '.py' or not path.exists():
      continue
    for node in ast.walk(ast.parse(path.read_text())):
      names = []
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom):
        names = [node.module or '']
      for name in names:
        assert name.partition('.')[0] not in _UNSAFE, path
      # A test may write one, to see it refused.
      if (
        isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'load'
      ):
        given = {own.arg: own.value for own in node.keywords}
        unsafe = given.get('allow_pickle', ast.Constant(False))
        assert unsafe.value is False, path
