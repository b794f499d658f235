"""Random images, labels and logits in the shapes of CIFAR-10, as files.

Functions can be compiled on them before the data has arrived.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def images_file(folder: pathlib.Path) -> pathlib.Path:
  """Returns the file of the images and labels in a folder."""
  return folder / 'generated.npz'


def logits_file(folder: pathlib.Path) -> pathlib.Path:
  """Returns the file of the logits in a folder."""
  return folder / 'generated-logits.npz'


def write(folder: pathlib.Path, counts: Mapping[str, int]) -> None:
  """Writes both files, unless the folder has them.

  Args:
    folder: the folder.
    counts: the number of examples of each split.
  """
  if images_file(folder).exists():
    return
  rng = np.random.default_rng(0)
  arrays: dict[str, Any] = {}
  logits: dict[str, Any] = {}
  for split, count in counts.items():
    arrays[f'{split}_images'] = rng.integers(
      0, 256, (count, 32, 32, 3), np.uint8
    )
    arrays[f'{split}_labels'] = np.arange(count) % 10
    logits[split] = rng.normal(size=(count, 10)).astype(np.float32)
  # The images last: if they exist, the logits are complete.
  np.savez(logits_file(folder), **logits)
  np.savez(images_file(folder), **arrays)
