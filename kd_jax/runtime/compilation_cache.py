"""Compiled programs are kept between processes, in the user's cache.

A run that was started before compiles next to nothing the second time; the
first time, a ResNet spends most of the time to its first step on that.
"""

import contextlib
import hashlib
import os
import platform
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

from kd_jax.runtime import environment, files

# Of compiled programs; the longest unused go first.
_MAX_BYTES = 2 * 2**30


def enable() -> None:
  """Keeps what JAX compiles from now on, and takes what was kept.

  JAX's own setting, JAX_COMPILATION_CACHE_DIR, goes first. A damaged entry is
  compiled again, and where the user's cache cannot be written nothing is kept.
  """
  if jax.config.jax_compilation_cache_dir:
    return
  folder = files.cache_dir() / 'programs' / _machine()
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return
  if not os.access(folder, os.W_OK):
    return
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_compilation_cache_max_size', _MAX_BYTES)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


@contextlib.contextmanager
def bypassed() -> Iterator[None]:
  """Compiles what is asked for within, as if nothing was kept: for its time."""
  enabled = jax.config.jax_enable_compilation_cache
  jax.config.update('jax_enable_compilation_cache', False)
  compilation_cache.reset_cache()  # JAX looks at the setting once.
  try:
    yield
  finally:
    jax.config.update('jax_enable_compilation_cache', enabled)
    compilation_cache.reset_cache()


def _machine() -> str:
  """Returns a name for processors of the same instructions.

  A program for a CPU is for those, and machines of several kinds may see a
  user's folder.
  """
  sets = environment.cpu_info('flags') or environment.cpu_info('Features')
  digest = hashlib.sha256(sets.encode()).hexdigest()[:8]
  return f'{platform.machine()}-{digest}'
