"""A cache on disk that keeps compiled functions between processes.

A run that was started before compiles almost nothing the second time. The first
time, a ResNet spends most of the time before its first step on compilation.
"""

import contextlib
import hashlib
import os
import platform
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

from kd_jax.runtime import environment, files

# When the cache is larger, JAX removes the least recently used functions.
_MAX_BYTES = 2 * 2**30


def enable() -> None:
  """Makes JAX store compiled functions in the user's cache and reuse them.

  JAX's own setting, JAX_COMPILATION_CACHE_DIR, takes precedence. JAX compiles
  again if an entry is damaged. If the user's cache is not writable, nothing is
  stored.
  """
  # JAX adds its settings to `config` when it is imported.
  if jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
    return
  folder = files.cache_dir() / 'programs' / _instruction_set()
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
  """Compiles without the cache inside the context, to time the compilation."""
  # JAX adds its settings to `config` when it is imported.
  enabled = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
  jax.config.update('jax_enable_compilation_cache', False)
  # JAX reads the setting only once, unless its cache is reset.
  compilation_cache.reset_cache()
  try:
    yield
  finally:
    jax.config.update('jax_enable_compilation_cache', enabled)
    compilation_cache.reset_cache()


def _instruction_set() -> str:
  """Returns a folder name that processors with the same instructions share.

  A function compiled for a CPU uses that CPU's instructions, and machines of
  several kinds may share one home folder.
  """
  instructions = environment.cpu_info('flags')
  instructions = instructions or environment.cpu_info('Features')
  digest = hashlib.sha256(instructions.encode()).hexdigest()[:8]
  return f'{platform.machine()}-{digest}'
