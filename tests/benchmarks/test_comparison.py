"""The comparison of systems, some of which fail."""

import functools
import sys

import pytest

from tests import helpers

_SCRIPT = str(helpers.ROOT / 'tests' / 'benchmarks' / 'fake_systems.py')


@pytest.fixture(name='compare')
def _compare(monkeypatch):
  """Returns a function that compares systems of fake_systems.py."""
  monkeypatch.syspath_prepend(str(helpers.ROOT / 'benchmarks'))
  import comparison
  import harness

  monkeypatch.setattr(comparison, '_PAUSE_S', 0.0)

  def compare(*systems, rounds=3):
    return comparison.compare(
      {
        system: functools.partial(harness.Worker, _SCRIPT, system)
        for system in systems
      },
      ('case',),
      rounds=rounds,
      limit_systems=(),
      rtol=1e-3,
    )

  yield compare
  for name in ('comparison', 'harness'):
    sys.modules.pop(name, None)


def test_systems_that_fail_have_a_reason_and_the_others_go_on(compare):
  results = compare(
    'ours', 'imports', 'raises', 'killed', 'wrong', 'unchecked', 'sound'
  )
  assert results['failures'] == {
    'imports': (
      "cannot start: ModuleNotFoundError: No module named 'no_such_toolkit'"
    ),
    'raises': 'ended in round 2: ValueError: lib.so is out of memory',
    'killed': 'ended in round 3: killed by signal 9',
    'wrong': (
      'its results differ from those of other systems: [1.0, 3.0], not '
      '[1.0, 2.0]'
    ),
  }
  measured = results['cases']['case']
  rounds = {name: m['examples_per_s']['n'] for name, m in measured.items()}
  assert rounds == {
    'ours': 3, 'raises': 1, 'killed': 2, 'unchecked': 3, 'sound': 3,
  }  # fmt: skip
  # Ratios are those of the rounds that both systems have finished.
  for name in ('raises', 'killed', 'sound'):
    assert measured[name]['ours_over_it']['median'] == 2.0
    assert measured[name]['ours_over_it']['n'] == rounds[name]


def test_what_was_measured_is_kept_if_ours_dies(compare):
  results = compare('ours-killed', 'sound')
  assert results['failures'] == {
    'ours-killed': 'ended in round 3: killed by signal 9'
  }
  measured = results['cases']['case']
  assert measured['ours-killed']['examples_per_s']['n'] == 2
  assert measured['sound']['ours_over_it']['n'] == 2


def test_without_ours_there_is_nothing_to_compare_with(compare):
  with pytest.raises(SystemExit, match='imports, .*No module named'):
    compare('imports', 'sound')
