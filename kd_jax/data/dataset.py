"""The type `Dataset`, its digest, and the error of all loaders."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kd_jax.data import ordering
from kd_jax.runtime import errors

if TYPE_CHECKING:
  import jax

SPLITS = ('train', 'test')
# Names that other data sets give to the test split. The first that exists is
# used.
TEST_SPLIT_NAMES = ('test', 'val', 'validation')
_HASHED_AT_ONCE = 1024  # Examples.
# The label of an image without one.
NO_LABEL = -1
# The arrays of a data set, by the names train_images, train_labels,
# test_images and test_labels, in this order.
Arrays = Mapping[str, np.ndarray]


class DataError(errors.UserError):
  """A data set cannot be loaded; the message gives the reason and a remedy."""


def error_text(error: Exception) -> str:
  """Returns the message of an error, or its type if the message is empty."""
  return str(error) or type(error).__name__


class Origin(NamedTuple):
  """The places of a split's examples in the files of the data set.

  Attributes:
    split: the split of the files: train or test.
    positions: int [N], the position of each example in that split of the files.
    size: the number of examples in that split of the files.
  """

  split: str
  positions: np.ndarray
  size: int


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """Examples in canonical order.

  The order is that of the original files, or `ordering.stratified` for the
  user's data.

  Attributes:
    images: uint8 [N, H, W, C], a NumPy or JAX array; an `images_on_disk.Images`
      if the images are larger than memory.
    labels: int32 [N]; NO_LABEL for images without one, which come last.
    origin: where the examples lie in the files; None for images that are in no
      file of the data set, such as noise.
  """

  images: Any
  labels: 'jax.Array | np.ndarray'
  origin: Origin | None = None


def is_on_disk(split: Split) -> bool:
  """Returns whether a split's images are read from disk, and are no array."""
  return hasattr(split.images, 'batches')


class ImageTask(NamedTuple):
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
    files_digest: the digest of the user's arrays or records in the order of the
      files, which older versions called `digest`; '' for built-in data sets.
    unlabeled: the name, by their digest, of the images without labels at the
      end of the training split; '' if there are none. `digest` leaves them out.
  """

  name: str
  train: Split
  test: Split
  num_classes: int
  digest: str
  class_names: tuple[str, ...] = ()
  files_digest: str = ''
  unlabeled: str = ''

  @property
  def is_users(self) -> bool:
    """Whether the data set is the user's, and no built-in one."""
    return bool(self.files_digest)

  def names_of(self, classes: Iterable[int]) -> list[str]:
    """Returns the names of some classes, or their numbers without names."""
    names = self.class_names or range(self.num_classes)
    return [str(names[label]) for label in classes]

  @property
  def num_labeled(self) -> int:
    """The number of training examples that have a label."""
    labels = self.train.labels
    if not self.unlabeled:
      return len(labels)
    return int(np.sum(np.asarray(labels) != NO_LABEL))

  @property
  def task(self) -> ImageTask:
    """The shapes that a network has to fit."""
    return ImageTask(self.num_classes, tuple(self.train.images.shape[1:]))


class UserArrays(NamedTuple):
  """The arrays that a reader of the user's files returns.

  Attributes:
    arrays: the arrays of both splits; each split is in `ordering.stratified`.
      The test split is empty if the files have none.
    orders: the position in the files of each example, int [N] by split.
    digest: the digest of the data in the order of the files.
    class_names: the name of each label, in order; () if classes have no names.
  """

  arrays: Arrays
  orders: Mapping[str, np.ndarray]
  digest: str
  class_names: tuple[str, ...] = ()


def files_digest(arrays: Arrays, orders: Mapping[str, np.ndarray]) -> str:
  """Returns the `dataset_digest` of arrays in the order of the files.

  Args:
    arrays: the four arrays.
    orders: the position in the files of each example, int [N] by split.
  """
  return dataset_digest(
    array_digest(array, orders[name.partition('_')[0]])
    for name, array in arrays.items()
  )


def no_test_split(place: object, expected: str) -> DataError:
  """Returns the error for data without a test split.

  Args:
    place: the folder or file of the data.
    expected: what holds a test split there.
  """
  return DataError(
    f'{place} has no test split: expected {expected}, or '
    '--config.data.holdout_examples=N, which holds out the last N training '
    'images and tests on them'
  )


def named_arrays(train: Split, test: Split) -> Arrays:
  """Returns the arrays of two splits by name."""
  return {
    'train_images': train.images,
    'train_labels': train.labels,
    'test_images': test.images,
    'test_labels': test.labels,
  }


def array_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
  """Returns what `array_digest` hashes before the values."""
  return f'{dtype.str}{shape}'.encode()


def array_digest(array: np.ndarray, order: np.ndarray | None = None) -> str:
  """Returns the SHA-256 (hex) of an array's dtype, shape and values.

  The values are hashed as bytes in C order.

  Args:
    array: the array.
    order: int [N], the position in the file of each entry of the array. The
      digest is then that of the array in the order of the file.
  """
  sha = hashlib.sha256(array_header(array.dtype, array.shape))
  if order is None:
    sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()
  in_file = np.argsort(order)
  for start in range(0, len(array), _HASHED_AT_ONCE):  # To limit memory.
    part = array[in_file[start : start + _HASHED_AT_ONCE]]
    sha.update(np.ascontiguousarray(part).data)
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
  orders: Mapping[str, np.ndarray] | None = None,
) -> Dataset:
  """Builds a `Dataset` and makes its arrays read-only.

  Args:
    name: the name of the data set.
    arrays: its arrays; images may be an `images_on_disk.Images`.
    num_classes: the number of classes.
    digest: the `dataset_digest` of the arrays in the order of the files.
    class_names: the name of each label, in order; () if classes have no names.
    orders: for the user's data, the position in the files of each example, by
      split; None if the arrays have the order of the files.
  Returns:
    The data set.
  """
  for array in arrays.values():
    if isinstance(array, np.ndarray):  # Images on disk are read-only anyway.
      array.setflags(write=False)
  splits = {}
  for split in SPLITS:
    labels = arrays[f'{split}_labels']
    positions = np.arange(len(labels)) if orders is None else orders[split]
    origin = Origin(split, positions, len(labels))
    splits[split] = Split(arrays[f'{split}_images'], labels, origin)
  files_digest = ''
  if orders is not None:
    # The data set's digest also depends on the version of the ordering.
    files_digest = digest
    digest = dataset_digest([files_digest, ordering.VERSION])
  return Dataset(
    name=name,
    train=splits['train'],
    test=splits['test'],
    num_classes=num_classes,
    digest=digest,
    class_names=class_names,
    files_digest=files_digest,
  )
