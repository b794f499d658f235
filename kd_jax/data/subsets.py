"""Smaller training sets, as indices into the whole: pure functions."""

import functools
import re
from collections.abc import Callable

import numpy as np

from kd_jax.data.dataset import DataError

_PER_CLASS = 500
_BLOCK = 5000
# labels [N] -> indices [M], with repetitions where an example is repeated.
Subset = Callable[[np.ndarray], np.ndarray]


def first(labels: np.ndarray, *, per_class: int) -> np.ndarray:
  """The first so many examples of each class, in the order of the files.

  Raises:
    DataError: if a class has fewer.
  """
  classes, counts = np.unique(labels, return_counts=True)
  if counts.min() < per_class:
    raise DataError(
      f'there are no {per_class} examples of each class: of class '
      f'{classes[counts.argmin()]} there are {counts.min()}'
    )
  return np.concatenate(
    [np.flatnonzero(labels == label)[:per_class] for label in classes]
  )


def block5000(labels: np.ndarray) -> np.ndarray:
  """The first 500 examples of each block of 5,000, whatever their class.

  It is what "500 of each class" comes to where the classes are thought to
  stand in blocks in the files, which they do not in CIFAR-10.
  """
  index = np.arange(len(labels))
  return index[index % _BLOCK < _PER_CLASS]


def as_published(labels: np.ndarray) -> np.ndarray:
  """The first ten examples, 500 times over: what the published line does."""
  return np.tile(np.arange(min(10, len(labels))), _PER_CLASS)


SUBSETS: dict[str, Subset] = {
  'all': lambda labels: np.arange(len(labels)),
  'block5000': block5000,
  'as_published': as_published,
}


def find_subset(name: str) -> Subset | None:
  """Returns the subset of a name: one in SUBSETS, or firstN; None if none."""
  match = re.fullmatch(r'first([1-9][0-9]*)', name)
  if match:
    return functools.partial(first, per_class=int(match[1]))
  return SUBSETS.get(name)
