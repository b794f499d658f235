"""Subsets of the training set, as indices; pure functions of the labels."""

import functools
import re
from collections.abc import Callable, Collection

import numpy as np

from kd_jax.data.dataset import DataError

_PER_CLASS = 500
_BLOCK = 5000
# labels [N] -> indices [M]; an index occurs repeatedly if its example does.
Subset = Callable[[np.ndarray], np.ndarray]


def first_per_class(labels: np.ndarray, *, per_class: int) -> np.ndarray:
  """Returns the first `per_class` examples of each class, in file order.

  Args:
    labels: int [N].
    per_class: the number of examples of each class.
  Returns:
    Indices int [K * per_class], class by class.
  Raises:
    DataError: if a class has fewer examples.
  """
  classes, counts = np.unique(labels, return_counts=True)
  if counts.min() < per_class:
    raise DataError(
      f'first{per_class} needs {per_class} examples of each class, but class '
      f'{classes[counts.argmin()]} has {counts.min()}: choose a smaller number'
    )
  return up_to_per_class(labels, per_class=per_class)


def up_to_per_class(labels: np.ndarray, *, per_class: int) -> np.ndarray:
  """Returns `first_per_class`, with all examples of smaller classes.

  Args:
    labels: int [N].
    per_class: the largest number of examples of each class.
  Returns:
    Indices int [M], class by class.
  """
  return np.concatenate(
    [np.flatnonzero(labels == k)[:per_class] for k in np.unique(labels)]
  )


def block5000(labels: np.ndarray) -> np.ndarray:
  """Returns the first 500 examples of each block of 5,000, of any class.

  This is what "500 of each class" selects under the assumption that the files
  contain one class after another, in blocks. CIFAR-10's files do not.

  Args:
    labels: int [N].
  Returns:
    Indices int [M], ascending.
  """
  index = np.arange(len(labels))
  return index[index % _BLOCK < _PER_CLASS]


def as_published(labels: np.ndarray) -> np.ndarray:
  """Returns the first ten examples, repeated 500 times.

  This is what the published line of code selects.

  Args:
    labels: int [N].
  Returns:
    Indices int [500 * min(N, 10)].
  """
  return np.tile(np.arange(min(10, len(labels))), _PER_CLASS)


def select_classes(
  labels: np.ndarray, *, classes: Collection[int], keep: bool
) -> np.ndarray:
  """Returns the examples of some classes, or of all other classes.

  Args:
    labels: int [N].
    classes: labels of classes.
    keep: whether to select the examples of `classes` (True) or all other
      examples (False).
  Returns:
    Indices int [M], ascending.
  Raises:
    DataError: if one of the classes has no example, or no example is selected.
  """
  unknown = sorted(set(classes) - set(labels.tolist()))
  if unknown:
    raise DataError(f'class {unknown[0]} has no example')
  chosen = np.flatnonzero(np.isin(labels, list(classes)) == keep)
  if not len(chosen):
    raise DataError('the subset has no example: name fewer classes')
  return chosen


SUBSETS: dict[str, Subset] = {
  'all': lambda labels: np.arange(len(labels)),
  'none': lambda labels: np.arange(0),
  'block5000': block5000,
  'as_published': as_published,
}


# The names that `find_subset` knows in addition to SUBSETS, for messages.
PATTERNS = (
  'firstN (the first N examples of each class)',
  'uptoN (the first N of each class, or all of a smaller class)',
  'onlyA_B (classes A and B)',
  'withoutA_B (all classes except A and B)',
)


def find_subset(name: str) -> Subset | None:
  """Returns the function that selects a named subset.

  Args:
    name: a name in SUBSETS, or one that matches PATTERNS, such as `first500`.
  Returns:
    Maps labels [N] to indices [M]; None if the name is unknown.
  """
  if match := re.fullmatch(r'(first|upto)([1-9][0-9]*)', name):
    select = {'first': first_per_class, 'upto': up_to_per_class}[match[1]]
    return functools.partial(select, per_class=int(match[2]))
  if match := re.fullmatch(r'(only|without)([0-9]+(?:_[0-9]+)*)', name):
    return functools.partial(
      select_classes,
      classes=[int(number) for number in match[2].split('_')],
      keep=match[1] == 'only',
    )
  return SUBSETS.get(name)
