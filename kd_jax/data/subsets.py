"""Smaller training sets, as indices into the whole: pure functions."""

from collections.abc import Callable

import numpy as np

_PER_CLASS = 500
_BLOCK = 5000


def first500(labels: np.ndarray) -> np.ndarray:
  """The first 500 examples of each class, in the order of the files."""
  return np.concatenate(
    [
      np.flatnonzero(labels == label)[:_PER_CLASS]
      for label in np.unique(labels)
    ]
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


# labels [N] -> indices [M], with repetitions where an example is repeated.
SUBSETS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'all': lambda labels: np.arange(len(labels)),
  'first500': first500,
  'block5000': block5000,
  'as_published': as_published,
}
