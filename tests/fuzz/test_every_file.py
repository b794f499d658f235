"""No content of a file that is read ends in a traceback, a hang or a lie.

A quick run tries a few damages of each kind of file. `make faults` tries others
for ten minutes in all.
"""

import gc
import itertools
import pathlib
import shutil
import time

import hypothesis
import pytest

from tests import helpers
from tests.fuzz import damage, targets

pytestmark = [
  pytest.mark.faults,
  # Orbax leaves coroutines behind when it cannot read a checkpoint.
  pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning'),
]

# Seconds for the long search, over all targets, and for one damage.
_SEARCH_S = 600
_LIMIT_S = 30
_SETTINGS = hypothesis.settings(
  deadline=None,
  # A damage is small as it is; to look for a smaller one takes minutes.
  phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
  suppress_health_check=list(hypothesis.HealthCheck),
  database=None,
)


class _Files:
  """The sound files of a target, and what is read from them."""

  def __init__(self, name: str, folder: pathlib.Path):
    self.target = targets.TARGETS[name]
    self._folder = folder
    self._copies = (folder / f'copy{i}' for i in itertools.count())
    self.sound = folder / 'sound'
    self.sound.mkdir()
    self.target.write(self.sound)
    # A reader may write: caches, or what it has computed anew.
    self.expected = self.target.read(self.copy())

  def copy(self) -> pathlib.Path:
    """Returns a copy of the sound files."""
    folder = next(self._copies)
    shutil.copytree(self.sound, folder)
    return folder

  def damages(self):
    """Returns a strategy of damages to the sound files."""
    changes = damage.damages(self.sound, self.target.pattern)
    if self.target.is_own:
      return changes.filter(lambda change: not change.is_sealed)
    return changes

  def check(self, change: damage.Damage) -> None:
    """Checks that damaged files are refused, or read as what they are."""
    folder = self.copy()
    change.apply(folder)
    try:
      with helpers.time_limit(_LIMIT_S):
        result = self.target.read(folder)
    except targets.REFUSALS as error:
      assert str(error).strip()
    else:
      self.target.is_sense(result)
      if self.target.finds_damage and not change.is_sealed:
        assert result == self.expected
    finally:
      shutil.rmtree(folder)


@pytest.fixture(name='files', scope='module')
def _files(request, tmp_path_factory):
  return _Files(request.param, tmp_path_factory.mktemp('fuzz'))


@pytest.fixture(autouse=True)
def _collect_garbage():
  """Ends the coroutines that Orbax leaves behind, in the test that made them.

  Any later test could be blamed for them.
  """
  yield
  gc.collect()


# Plots take a second each.
_QUICK = [name for name in targets.TARGETS if name != 'report with plots']


@pytest.mark.parametrize('files', _QUICK, indirect=True)
def test_a_few_damages_are_refused_or_harmless(files):
  """A damaged file of any kind, some damages: it is refused or harmless."""

  @hypothesis.settings(_SETTINGS, max_examples=4)
  @hypothesis.given(files.damages())
  def search(change):
    files.check(change)

  search()


@pytest.mark.slow
@pytest.mark.parametrize('files', targets.TARGETS, indirect=True)
def test_any_damage_is_refused_or_harmless(files):
  """A damaged file of any kind, by ten minutes of search: the same."""
  end = time.monotonic() + _SEARCH_S / len(targets.TARGETS)
  failed = []

  @hypothesis.settings(_SETTINGS, max_examples=100, derandomize=False)
  @hypothesis.given(files.damages())
  def search(change):
    # After the time limit, skip the remaining examples.
    if time.monotonic() < end or change in failed:
      try:
        files.check(change)
      except BaseException:
        failed.append(change)
        raise

  is_new = hypothesis.settings.get_current_profile_name() == 'explore'
  for seed in itertools.count(time.time_ns() if is_new else 0):
    if time.monotonic() >= end:
      break
    hypothesis.seed(seed)(search)()
