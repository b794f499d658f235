"""JAX's cache of compiled functions, with a digest for each entry.

JAX checks an entry only as far as its compressor does: zlib has a checksum of
32 bits, and zstandard, which JAX prefers where it is installed, has none. One
flipped bit can then change numbers. JAX has no setting against it: with
`jax_compilation_cache_check_contents` it compiles every function again.

JAX's cache is an internal class. Another version of JAX may not have it, and
then the import of this module fails.
"""

import hashlib
import pathlib

import jax
from absl import logging
from jax._src import compilation_cache
from jax._src.lru_cache import LRUCache

from kd_jax.runtime import files, local_paths

_make_cache = compilation_cache.get_file_cache
_DIGEST_SIZE = hashlib.sha256().digest_size


def install() -> None:
  """Makes JAX use checked caches from now on."""
  compilation_cache.get_file_cache = _get_file_cache


class CheckedCache(LRUCache):
  """A cache whose entries start with the SHA-256 digest of their content."""

  def get(self, key: str) -> bytes | None:
    """Returns an entry; removes it and returns None if it is damaged."""
    # JAX's class of paths does not tell what a path is.
    path = pathlib.Path(self.path) / f'{key}-cache'
    # JAX would wait for a pipe without end.
    if local_paths.irregular_kind(path) is None:
      entry = super().get(key)
      if entry is None:
        return None
      content = entry[_DIGEST_SIZE:]
      if _with_digest(content) == entry:
        return content
    logging.warning('%s is damaged: the function is compiled again', path)
    files.remove(path)  # JAX never replaces an entry.
    return None

  def put(self, key: str, value: bytes) -> None:
    """Stores an entry with its digest."""
    super().put(key, _with_digest(value))


def _with_digest(content: bytes) -> bytes:
  return hashlib.sha256(content).digest() + content


def _get_file_cache(path: str):
  """Replaces JAX's function that makes the cache of a folder."""
  found = _make_cache(path)
  if found is None or type(found[0]) is not LRUCache:
    return found  # A cache that compares entries, as JAX's setting asks.
  # JAX adds its settings to `config` when it is imported.
  max_size = jax.config.jax_compilation_cache_max_size  # type: ignore[attr-defined]
  return CheckedCache(path, max_size=max_size), path
