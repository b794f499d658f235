"""What the loader hands out: arrays, their digest, and its one error."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from kd_jax.runtime import errors

# The arrays of a data set by name, in this order: train_images, train_labels,
# test_images, test_labels.
Arrays = Mapping[str, np.ndarray]


class DataError(errors.UserError):
  """A data set cannot be had; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """Examples in canonical order: the order of the original files.

  Attributes:
    images: [N, H, W, C] uint8; of a training split that is larger than memory
      an `images_on_disk.Images`.
    labels: [N] int32.
  """

  images: np.ndarray
  labels: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A data set as read-only arrays.

  Attributes:
    name: one of `kd_jax.data.names()`.
    train: the training split.
    test: the test split.
    num_classes: labels lie in [0, num_classes).
    digest: sha256 (hex) over all arrays in canonical order, so that what is
      derived from the data (a teacher's outputs) can name what it came from.
    class_names: in the order of the labels; () for their numbers.
  """

  name: str
  train: Split
  test: Split
  num_classes: int
  digest: str
  class_names: tuple[str, ...] = ()


def named_arrays(train: Split, test: Split) -> Arrays:
  """The arrays of two splits by name."""
  return {
    'train_images': train.images,
    'train_labels': train.labels,
    'test_images': test.images,
    'test_labels': test.labels,
  }


def array_digest(array: np.ndarray) -> str:
  """sha256 (hex) over an array's dtype, shape and C-ordered bytes."""
  sha = hashlib.sha256(f'{array.dtype.str}{array.shape}'.encode())
  sha.update(np.ascontiguousarray(array))
  return sha.hexdigest()


def dataset_digest(array_digests: Iterable[str]) -> str:
  """sha256 (hex) over the digests of the four arrays, in their order.

  A digest of digests, so that a damaged array is known by name and nothing is
  hashed twice.
  """
  return hashlib.sha256(' '.join(array_digests).encode()).hexdigest()


def make_dataset(
  name: str,
  arrays: Arrays,
  *,
  num_classes: int,
  digest: str,
  class_names: tuple[str, ...] = (),
) -> Dataset:
  """Builds a Dataset; the arrays become read-only."""
  for array in arrays.values():
    if isinstance(array, np.ndarray):  # Or they are on disk.
      array.setflags(write=False)
  return Dataset(
    name=name,
    train=Split(arrays['train_images'], arrays['train_labels']),
    test=Split(arrays['test_images'], arrays['test_labels']),
    num_classes=num_classes,
    digest=digest,
    class_names=class_names,
  )
