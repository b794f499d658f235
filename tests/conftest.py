"""Settings of all tests: the CPU backend, and JAX's strictest checks."""

import atexit
import contextlib
import fcntl
import functools
import gc
import os
import pathlib
import shutil
import tempfile
from importlib import metadata
from unittest import mock

import hypothesis
import pytest

# Python looks for garbage again and again, through all objects of JAX and of
# 3,000 tests, which takes 14 of 250 core-seconds. It begins when all tests are
# collected, and leaves out what there is by then.
gc.disable()

# Source locations in compiled programs take about a fifth of the tracing time.
os.environ['JAX_TRACEBACK_IN_LOCATIONS_LIMIT'] = '0'

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

# Compiled programs of tests, kept for the next run.
_MAX_COMPILED_BYTES = 2**30

# Tests that save many checkpoints wait for the disk for up to a third of their
# time: a checkpoint is fifteen small files. Linux has a folder in memory.
_IN_MEMORY = '/dev/shm'
_FREE_BYTES = 4 * 2**30


def _write_in_memory():
  """Puts the temporary folders of tests in memory, if there is enough."""
  if 'PYTEST_DEBUG_TEMPROOT' in os.environ or not os.path.isdir(_IN_MEMORY):
    return
  if shutil.disk_usage(_IN_MEMORY).free >= _FREE_BYTES:
    os.environ['PYTEST_DEBUG_TEMPROOT'] = _IN_MEMORY


_write_in_memory()

# Examples are the same in each run, so that only a change of the code can make
# a test fail. With --hypothesis-profile=explore, as in `make faults`, other
# examples are drawn.
hypothesis.settings.register_profile('same', derandomize=True)
hypothesis.settings.register_profile('explore', derandomize=False)
hypothesis.settings.load_profile('same')


def pytest_configure(config):
  """Prepares JAX, except in a process that hands out tests to others.

  Such a process does without JAX, whose import takes two seconds.
  """
  if 'PYTEST_XDIST_WORKER' not in os.environ and config.getoption('tx', None):
    return
  import jax

  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_numpy_rank_promotion', 'raise')
  _share_compiled_programs()


def _share_compiled_programs():
  """Lets tests, and the processes that they start, share compiled programs.

  The next run of the tests finds them, too. Where there is no cache of the
  user, they are shared within one process.
  """
  import jax

  from kd_jax.runtime import compilation_cache

  folder = str(_compiled_folder())
  os.environ['JAX_COMPILATION_CACHE_DIR'] = folder
  jax.config.update('jax_compilation_cache_dir', folder)
  compilation_cache.enable()


def _compiled_folder():
  """Returns the folder of compiled programs; empties it if it is large."""
  from kd_jax.runtime import compilation_cache, errors, files

  try:
    folder = files.cache_dir() / 'programs_of_tests'
    folder /= compilation_cache.instruction_set()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / 'lock', 'w') as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      used = sum(path.stat().st_size for path in folder.rglob('*-cache'))
      if used > _MAX_COMPILED_BYTES:
        shutil.rmtree(folder)
  except (OSError, errors.UserError):
    temporary = tempfile.TemporaryDirectory(prefix='kd_jax-compiled-')
    atexit.register(temporary.cleanup)
    return pathlib.Path(temporary.name)
  return folder


# The files that take longest, longest first. They start first: a long file that
# starts last would leave the other processes idle.
_LONG = (
  *('test_distillation', 'test_launch', 'test_cifar_run', 'test_transfer_runs'),
  *(
    'test_methods',
    'test_large_data',
    'test_network_examples',
    'test_exporter',
  ),
  *('test_quantization', 'test_unlabeled_runs', 'test_numerics', 'test_runner'),
  *('test_mesh', 'test_cifar', 'test_user', 'test_resnet', 'test_losses'),
)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish():
  """Lets a worker end without taking apart its thousands of programs.

  That takes ten seconds, for which the command would wait.
  """
  if 'PYTEST_XDIST_WORKER' in os.environ:
    atexit.register(os._exit, 0)


def pytest_collection_modifyitems(items):
  """Sorts the tests so that the longest files come first."""
  rank = {name: i for i, name in enumerate(_LONG)}
  items.sort(key=lambda item: rank.get(item.path.stem, len(_LONG)))


def pytest_collection_finish():
  """Starts the search for garbage, among the objects that are made from now."""
  gc.freeze()
  gc.set_threshold(20_000, 20, 50)
  gc.enable()


@pytest.fixture(name='forget_compiled', scope='session', autouse=True)
def _forget_compiled():
  """Lets the runs of a process share compiled functions.

  These depend on their arguments alone. The second run of a tiny config takes
  1.6 core-seconds instead of 2.5, and one of a small ResNet 2.4 instead of 5.

  Yields:
    A function that forgets them, as a new process does.
  """
  from kd_jax.evaluation import predictors
  from kd_jax.models import from_config
  from kd_jax.training import training_functions

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
  from ml_collections import ConfigDict, FrozenConfigDict

  freeze = lambda x: FrozenConfigDict(x) if isinstance(x, ConfigDict) else x
  return lambda *args: cache(*map(freeze, args))


@pytest.fixture(scope='session')
def generated():
  """Returns the data set of 2,000 generated training and 500 test images."""
  from kd_jax import data

  return data.load('generated')
