"""The hardware and the package versions on which results depend."""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import jax
from absl import logging

import kd_jax
from kd_jax.runtime import (
  command_basics,
  errors,
  processes,
  project_files,
  workers,
)

# The packages whose versions can change a number.
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')

# The environment variable that names the commit where there is no git.
_CODE = 'KD_JAX_CODE'

# The device files by which Linux shows an NVIDIA GPU or a TPU.
_ACCELERATORS = ('/dev/nvidia0', *workers.TPUS)


def accelerators() -> list[str]:
  """Returns the device files of accelerators, whether JAX uses them or not."""
  return [path for path in _ACCELERATORS if os.path.exists(path)]


def check_device() -> None:
  """Makes JAX start its backend.

  Raises:
    UserError: if the device is missing, or another process uses it.
  """
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:  # JAX raises both.
    raise errors.UserError(
      f'JAX finds no device to compute on ({str(error) or "no such device"}); '
      f'JAX_PLATFORMS is {os.environ.get("JAX_PLATFORMS", "not set")}'
    ) from None


def log_device() -> None:
  """Logs the device, and warns if a CPU computes beside an idle accelerator."""
  device = jax.devices()[0]
  logging.info(
    'device: %d x %s (%s), jax %s',
    jax.device_count(),
    device.device_kind,
    jax.default_backend(),
    jax.__version__,
  )
  if jax.default_backend() == 'cpu':
    expected = accelerators()
    if expected:
      logging.warning(
        'THIS RUNS ON THE CPU, though this machine has an accelerator (%s). '
        'Install JAX for the accelerator (for example "jax[cuda13]" or '
        '"jax[tpu]"), or unset JAX_PLATFORMS',
        ', '.join(expected),
      )


def describe() -> dict[str, Any]:
  """Returns what a result depends on besides its config, as a JSON object.

  The object holds the time, the code version, the package versions, the device
  and how the machine is shared out.
  """
  device = jax.devices()[0]
  share = workers.share()
  return {
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'kd_jax': kd_jax.__version__,
    'code': _code_version(),
    'python': platform.python_version(),
    'versions': {name: metadata.version(name) for name in _PACKAGES},
    'backend': jax.default_backend(),
    'device': device.device_kind,
    'num_devices': jax.device_count(),
    'num_processes': processes.count(),
    'processor': _processor(),
    'instructions': _instructions(),
    'cores': _cores(),
    # Every worker has `cores` cores.
    'workers': 1 if share is None else share.count,
  }


# Flags with a value that determines no result, such as places on one machine.
_PLACES = ('workdir', 'runs_dir', 'data_dir', 'source_dir', 'max_wait_h')


def command(argv: Sequence[str] | None = None) -> str:
  """Returns the command line as records keep it: without folders.

  Args:
    argv: the program and its arguments; the process's own by default.
  """
  argv = sys.argv if argv is None else argv
  kept = [command_basics.program(argv)]
  is_place = False
  for argument in argv[1:]:
    if argument.lstrip('-') == 'debug':
      continue
    if is_place:  # The value of `--workdir FOLDER`.
      is_place = False
      continue
    flag, equals, _ = argument.lstrip('-').partition('=')
    if argument.startswith('-') and flag in _PLACES:
      is_place = not equals
      continue
    kept.append(argument)
  return ' '.join(kept)


def _code_version() -> str:
  """Returns the commit, with '-dirty' if the tree differs; '' without git.

  Changes in results/ do not count, because runs write there. On a machine that
  has the files without their history, KD_JAX_CODE names the commit.
  """
  if _CODE in os.environ:
    return os.environ[_CODE]
  checkout = project_files.checkout()
  if checkout is None:
    return _installed_commit()

  def git(*args: str) -> str:
    return subprocess.run(
      ['git', *args],
      cwd=checkout,
      capture_output=True,
      text=True,
      check=True,
      timeout=10,
    ).stdout.strip()

  try:
    commit = git('describe', '--always', '--abbrev=12')
    changed = git('diff', '--name-only', 'HEAD', '--', '.', ':!results')
  except (OSError, subprocess.SubprocessError):
    return ''
  return f'{commit}-dirty' if changed else commit


def _installed_commit() -> str:
  """Returns the commit that pip has installed from; '' if pip notes none."""
  try:
    source = metadata.distribution('kd-jax').read_text('direct_url.json')
  except metadata.PackageNotFoundError:
    return ''
  vcs_info = json.loads(source or '{}').get('vcs_info', {})
  return vcs_info.get('commit_id', '')[:12]


def _cores() -> int | None:
  """Returns the number of cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count()


def cpu_info(field: str) -> str:
  """Returns a field of the first CPU in /proc/cpuinfo; '' if it is missing."""
  try:
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
      name, _, value = line.partition(':')
      if name.strip() == field:
        return value.strip()
  except OSError:
    pass
  return ''


def _processor() -> str:
  return cpu_info('model name') or platform.processor() or platform.machine()


# The vector instructions that decide a network's speed, by Linux's flags. Only
# the widest is named, so the order matters.
_WIDTHS = {'avx512f': 'AVX-512', 'avx2': 'AVX2', 'sve': 'SVE', 'asimd': 'NEON'}

_BFLOAT16 = {'avx512_bf16', 'amx_bf16', 'bf16'}


def _instructions() -> str:
  """Returns a CPU's vector instructions, for example 'AVX-512, bfloat16'."""
  flags = set((cpu_info('flags') or cpu_info('Features')).split())
  widths = [name for flag, name in _WIDTHS.items() if flag in flags][:1]
  return ', '.join([*widths, *(['bfloat16'] if flags & _BFLOAT16 else [])])
