"""Tests run on the CPU backend, with JAX at its strictest."""

import os
import tempfile

# What one test or a program that it starts has compiled, another need not.
_CACHE = tempfile.TemporaryDirectory(prefix='kd_jax-compiled-')
os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE.name
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

# Nearly all that tests do is compile: a ResNet takes a third of the time so.
_FLAGS = '--xla_backend_optimization_level=0'
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {_FLAGS}'

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

from kd_jax import data  # noqa: E402

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_numpy_rank_promotion', 'raise')

# What a change did is what made a test fail: examples are the same each time.
# Others are drawn where --hypothesis-profile=explore asks, as make faults does.
hypothesis.settings.register_profile('same', derandomize=True)
hypothesis.settings.register_profile('explore', derandomize=False)
hypothesis.settings.load_profile('same')


# Those that take longest, and come first: begun last, one would leave the other
# processes idle.
_LONG = (
  *('test_cifar_run', 'test_launch', 'test_exporter', 'test_transfer_runs'),
  *('test_mesh', 'test_quantized', 'test_large_data', 'test_specs'),
  *('test_bayes_teacher', 'test_examples', 'test_workers', 'test_own_networks'),
)


def pytest_collection_modifyitems(items):
  rank = {name: i for i, name in enumerate(_LONG)}
  items.sort(key=lambda item: rank.get(item.path.stem, len(_LONG)))


@pytest.fixture(scope='session')
def generated() -> data.Dataset:
  """2,000 training and 500 test images, made, not downloaded."""
  return data.load('generated')
