"""The cache of compiled programs between processes.

Also tests `kd_jax/runtime/checked_cache.py`.
"""

import os
import pathlib
import subprocess
import sys
import types

import jax
import pytest

from kd_jax.runtime import checked_cache, compilation_cache
from tests import helpers

# Prints the result, and whether the cache had a program for it.
SCRIPT = """
import sys
import jax, jax.numpy as jnp
from kd_jax.runtime import compilation_cache

counts = {}
def count(event, **_):
  counts[event] = counts.get(event, 0) + 1
jax.monitoring.register_event_listener(count)

compilation_cache.enable()
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
program = jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x))
if 'fresh' in sys.argv:
  with compilation_cache.bypassed():
    result = program(jnp.eye(3)).sum()
else:
  result = program(jnp.eye(3)).sum()
hits = counts.get('/jax/compilation_cache/cache_hits', 0)
print(f'{float(result):.6f}', hits > 0)
"""


def _run(cache, *args, **environment):
  """Runs the script with a cache folder; returns the words that it prints."""
  # Without the tests' settings of JAX, which include a cache folder.
  kept = {k: v for k, v in os.environ.items() if not k.startswith('JAX_')}
  result = subprocess.run(
    [sys.executable, '-c', SCRIPT, *args],
    env=kept | {'XDG_CACHE_HOME': str(cache), 'JAX_PLATFORMS': 'cpu'}
    | environment,
    cwd=helpers.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )  # fmt: skip
  return result.stdout.split()


@pytest.mark.slow
def test_a_second_process_reuses_compiled_programs(tmp_path):
  value, is_cached = _run(tmp_path)
  assert is_cached == 'False'
  assert _run(tmp_path) == [value, 'True']
  folders = list((tmp_path / 'kd_jax' / 'programs').iterdir())
  assert len(folders) == 1
  entries = list(folders[0].glob('*/*-cache'))
  assert entries
  for entry in entries:
    helpers.cut_bytes(entry, 9)
  assert _run(tmp_path) == [value, 'False']


def test_entries_of_older_versions_are_removed(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  settings = {}
  monkeypatch.setattr(
    compilation_cache.jax, 'config', types.SimpleNamespace(
      jax_compilation_cache_dir=None, update=settings.__setitem__
    ),
  )  # fmt: skip
  compilation_cache.enable()
  folder = pathlib.Path(settings['jax_compilation_cache_dir']).parent
  (folder / 'jit_f-123-cache').write_text('an entry without a digest')
  (folder / 'jit_f-123-atime').write_text('')
  compilation_cache.enable()
  assert [path.name for path in folder.iterdir()] == ['kd_jax-checked']


@pytest.mark.faults
def test_an_entry_with_a_flipped_bit_is_removed(tmp_path, caplog):
  """A flipped bit in a compiled function: it is compiled again.

  Not even a compressor without a checksum lets the bit pass.
  """
  cache = checked_cache.CheckedCache(str(tmp_path), max_size=2**20)
  cache.put('key', b'compressed without a checksum')
  assert cache.get('key') == b'compressed without a checksum'
  path = tmp_path / 'key-cache'
  content = path.read_bytes()
  for position in range(len(content)):
    path.write_bytes(content)
    helpers.flip_byte(path, position)
    assert cache.get('key') is None
    assert f'{path} is damaged' in caplog.text
    assert not path.exists()
    caplog.clear()
  cache.put('key', b'compiled again')
  assert cache.get('key') == b'compiled again'


def test_without_a_cache_that_can_be_checked_nothing_is_kept(
  monkeypatch, caplog
):
  """Another version of JAX may have no such class."""
  monkeypatch.delattr(checked_cache, 'install')
  updates = []
  monkeypatch.setattr(jax.config, 'update', lambda *a: updates.append(a))
  compilation_cache.enable()
  assert updates == [('jax_enable_compilation_cache', False)]
  assert 'compiled functions are not kept' in caplog.text


@pytest.mark.slow
def test_a_bypassed_cache_is_neither_read_nor_written(tmp_path):
  value, _ = _run(tmp_path, 'fresh')
  entries = (tmp_path / 'kd_jax' / 'programs').rglob('*lambda*-cache')
  assert not list(entries)
  _run(tmp_path)
  assert _run(tmp_path, 'fresh') == [value, 'False']


def test_jaxs_setting_takes_precedence(tmp_path):
  _run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'other'))
  # Other programs, which cannot read entries with digests, may share it.
  assert not list((tmp_path / 'other').glob('*-cache'))
  assert list((tmp_path / 'other' / 'kd_jax-checked').glob('*-cache'))
  assert not (tmp_path / 'kd_jax').exists()


@pytest.mark.parametrize('kind', ['file', 'read-only'])
def test_without_a_writable_folder_nothing_is_stored(tmp_path, kind):
  cache = tmp_path / 'cache'
  if kind == 'file':
    cache.write_text('')
  else:
    if os.geteuid() == 0:
      pytest.skip('root writes everywhere')
    cache.mkdir(mode=0o500)
  assert _run(cache)[1] == 'False'
