"""The machine and the versions that a number depends on."""

import datetime
import os
import pathlib
import platform
import subprocess
from importlib import metadata
from typing import Any

import jax
from absl import logging

import kd_jax
from kd_jax.runtime import errors, processes, workers

# The packages whose versions can change a number.
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')

# Where a Linux machine shows an NVIDIA GPU or a TPU.
_ACCELERATORS = ('/dev/nvidia0', *workers.TPUS)


def accelerators() -> list[str]:
  """Returns the devices that this machine has beside its CPU, used or not."""
  return [path for path in _ACCELERATORS if os.path.exists(path)]


def check_device() -> None:
  """Has JAX start what computes.

  Raises:
    UserError: if it is not there, or another process has it.
  """
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:  # JAX has both.
    raise errors.UserError(
      f'JAX finds nothing to compute on ({str(error) or "no such device"}); '
      f'JAX_PLATFORMS is {os.environ.get("JAX_PLATFORMS", "not set")}'
    ) from None


def log_device() -> None:
  """Says what computes, and loudly if that is a CPU beside an accelerator."""
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
        'Install jax for it, such as "jax[cuda12]" or "jax[tpu]", or unset '
        'JAX_PLATFORMS',
        ', '.join(expected),
      )


def describe() -> dict[str, Any]:
  """Returns what a number depends on besides its config: versions, device."""
  device, own = jax.devices()[0], workers.share()
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
    'workers': 1 if own is None else own.count,  # Each with as many cores.
  }


def _code_version() -> str:
  """Returns the commit, marked if the tree differs from it; '' without git.

  What differs in results/ is no difference: it was written by a run.
  """

  def git(*args: str) -> str:
    return subprocess.run(
      ['git', *args],
      cwd=pathlib.Path(__file__).resolve().parents[2],
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


def _cores() -> int | None:
  """Returns how many cores this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count()


def cpu_info(field: str) -> str:
  """Returns what Linux says of the first CPU; '' elsewhere, or if nothing."""
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


# What matters to a network's speed, by Linux's names; of widths the widest.
_WIDTHS = {'avx512f': 'AVX-512', 'avx2': 'AVX2', 'sve': 'SVE', 'asimd': 'NEON'}

_BFLOAT16 = {'avx512_bf16', 'amx_bf16', 'bf16'}


def _instructions() -> str:
  """Returns a CPU's vector instructions, as 'AVX-512, bfloat16'."""
  flags = set((cpu_info('flags') or cpu_info('Features')).split())
  widths = [name for flag, name in _WIDTHS.items() if flag in flags][:1]
  return ', '.join([*widths, *(['bfloat16'] if flags & _BFLOAT16 else [])])
