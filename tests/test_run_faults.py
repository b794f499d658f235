"""The sentences that describe the tests of faults."""

from tests import run_faults


def test_every_test_of_a_fault_has_a_sentence():
  """A test without one raises a ValueError, which names the test."""
  sentences = run_faults.describe_faults()
  # One test that is marked by itself, and one whose file is marked.
  assert sentences['tests.runtime.test_mesh.test_processes_end_at_sigterm'] == (
    'SIGTERM to two processes: both end'
  )
  name = 'tests.test_faults.test_a_truncated_checkpoint_is_passed_over'
  assert sentences[name].startswith('A truncated checkpoint: ')
