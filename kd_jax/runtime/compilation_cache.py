"""A cache on disk that keeps compiled functions between processes.

A run that was started before compiles almost nothing the second time. The first
time, a ResNet spends most of the time before its first step on compilation.

Each entry has a digest, see checked_cache.py.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
from collections.abc import Iterator

import jax
from absl import logging
from jax.experimental.compilation_cache import compilation_cache

from kd_jax.runtime import environment, errors, files

# When the cache is larger, JAX removes the least recently used functions.
_MAX_BYTES = 2 * 2**30
# The folder of the entries with digests, which other programs cannot read.
_FOLDER = 'kd_jax-checked'


def enable() -> None:
  """Makes JAX store compiled functions in the user's cache and reuse them.

  If JAX's own setting, JAX_COMPILATION_CACHE_DIR, names a folder, a folder in
  that one is used. JAX compiles again if an entry is damaged. If the cache is
  not writable, or there is no home folder, nothing is stored.
  """
  # JAX adds its settings to `config` when it is imported.
  named = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
  if not _check_entries():
    jax.config.update('jax_enable_compilation_cache', False)
    return
  if named:
    if os.path.basename(named) != _FOLDER:  # This function ran before.
      jax.config.update('jax_compilation_cache_dir', f'{named}/{_FOLDER}')
    return
  try:
    folder = files.cache_dir() / 'programs' / instruction_set() / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    _remove_entries_without_digests(folder.parent)
  except (OSError, errors.UserError):
    return
  if not os.access(folder, os.W_OK):
    return
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_compilation_cache_max_size', _MAX_BYTES)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


def _remove_entries_without_digests(folder: pathlib.Path) -> None:
  """Removes what an older version kept, which nothing reads any more."""
  for pattern in ('*-cache', '*-atime'):
    for path in folder.glob(pattern):
      path.unlink(missing_ok=True)


def _check_entries() -> bool:
  """Makes JAX check the entries of its cache; returns whether JAX does."""
  try:
    from kd_jax.runtime import checked_cache

    checked_cache.install()
  except (ImportError, AttributeError) as error:
    logging.warning(
      'compiled functions are not kept, because JAX %s has no cache that this '
      'version of kd_jax can check (%s)',
      jax.__version__,
      error,
    )
    return False
  return True


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


def instruction_set() -> str:
  """Returns a folder name that processors with the same instructions share.

  A function compiled for a CPU uses that CPU's instructions, and machines of
  several kinds may share one home folder.
  """
  instructions = environment.cpu_info('flags')
  instructions = instructions or environment.cpu_info('Features')
  digest = hashlib.sha256(instructions.encode()).hexdigest()[:8]
  return f'{platform.machine()}-{digest}'
