"""What stays between processes: compiled programs."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# Prints the result, how many programs were compiled, and how many were kept.
SCRIPT = """
import sys
import jax, jax.numpy as jnp
from kd_jax import program_cache

counts = {}
def count(event, **_):
  counts[event] = counts.get(event, 0) + 1
jax.monitoring.register_event_listener(count)

program_cache.enable()
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
program = jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x))
if 'fresh' in sys.argv:
  with program_cache.bypassed():
    result = program(jnp.eye(3)).sum()
else:
  result = program(jnp.eye(3)).sum()
hits = counts.get('/jax/compilation_cache/cache_hits', 0)
print(f'{float(result):.6f}', hits > 0)
"""


def _run(cache, *args, **environment):
  kept = {k: v for k, v in os.environ.items() if not k.startswith('JAX_')}
  result = subprocess.run(
    [sys.executable, '-c', SCRIPT, *args],
    env=kept | {'XDG_CACHE_HOME': str(cache), 'JAX_PLATFORMS': 'cpu'}
    | environment,
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )  # fmt: skip
  return result.stdout.split()


def test_a_second_process_takes_what_the_first_has_compiled(tmp_path):
  value, had = _run(tmp_path)
  assert had == 'False'
  assert _run(tmp_path) == [value, 'True']
  folders = list((tmp_path / 'kd_jax' / 'programs').iterdir())
  assert len(folders) == 1
  entries = list(folders[0].glob('*-cache'))
  assert entries
  for entry in entries:  # As after a crash, or on a bad disk.
    entry.write_bytes(entry.read_bytes()[:-9])
  assert _run(tmp_path)[0] == value


def test_a_time_of_compilation_is_of_one(tmp_path):
  value, _ = _run(tmp_path, 'fresh')
  own = (tmp_path / 'kd_jax' / 'programs').rglob('*lambda*-cache')
  assert not list(own)
  _run(tmp_path)
  assert _run(tmp_path, 'fresh') == [value, 'False']


def test_jaxs_own_setting_goes_first(tmp_path):
  _run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'own'))
  assert list((tmp_path / 'own').glob('*-cache'))
  assert not (tmp_path / 'kd_jax').exists()


@pytest.mark.parametrize('kind', ['file', 'read-only'])
def test_where_nothing_can_be_written_nothing_is_kept(tmp_path, kind):
  cache = tmp_path / 'cache'
  if kind == 'file':
    cache.write_text('')
  else:
    if os.geteuid() == 0:
      pytest.skip('root writes everywhere')
    cache.mkdir(mode=0o500)
  assert _run(cache)[1] == 'False'
