"""The sentences that describe the tests of faults."""

import subprocess
import sys

from tests import run_faults


def test_a_fault_is_described_by_its_docstring_or_else_by_its_name(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(run_faults, 'ROOT', tmp_path)
  (tmp_path / 'tests').mkdir()
  (tmp_path / 'tests' / 'test_marked_file.py').write_text(
    'pytestmark = [pytest.mark.faults, pytest.mark.slow]\n'
    'def test_a_full_disk_is_named():\n'
    '  """A full disk: one line.\\n\\nMore."""\n'
    'def test_a_damaged_file_is_named(): pass\n'
    'def helper(): pass\n'
  )
  (tmp_path / 'tests' / 'test_marked_test.py').write_text(
    '@pytest.mark.faults\n'
    'def test_two_processes_end(): pass\n'
    'def test_something_else(): pass\n'
  )
  assert run_faults.describe_faults() == {
    'tests.test_marked_file.test_a_full_disk_is_named': (
      'A full disk: one line'
    ),
    'tests.test_marked_file.test_a_damaged_file_is_named': (
      'A damaged file is named'
    ),
    'tests.test_marked_test.test_two_processes_end': 'Two processes end',
  }


def test_the_tests_of_the_project_are_found():
  sentences = run_faults.describe_faults()
  assert sentences['tests.runtime.test_mesh.test_processes_end_at_sigterm'] == (
    'SIGTERM to two processes: both end'
  )


def test_every_fault_is_described_with_its_outcome():
  """The published table reads as 'FAULT: OUTCOME'."""
  for name, sentence in run_faults.describe_faults().items():
    assert ': ' in sentence, f'{name}: expected a docstring "FAULT: OUTCOME"'


def test_results_are_read_as_pytest_writes_them(tmp_path):
  (tmp_path / 'test_faults.py').write_text(
    'import pytest\n'
    '@pytest.mark.parametrize("n", range(3))\n'
    'def test_a_disk(n): assert n\n'
    'def test_a_file(): pass\n'
  )
  (tmp_path / 'test_torch.py').write_text(
    'import pytest\npytest.importorskip("no_such_module")\n'
  )
  pytest_of_files = ('-m', 'pytest', '-q', '-p', 'no:cacheprovider')
  command = [sys.executable, *pytest_of_files, '--junitxml=suite.xml']
  subprocess.run(command, cwd=tmp_path, capture_output=True)
  results = run_faults.read_results(tmp_path / 'suite.xml')
  counts = {k: (v['passed'], v['cases']) for k, v in results.items()}
  assert counts == {
    'test_faults.test_a_disk': (2, 3),
    'test_faults.test_a_file': (1, 1),
  }


def test_a_file_that_cannot_be_read_counts_as_failed(tmp_path):
  (tmp_path / 'suite.xml').write_text(
    '<testsuites><testsuite><testcase classname="" name="tests.test_x"'
    ' time="0.0"><error/></testcase></testsuite></testsuites>'
  )
  (result,) = run_faults.read_results(tmp_path / 'suite.xml').values()
  assert (result['passed'], result['cases']) == (0, 1)


def test_a_second_command_for_the_same_code_goes_on(tmp_path, monkeypatch):
  monkeypatch.setattr(run_faults, 'ROOT', tmp_path)
  seconds = iter(range(9))
  monkeypatch.setattr(
    run_faults, 'run_suite', lambda _: {'a': {'seconds': next(seconds)}}
  )
  run = lambda code: run_faults.run_or_read(code, 0)['a']['seconds']
  assert [run('1a'), run('1a'), run('2b'), run('1a')] == [0, 0, 1, 0]
  assert [run('2b-dirty'), run('2b-dirty')] == [2, 3]
