"""The type `Dataset`, its digest, and the error of all loaders."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kd_jax.runtime import errors

if TYPE_CHECKING:
  import jax

SPLITS = ('train', 'test')
# Names that other data sets give to the test split. The first that exists is
# used.
TEST_SPLIT_NAMES = ('test', 'val', 'validation')
# The arrays of a data set, by the names train_images, train_labels,
# test_images and test_labels, in this order.
Arrays = Mapping[str, np.ndarray]


class DataError(errors.UserError):
  """A data set cannot be loaded; the message gives the reason and a remedy."""


def error_text(error: Exception) -> str:
  """Returns the message of an error, or its type if the message is empty."""
  return str(error) or type(error).__name__


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """Examples in canonical order: the order of the original files.

  Attributes:
    images: uint8 [N, H, W, C], a NumPy or JAX array; an `images_on_disk.Images`
      if the training images are larger than memory.
    labels: int32 [N].
  """

  images: Any
  labels: 'jax.Array | np.ndarray'


def is_on_disk(split: Split) -> bool:
  """Returns whether a split's images are read from disk, and are no array."""
  return hasattr(split.images, 'batches')


class Problem(NamedTuple):
  """The shapes that a network has to fit.

  Attributes:
    num_classes: K.
    image_shape: (H, W, C).
  """

  num_classes: int
  image_shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A data set as read-only arrays.

  Attributes:
    name: one of `kd_jax.data.names()`, or the name of a user's data set.
    train: the training split.
    test: the test split.
    num_classes: labels lie in [0, num_classes).
    digest: SHA-256 (hex) of all arrays in canonical order. Results that depend
      on the data, such as a teacher's outputs, record the digest.
    class_names: the name of each label, in order; () if classes have no names.
  """

  name: str
  train: Split
  test: Split
  num_classes: int
  digest: str
  class_names: tuple[str, ...] = ()

  @property
  def problem(self) -> Problem:
    """The shapes that a network has to fit."""
    return Problem(self.num_classes, tuple(self.train.images.shape[1:]))


def named_arrays(train: Split, test: Split) -> Arrays:
  """Returns the arrays of two splits by name."""
  return {
    'train_images': train.images,
    'train_labels': train.labels,
    'test_images': test.images,
    'test_labels': test.labels,
  }


def array_digest(array: np.ndarray) -> str:
  """Returns the SHA-256 (hex) of an array's dtype, shape and values.

  The values are hashed as bytes in C order.
  """
  sha = hashlib.sha256(f'{array.dtype.str}{array.shape}'.encode())
  sha.update(np.ascontiguousarray(array).data)
  return sha.hexdigest()


def dataset_digest(array_digests: Iterable[str]) -> str:
  """Returns the SHA-256 (hex) of the digests of the four arrays, in order.

  Because the input is one digest for each array, a loader can name the damaged
  array, and hashes each array once.
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
  """Builds a `Dataset` and makes its arrays read-only.

  Args:
    name: the name of the data set.
    arrays: its arrays; `train_images` may be an `images_on_disk.Images`.
    num_classes: the number of classes.
    digest: the `dataset_digest`.
    class_names: the name of each label, in order; () if classes have no names.
  Returns:
    The data set.
  """
  for array in arrays.values():
    if isinstance(array, np.ndarray):  # Images on disk are read-only anyway.
      array.setflags(write=False)
  return Dataset(
    name=name,
    train=Split(arrays['train_images'], arrays['train_labels']),
    test=Split(arrays['test_images'], arrays['test_labels']),
    num_classes=num_classes,
    digest=digest,
    class_names=class_names,
  )
