"""Smaller training sets, as indices into the whole: pure functions."""

import functools
import re
from collections.abc import Callable, Collection

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


def of_classes(
  labels: np.ndarray, *, classes: Collection[int], kept: bool
) -> np.ndarray:
  """The examples of some classes, or those of all others.

  Raises:
    DataError: if there is no example of one of the classes, or none is left.
  """
  unknown = sorted(set(classes) - set(labels.tolist()))
  if unknown:
    raise DataError(f'there is no example of class {unknown[0]}')
  chosen = np.flatnonzero(np.isin(labels, list(classes)) == kept)
  if not len(chosen):
    raise DataError('no example is left')
  return chosen


def as_published(labels: np.ndarray) -> np.ndarray:
  """The first ten examples, 500 times over: what the published line does."""
  return np.tile(np.arange(min(10, len(labels))), _PER_CLASS)


SUBSETS: dict[str, Subset] = {
  'all': lambda labels: np.arange(len(labels)),
  'block5000': block5000,
  'as_published': as_published,
}


# What `find_subset` knows beside SUBSETS, for people.
PATTERNS = (
  'firstN (the first N of each class)',
  'onlyA_B (of classes A and B alone)',
  'withoutA_B (of all the others)',
)


def find_subset(name: str) -> Subset | None:
  """Returns the subset of a name, in SUBSETS or of PATTERNS; None if none."""
  if match := re.fullmatch(r'first([1-9][0-9]*)', name):
    return functools.partial(first, per_class=int(match[1]))
  if match := re.fullmatch(r'(only|without)([0-9]+(?:_[0-9]+)*)', name):
    return functools.partial(
      of_classes,
      classes=[int(number) for number in match[2].split('_')],
      kept=match[1] == 'only',
    )
  return SUBSETS.get(name)
