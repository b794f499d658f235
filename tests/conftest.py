"""Settings of all tests: the CPU backend, and JAX's strictest checks."""

import os
import tempfile
from importlib import metadata

# Source locations in compiled programs take about a fifth of the tracing time.
os.environ['JAX_TRACEBACK_IN_LOCATIONS_LIMIT'] = '0'

# Tests, and the processes that they start, share compiled programs. Workers of
# pytest-xdist find the folder of the process that started them.
if 'PYTEST_XDIST_WORKER' not in os.environ:
  _CACHE = tempfile.TemporaryDirectory(prefix='kd_jax-compiled-')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE.name
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

# Each record names the commit; git takes 0.15 core-seconds to find it.
os.environ['KD_JAX_CODE'] = 'tests'

# Tests spend most of their time on compilation. Without optimization, a small
# ResNet's gradient compiles in two fifths of the time; without fusion emitters,
# in two fifths of that, and an unoptimized step takes half the time.
_FLAGS = ['--xla_backend_optimization_level=0']
# A flag that XLA does not know ends the process. jaxlib 0.11 dropped this flag.
if tuple(map(int, metadata.version('jaxlib').split('.')[:2])) < (0, 11):
  _FLAGS.append('--xla_cpu_use_fusion_emitters=false')
os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *_FLAGS])

import contextlib  # noqa: E402
import functools  # noqa: E402
from unittest import mock  # noqa: E402

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402
from ml_collections import ConfigDict, FrozenConfigDict  # noqa: E402

from kd_jax import data  # noqa: E402
from kd_jax.evaluation import predictors  # noqa: E402
from kd_jax.models import from_config  # noqa: E402
from kd_jax.runtime import compilation_cache  # noqa: E402
from kd_jax.training import training_functions  # noqa: E402

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_numpy_rank_promotion', 'raise')
# As in the processes that tests start; otherwise they share nothing.
compilation_cache.enable()

# Examples are the same in each run, so that only a change of the code can make
# a test fail. With --hypothesis-profile=explore, as in `make faults`, other
# examples are drawn.
hypothesis.settings.register_profile('same', derandomize=True)
hypothesis.settings.register_profile('explore', derandomize=False)
hypothesis.settings.load_profile('same')


# The files that take longest, longest first. They start first: a long file that
# starts last would leave the other processes idle.
_LONG = (
  *('test_launch', 'test_cifar_run', 'test_methods', 'test_exporter'),
  *('test_transfer_runs', 'test_mesh', 'test_quantization', 'test_large_data'),
  *('test_resnet', 'test_dispatch', 'test_cifar', 'test_user'),
)


def pytest_collection_modifyitems(items):
  """Sorts the tests so that the longest files come first."""
  rank = {name: i for i, name in enumerate(_LONG)}
  items.sort(key=lambda item: rank.get(item.path.stem, len(_LONG)))


@pytest.fixture(name='forget_compiled', scope='session', autouse=True)
def _forget_compiled():
  """Lets the runs of a process share compiled functions.

  These depend on their arguments alone. The second run of a tiny config takes
  1.6 core-seconds instead of 2.5, and one of a small ResNet 2.4 instead of 5.

  Yields:
    A function that forgets them, as a new process does.
  """
  with contextlib.ExitStack() as stack:
    caches = []
    for module, name in (
      (training_functions, 'make_training_functions'),
      (predictors, 'make_predict'),
      (from_config, 'feature_shapes'),
    ):
      cache = functools.lru_cache(maxsize=16)(getattr(module, name))
      stack.enter_context(mock.patch.object(module, name, _frozen(cache)))
      caches.append(cache)
    yield lambda: [cache.cache_clear() for cache in caches]


def _frozen(cache):
  """Returns a cached function that also takes sections, which have no hash."""
  freeze = lambda x: FrozenConfigDict(x) if isinstance(x, ConfigDict) else x
  return lambda *args: cache(*map(freeze, args))


@pytest.fixture(scope='session')
def generated() -> data.Dataset:
  """Returns 2,000 generated training images and 500 test images."""
  return data.load('generated')
