"""The cache of compiled programs between processes."""

import os
import subprocess
import sys

import pytest

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


def test_a_second_process_reuses_compiled_programs(tmp_path):
  value, is_cached = _run(tmp_path)
  assert is_cached == 'False'
  assert _run(tmp_path) == [value, 'True']
  folders = list((tmp_path / 'kd_jax' / 'programs').iterdir())
  assert len(folders) == 1
  entries = list(folders[0].glob('*-cache'))
  assert entries
  for entry in entries:
    helpers.cut_bytes(entry, 9)
  assert _run(tmp_path)[0] == value


def test_a_bypassed_cache_is_neither_read_nor_written(tmp_path):
  value, _ = _run(tmp_path, 'fresh')
  entries = (tmp_path / 'kd_jax' / 'programs').rglob('*lambda*-cache')
  assert not list(entries)
  _run(tmp_path)
  assert _run(tmp_path, 'fresh') == [value, 'False']


def test_jaxs_setting_takes_precedence(tmp_path):
  _run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'other'))
  assert list((tmp_path / 'other').glob('*-cache'))
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
