"""Functions that many test files share: tiny runs, launchers and damage."""

import contextlib
import io
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax.monitoring
import numpy as np
from absl import logging
from absl.testing import flagsaver
from ml_collections import ConfigDict

from configs import cifar, mnist
from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.cli import launch, parsing
from kd_jax.experiments import rows, runner
from kd_jax.export import measurement
from kd_jax.report import plots
from kd_jax.teachers.teacher import Teacher
from kd_jax.training import context, plan, training_functions

ROOT = pathlib.Path(__file__).parents[1]

# A benchmark that takes a fraction of a second.
TINY_BENCHMARK = {
  'benchmark.batch_sizes': (1,),
  'benchmark.budget_s': 0.01,
  'benchmark.cold_calls': 0,
}

# Overrides with which a recipe of configs/mnist.py takes seconds.
TINY_MNIST = {
  'data.name': 'generated',
  'teacher.model.filters': (2,),
  'teacher.model.hidden': (32,),
  'teacher.model.dropout_rate': 0.0,
  'teacher.train.epochs': 1,
  'train.epochs': 1,
  **TINY_BENCHMARK,
}

# Overrides that reduce a ResNet to a stem and one block of one stage. A tiny
# run spends most of its time on compilation.
TINY_RESNET = {'blocks': (1,), 'widths': (8,), 'strides': (2,)}


def tiny_mnist(
  recipe: str = 'h50', fields: dict[str, Any] | None = None
) -> ConfigDict:
  """Returns a recipe of configs/mnist.py that trains in seconds.

  The benchmark is small, and disabled unless `fields` enables it.

  Args:
    recipe: the recipe and its arguments.
    fields: further overrides, such as {'train.epochs': 2}.
  """
  config = mnist.get_config(recipe)
  config.benchmark.enabled = False
  config.update_from_flattened_dict(TINY_MNIST | (fields or {}))
  return config


def tiny_cifar(
  recipe: str = 'ideal', fields: dict[str, Any] | None = None
) -> ConfigDict:
  """Returns a recipe of configs/cifar.py that trains small ResNets in seconds.

  The student of a recipe with one row has one block; the students of a table
  keep their blocks, with fewer channels. Teacher and students train for two
  epochs on 1000 images.

  Args:
    recipe: the recipe and its arguments.
    fields: further overrides, such as {'train.epochs': 1}.
  """
  config = cifar.get_config(recipe)
  config.data.update(
    name='generated_rgb', train_examples=1000, test_examples=200
  )
  # Beside compilation, the feature maps of the stem take most of the time.
  config.teacher.model.update(block='basic', stem_stride=2, **TINY_RESNET)
  if len(config.rows) == 1:
    config.student.update(TINY_RESNET, stem_stride=2)
  else:
    config.student.widths = (8, 16, 16, 16)
  config.teacher.train.epochs = config.train.epochs = 2
  config.teacher.optim.update(weight_decay=5e-4, learning_rate=0.1)
  config.distill.kd_warmup_epochs = 2
  config.update_from_flattened_dict(TINY_BENCHMARK | (fields or {}))
  return config


def keep_rows(config: ConfigDict, *kept: str) -> None:
  """Removes all other rows of a table."""
  with config.unlocked():
    for row in set(config.rows) - set(kept):
      del config.rows[row]


def make_rows(config: ConfigDict, dataset: data.Dataset) -> rows.RunRows:
  """Returns the rows of a config, taught by some teacher; trains nothing.

  Each row is planned on all examples: a recipe's subset may need more.

  Args:
    config: the run's config.
    dataset: the data set of all rows.
  """
  used = np.ones(len(dataset.train.labels), bool)
  phases = plan.make_phases(used, epochs=1, folds=0)
  whole = plan.Plan(None, phases, 0, batch_size=1, drop_remainder=False)
  teacher = Teacher({}, {'outputs': 'digest'})
  run_context = context.Context(
    dataset, data.load, training_functions.make_training_functions
  )
  configs = {row: config_lib.close_row(config, row) for row in config.rows}
  return rows.make_rows(
    {name: rows.plan_row(c, whole, dataset) for name, c in configs.items()},
    lambda transfer_set: run_context,
    teacher,
    pathlib.Path('run'),
  )


def run(
  config: ConfigDict,
  folder: pathlib.Path,
  name: str = 'run',
  *,
  teachers: pathlib.Path | None = None,
  with_plots: bool = False,
  **kwargs,
) -> dict[str, Any]:
  """Runs a config in FOLDER/NAME, with teachers in FOLDER/teachers.

  Plots take a quarter of a tiny run's time, so that most tests leave them out.

  Args:
    config: the run's config.
    folder: the folder of the run.
    name: the run's folder inside `folder`.
    teachers: another folder of teachers.
    with_plots: whether the run writes its plots.
    **kwargs: further arguments of `run_config`.
  Returns:
    The content of run.json.
  """
  write_plots = plots.write if with_plots else lambda *_: {}
  with mock.patch.object(plots, 'write', write_plots):
    return runner.run_config(
      config,
      workdir=folder / name,
      teachers_dir=teachers or folder / 'teachers',
      **kwargs,
    )


# --- Processes. ---


def as_flags(fields: dict[str, Any]) -> list[str]:
  """Returns overrides as launch.py takes them: --config.FIELD=VALUE."""
  return [
    f'--config.{field}={str(value).replace(" ", "")}'
    for field, value in fields.items()
  ]


