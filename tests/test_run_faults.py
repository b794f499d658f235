"""The sentences that describe the tests of faults."""

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


def test_a_second_command_for_the_same_code_goes_on(tmp_path, monkeypatch):
  monkeypatch.setattr(run_faults, 'ROOT', tmp_path)
  seconds = iter(range(9))
  monkeypatch.setattr(
    run_faults, 'run_suite', lambda _: {'a': {'seconds': next(seconds)}}
  )
  run = lambda code: run_faults.run_or_read(code, 0)['a']['seconds']
  assert [run('1a'), run('1a'), run('2b'), run('1a')] == [0, 0, 1, 0]
  assert [run('2b-dirty'), run('2b-dirty')] == [2, 3]
