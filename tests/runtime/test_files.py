"""Atomic writes, JSON files, digests and locks."""

import errno
import hashlib
import io
import os
import pwd

import numpy as np
import pytest

from kd_jax.data.builtin import array_cache
from kd_jax.runtime import errors, files, locks
from tests import helpers


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'run.json'
  files.write_json(path, {'a': 1})
  with pytest.raises(TypeError):
    files.write_json(path, {'a': object()})
  assert files.read_json(path) == {'a': 1}
  assert [p.name for p in tmp_path.iterdir()] == ['run.json']


@pytest.mark.faults
@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full')
def test_a_file_that_does_not_fit_on_the_disk_is_named(tmp_path, monkeypatch):
  """A disk that fills while a file is written: the line names the file."""
  full = lambda path, mode: open('/dev/full', mode)
  monkeypatch.setattr(files, 'open', full, raising=False)
  with pytest.raises(OSError) as raised:
    files.write_bytes(tmp_path / 'a.json', b'content')
  assert raised.value.errno == errno.ENOSPC
  assert raised.value.filename == str(tmp_path / 'a.json')
  assert not list(tmp_path.iterdir())
  monkeypatch.setattr(array_cache, 'open', full, raising=False)
  with pytest.raises(OSError) as raised:
    array_cache.write(tmp_path, {'images': np.zeros(10_000)})
  assert raised.value.filename == str(tmp_path / 'images.npy')


def test_no_file_or_a_damaged_one_reads_as_none(tmp_path):
  assert files.read_json(tmp_path / 'none.json') is None
  (tmp_path / 'cut.json').write_text('{"a": ')
  assert files.read_json(tmp_path / 'cut.json') is None


def test_digest_ignores_key_order_alone():
  assert files.json_digest({'a': 1, 'b': [2]}) == files.json_digest(
    {'b': [2], 'a': 1}
  )
  assert files.json_digest({'a': 1}) != files.json_digest({'a': 2})


def test_differences_name_the_fields():
  a = {'x': {'y': 1, 'z': 2}, 'w': [1]}
  b = {'x': {'y': 1, 'z': 3}, 'w': [1], 'v': 0}
  assert list(files.differences(a, b, 'config')) == [
    'config.v: None, was 0',
    'config.x.z: 2, was 3',
  ]


_HOLD = """
import sys, time
from kd_jax.runtime import files
with files.locked(sys.argv[1]):
  print('held', flush=True)
  time.sleep(60)
"""


def test_the_current_folder_is_locked_by_its_name(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with files.locked('.'):
    with pytest.raises(locks.Busy), files.locked(tmp_path):
      pass


@pytest.mark.faults
def test_a_folder_with_two_names_has_one_lock(tmp_path):
  """A run folder with two names, one of them a link: it has one lock."""
  (tmp_path / 'disk' / 'run').mkdir(parents=True)
  (tmp_path / 'link').symlink_to(tmp_path / 'disk')
  (tmp_path / 'run').symlink_to(tmp_path / 'disk' / 'run')
  for name in ('link/run', 'run'):
    with files.locked(tmp_path / 'disk' / 'run'):
      with pytest.raises(locks.Busy), files.locked(tmp_path / name):
        pass


def test_a_folder_is_shared_by_those_who_share_it(tmp_path):
  with files.locked(tmp_path, shared=True):
    with files.locked(tmp_path, shared=True):
      with pytest.raises(locks.Busy), files.locked(tmp_path):
        pass
  with files.locked(tmp_path):
    with pytest.raises(locks.Busy), files.locked(tmp_path, shared=True):
      pass


def test_a_folder_is_held_against_others_until_its_holder_dies(tmp_path):
  folder = tmp_path / 'run'
  holder = helpers.start_python('-c', _HOLD, folder)
  try:
    assert holder.stdout.readline() == 'held\n'
    with pytest.raises(errors.UserError, match='another process.*--workdir'):
      with files.locked(folder):
        pass
  finally:
    holder.kill()
    holder.communicate()
  with files.locked(folder):
    folder.mkdir()


def test_a_wait_says_what_it_waits_for(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(locks, '_FIRST_LINE_S', 0.0)
  answers = [BlockingIOError, BlockingIOError, None]

  def flock(descriptor, mode):
    answer = answers.pop(0)
    if answer is not None:
      raise answer

  monkeypatch.setattr(locks.fcntl, 'flock', flock)
  with caplog.at_level('INFO'), files.locked(tmp_path / 'run', wait=True):
    assert not answers
  expected = f'waiting for another process, which is at work in {tmp_path}/run'
  assert caplog.text.count(expected) == 1


@pytest.mark.faults
def test_a_file_system_without_locks_is_named_with_the_mend(
  tmp_path, monkeypatch
):
  """A file system without locks: one line has the mend."""

  def flock(descriptor, mode):
    raise OSError(errno.ENOSYS, 'Function not implemented')

  monkeypatch.setattr(locks.fcntl, 'flock', flock)
  for wait in (False, True):
    with pytest.raises(errors.UserError, match='no locks.*--workdir'):
      with files.locked(tmp_path / 'run', wait=wait):
        pass


def test_the_root_folder_is_no_folder_of_a_run():
  with pytest.raises(errors.UserError, match='^/ cannot be the folder of'):
    with files.locked('/'):
      pass


def test_without_a_home_folder_the_line_names_the_variables(monkeypatch):
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  monkeypatch.delenv('HOME', raising=False)

  def getpwuid(uid):
    raise KeyError(f'getpwuid(): uid not found: {uid}')

  monkeypatch.setattr(pwd, 'getpwuid', getpwuid)
  with pytest.raises(errors.UserError, match='set HOME, or XDG_CACHE_HOME'):
    files.cache_dir()


@pytest.mark.parametrize('name', ['', '.', '..', 'a/b', '/a', 'a\\b', 'a\nb'])
def test_names_that_lead_elsewhere_are_refused_or_changed(name):
  with pytest.raises(errors.UserError, match='is no name of a file'):
    files.check_name(name, 'the row')
  files.check_name(files.as_name(name), 'the row')


@pytest.mark.parametrize('name', ['h300', 'a b', 'é', '.hidden', 'x-1.0+y'])
def test_other_names_stay_as_they_are(name):
  files.check_name(name, 'the row')
  assert files.as_name(name) == name


def test_the_digest_of_a_file_is_that_of_its_content(tmp_path):
  array = np.arange(6, dtype=np.float16).reshape(2, 3)
  content = files.npy_content(array)
  np.testing.assert_array_equal(np.load(io.BytesIO(content)), array)
  path = tmp_path / 'array.npy'
  assert files.file_digest(path) == ''
  path.write_bytes(content)
  expected = hashlib.sha256(content).hexdigest()
  assert files.file_digest(path) == expected
