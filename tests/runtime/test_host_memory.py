"""The memory of the host, and requests beyond it."""

import pytest

from kd_jax.runtime import errors, host_memory

pytestmark = pytest.mark.faults


@pytest.fixture(name='machine')
def _machine(tmp_path, monkeypatch):
  """A machine with 8 GiB of memory, in a container without a limit."""
  (tmp_path / 'meminfo').write_text(
    'MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n'
  )
  monkeypatch.setattr(host_memory, '_MACHINE', tmp_path / 'meminfo')
  monkeypatch.setattr(host_memory, '_CONTAINER', tmp_path)
  return tmp_path


def test_the_machine_says_how_much_is_free(machine):
  """The memory of the machine: the free part is known."""
  assert host_memory.available_bytes() == 8 * 2**30


def test_a_container_may_have_less(machine):
  """A container with less memory than the machine: its limit counts."""
  (machine / 'memory.stat').write_text(f'anon {2**30}\nfile {2**33}\n')
  (machine / 'memory.max').write_text('max\n')
  assert host_memory.available_bytes() == 8 * 2**30
  (machine / 'memory.max').write_text(f'{3 * 2**30}\n')
  assert host_memory.available_bytes() == 2 * 2**30


def test_a_system_that_says_nothing_is_not_checked(machine):
  """A system that does not tell its free memory: nothing is refused."""
  (machine / 'meminfo').unlink()
  assert host_memory.available_bytes() is None
  host_memory.check_available(2**60, 'the images', 'take fewer')


def test_more_than_there_is_is_refused_before_it_is_taken(machine):
  """More memory than there is: it is refused before it is taken."""
  host_memory.check_available(8 * 2**30, 'the images', 'take fewer')
  expected = r'the images take 9.0 GiB of memory, and 8.0 GiB are free: take'
  with pytest.raises(errors.UserError, match=expected):
    host_memory.check_available(9 * 2**30, 'the images', 'take fewer')