def start_python(
  *args: Any,
  env: dict[str, str] | None = None,
  log: pathlib.Path | None = None,
) -> subprocess.Popen:
  """Starts Python in the project's folder.

  Args:
    *args: arguments of Python.
    env: environment variables in addition to this process's.
    log: a file to which stdout and stderr are appended; without it they are
      pipes of text.
  """
  command = [sys.executable, *map(str, args)]
  options = {'cwd': ROOT, 'env': os.environ | (env or {})}
  if log is None:
    pipe = subprocess.PIPE
    return subprocess.Popen(
      command, stdout=pipe, stderr=pipe, text=True, **options
    )
  log.parent.mkdir(parents=True, exist_ok=True)
  with open(log, 'ab') as file:
    return subprocess.Popen(command, stdout=file, stderr=file, **options)


def run_python(
  *args: Any, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
  """Runs Python in the project's folder; the result has its text output."""
  process = start_python(*args, env=env)
  stdout, stderr = process.communicate()
  return subprocess.CompletedProcess(
    process.args, process.returncode, stdout, stderr
  )


@contextlib.contextmanager
def _logged_to(stream: io.StringIO) -> Iterator[None]:
  """Sends absl's log lines to a stream, and restores the logger's settings."""
  logger, handler = logging.get_absl_logger(), logging.get_absl_handler()
  level, filters = logger.level, list(handler.filters)
  formatter = handler.python_handler.formatter
  logger.addHandler(handler)
  stderr = handler.python_handler.setStream(stream)
  try:
    yield
  finally:
    handler.python_handler.setStream(stderr)
    logger.removeHandler(handler)
    # Not `set_verbosity`, which would give the logger a level it has not had.
    logger.setLevel(level)
    handler.filters[:] = filters
    handler.setFormatter(formatter)


def launch_here(*args: Any) -> subprocess.CompletedProcess:
  """Runs launch.py in this process, which saves two to six seconds of imports.

  Use it for mistakes in the command line, but not where the process matters.
  Flags and log settings are restored. An error that launch.py does not turn
  into an error line is raised here.
  """
  argv = ['launch.py', *map(str, args)]
  stdout, stderr = io.StringIO(), io.StringIO()
  code = None
  with (
    _logged_to(stderr),
    contextlib.chdir(ROOT),
    warnings.catch_warnings(),
    mock.patch.object(sys, 'argv', argv),
    flagsaver.flagsaver(),
    contextlib.redirect_stdout(stdout),
    contextlib.redirect_stderr(stderr),
  ):
    # ml_collections loads a config's file with the deprecated load_module.
    warnings.filterwarnings('ignore', 'the load_module')
    try:
      launch.main(parsing.parse_flags(argv))
    except SystemExit as error:
      code = error.code
  if isinstance(code, str):
    stderr.write(f'{code}\n')
    code = 1
  return subprocess.CompletedProcess(
    argv, code or 0, stdout.getvalue(), stderr.getvalue()
  )


def timed_briefly() -> contextlib.AbstractContextManager:
  """Lets exports time each network for 10 ms instead of a second."""
  return mock.patch.object(measurement, 'BUDGET_S', 0.01)


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
  """Raises TimeoutError in a context that hangs."""

  def stop(*_):
    raise TimeoutError(f'this took more than {seconds} s')

  before = signal.signal(signal.SIGALRM, stop)
  signal.alarm(seconds)
  try:
    yield
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def wait_until(
  condition: Callable[[], Any], timeout_s: float = 300, poll_s: float = 0.02
) -> None:
  """Waits until a condition holds; fails after `timeout_s` seconds."""
  deadline = time.monotonic() + timeout_s
  while not condition():
    assert time.monotonic() < deadline, 'the condition did not become true'
    time.sleep(poll_s)


@contextlib.contextmanager
def compilations_as_seconds(*modules: types.ModuleType) -> Iterator[None]:
  """Gives modules a clock that shows the number of compilations so far.

  Each reading is a microsecond later, since the modules divide by seconds.
  """
  compilations, readings = [], itertools.count()

  def listen(event, duration, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      compilations.append(duration)

  clock = types.SimpleNamespace(
    perf_counter=lambda: len(compilations) + 1e-6 * next(readings)
  )
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    with contextlib.ExitStack() as stack:
      for module in modules:
        stack.enter_context(mock.patch.object(module, 'time', clock))
      yield
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


# --- Damage, as a crash or a bad disk does it. ---


def flip_byte(path: pathlib.Path, position: int = -1) -> None:
  """Inverts the bits of one byte of a file; by default of the last byte."""
  content = bytearray(path.read_bytes())
  content[position] ^= 0xFF
  path.write_bytes(bytes(content))


def flip_middle_byte(path: pathlib.Path) -> None:
  """Inverts the bits of the byte in the middle of a file."""
  flip_byte(path, path.stat().st_size // 2)


def cut_bytes(path: pathlib.Path, count: int = 1) -> None:
  """Removes the last bytes of a file."""
  os.truncate(path, max(0, path.stat().st_size - count))


def pip(*args: str, cwd: pathlib.Path) -> None:
  """Runs pip in a folder, without dependencies."""
  command = [sys.executable, '-m', 'pip', *args, '--quiet', '--no-deps']
  subprocess.run(command, cwd=cwd, check=True)


def build_wheel(folder: pathlib.Path) -> pathlib.Path:
  """Builds a wheel of the project's files in a folder, and returns its path."""
  source = folder / 'source'
  listed = subprocess.run(
    ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  for name in map(pathlib.PurePath, listed.splitlines()):
    (source / name.parent).mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, source / name)
  pip('wheel', '.', f'--wheel-dir={folder}', cwd=source)
  (wheel,) = folder.glob('*.whl')
  return wheel
