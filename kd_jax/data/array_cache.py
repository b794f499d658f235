"""Decoded arrays as .npy files, each checked against its known digest."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from kd_jax.data.dataset import Arrays, DataError, array_digest


def check(arrays: Arrays, digests: Mapping[str, str]) -> Arrays:
  """Returns arrays that are the canonical ones, in canonical order.

  Raises:
    DataError: naming each array that is not, and its digest.
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
  """Reads what is whole in a folder.

  Args:
    folder: where `write` put the arrays; it need not exist.
    digests: the `array_digest` of each array, by name.
  Returns:
    The arrays that are whole, and why each other file is not.
  """
  arrays, damaged = {}, {}
  for name, digest in digests.items():
    path = folder / f'{name}.npy'
    try:
      arrays |= check({name: np.load(path, allow_pickle=False)}, {name: digest})
    except FileNotFoundError:
      damaged[path] = 'missing'
    except Exception as error:
      # A damaged header can ask numpy for anything; the file is damaged.
      damaged[path] = f'damaged ({error}), removed'
  return arrays, damaged


def write(folder: pathlib.Path, arrays: Arrays) -> None:
  """Writes each array whole or not at all."""
  for name, array in arrays.items():
    path = folder / f'{name}.npy'
    part = path.with_suffix('.part')
    with open(part, 'wb') as file:
      np.save(file, array, allow_pickle=False)
    os.replace(part, path)
