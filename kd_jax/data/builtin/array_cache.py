"""Decoded arrays in .npy files, each checked against a known digest."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from kd_jax.data.dataset import Arrays, DataError, array_digest
from kd_jax.runtime import errors, local_paths


def check(arrays: Arrays, digests: Mapping[str, str]) -> Arrays:
  """Checks that arrays are the original ones, in canonical order.

  Args:
    arrays: arrays by name.
    digests: the `array_digest` of each array, by name.
  Returns:
    `arrays`.
  Raises:
    DataError: if an array has another digest; names each such array and its
      digest.
  """
  found = {name: array_digest(arrays[name]) for name in digests}
  wrong = [
    f'{name} is not the original (digest {found[name]})'
    for name, digest in digests.items()
    if found[name] != digest
  ]
  if wrong:
    raise DataError(', '.join(wrong))
  return arrays


def read(
  folder: pathlib.Path, digests: Mapping[str, str]
) -> tuple[Arrays, dict[pathlib.Path, str]]:
  """Reads the undamaged arrays of a folder.

  Args:
    folder: the folder that `write` filled; it need not exist.
    digests: the `array_digest` of each array, by name.
  Returns:
    The undamaged arrays by name, and the reason why each other file cannot be
    used, by path.
  """
  arrays: dict[str, np.ndarray] = {}
  damaged: dict[pathlib.Path, str] = {}
  for name, digest in digests.items():
    path = folder / f'{name}.npy'
    try:
      local_paths.check_regular(path, name)
      arrays |= check({name: np.load(path, allow_pickle=False)}, {name: digest})
    except FileNotFoundError:
      damaged[path] = 'missing'
    except Exception as error:
      # A damaged header can make NumPy raise any error.
      damaged[path] = f'damaged ({error})'
  return arrays, damaged


def write(folder: pathlib.Path, arrays: Arrays) -> None:
  """Writes arrays by name; each file is written completely or not at all."""
  for name, array in arrays.items():
    path = folder / f'{name}.npy'
    partial_path = path.with_suffix('.part')
    with errors.name_file(path), open(partial_path, 'wb') as file:
      np.save(file, array, allow_pickle=False)
    os.replace(partial_path, path)
