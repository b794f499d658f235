"""The project's requirements and their lock, and the absence of pickles."""

import ast
import pathlib
import re
import subprocess

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
# Modules that execute code from data files.
_UNSAFE = {'pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib', 'shelve'}
_UNSAFE |= {'marshal'}


def _requirements():
  lines = (ROOT / 'requirements.txt').read_text().splitlines()
  return [Requirement(line.partition('#')[0]) for line in lines]


def _locked():
  """Yields each pinned requirement and the number of its hashes."""
  text = (ROOT / 'requirements.lock').read_text()
  for block in re.split(r'\n(?=\S)', text):
    line = block.partition('\\')[0].strip()
    if line and not line.startswith('#'):
      yield Requirement(line), block.count('--hash=sha256:')


def test_requirements_have_lower_bounds_and_no_upper_ones():
  for requirement in _requirements():
    operators = {bound.operator for bound in requirement.specifier}
    # Any version of importlib_resources works.
    if requirement.name != 'importlib_resources':
      assert operators == {'>='}, requirement


@pytest.mark.parametrize('python', ['3.11.9', '3.12.3', '3.13.0'])
def test_the_lock_has_one_version_of_each_requirement(python):
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
        (pin.operator, pin.version) for pin in requirement.specifier
      ]
  for requirement in _requirements():
    version = locked[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), requirement


def test_everything_in_the_lock_has_hashes():
  locked = list(_locked())
  assert len(locked) > 50
  assert all(hashes > 0 for _, hashes in locked)


def _tracked():
  """Returns the files that git tracks."""
  names = subprocess.run(
    ['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True
  ).stdout.splitlines()
  return [ROOT / name for name in names]


def test_no_file_is_or_reads_a_pickle():
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
      # A test may write a pickle, to check that it is refused.
      if (
        isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'load'
      ):
        arguments = {keyword.arg: keyword.value for keyword in node.keywords}
        unsafe = arguments.get('allow_pickle', ast.Constant(False))
        assert unsafe.value is False, path
