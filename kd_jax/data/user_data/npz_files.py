"""Reads arrays from files of the user, and a data set from an .npz file."""

import contextlib
import pathlib
import zipfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from kd_jax.data import ordering
from kd_jax.data.dataset import (
  SPLITS,
  DataError,
  UserArrays,
  error_text,
  files_digest,
  no_test_split,
)
from kd_jax.runtime import errors, host_memory, local_paths

_FIELD = 'config.data.name'
_NAMES = ('train_images', 'train_labels', 'test_images', 'test_labels')
# Usual numbers of channels, and the largest one that may come before the rows
# and columns. A short axis beside two longer axes holds channels.
_CHANNELS, _FEW = (1, 3, 4), 5
# The mend, for error messages, if the least label is 1.
FROM_1 = ': they start at 1: give labels - 1'


def read(path: pathlib.Path, *, needs_test: bool = True) -> UserArrays:
  """Reads and checks the four arrays of a data set.

  Args:
    path: a file with train_images and test_images, uint8 [N, H, W, C] or
      [N, H, W], and with train_labels and test_labels, integers [N] or [N, 1].
    needs_test: whether a file without a test split is refused.
  Returns:
    The arrays: images uint8 [N, H, W, C], labels int32 [N].
  Raises:
    DataError: if the file is missing or damaged, or an array is missing or has
      another type or shape.
  """
  names = {name: f'{path}: {name}' for name in _NAMES}
  return check_arrays(_load(path, needs_test), names)


def check_arrays(
  arrays: Mapping[str, np.ndarray], names: Mapping[str, str]
) -> UserArrays:
  """Checks the four arrays of a data set, and puts them into our order.

  Args:
    arrays: train_images, train_labels, test_images and test_labels; see `read`.
    names: what error messages call each array.
  Returns:
    The arrays: images uint8 [N, H, W, C], labels int32 [N].
  Raises:
    DataError: if an array has another type or shape.
  """
  checked, orders = {}, {}
  for name, array in arrays.items():
    if not array.ndim:
      raise DataError(f'{names[name]} is a single number; expected an array')
  for split in SPLITS:
    images, labels = f'{split}_images', f'{split}_labels'
    checked[images] = as_images(
      arrays[images], len(arrays[labels]), names[images]
    )
    checked[labels] = as_labels(
      arrays[labels], len(checked[images]), names[labels]
    )
    orders[split] = ordering.stratified(checked[labels])
    for name in (images, labels):
      checked[name] = checked[name][orders[split]]
  train_shape, test_shape = (
    checked[f'{split}_images'].shape[1:] for split in SPLITS
  )
  if train_shape != test_shape:
    raise DataError(
      f'{names["train_images"]} are {train_shape}, but '
      f'{names["test_images"].rpartition(": ")[2]} are {test_shape}; expected '
      'one shape'
    )
  return UserArrays(checked, orders, files_digest(checked, orders))


def _load(path: pathlib.Path, needs_test: bool) -> dict[str, np.ndarray]:
  """Returns the four arrays of a file; without a test split, two are empty."""
  expected = f'FILE.npz with {", ".join(_NAMES)}'
  with open_arrays(path, _FIELD, expected) as content:
    check_memory(content.zip, path, _NAMES)
    missing = [name for name in _NAMES if name not in content.files]
    if missing == ['test_images', 'test_labels']:
      if needs_test:
        raise no_test_split(path, ' and '.join(missing))
      arrays = {name: array_of(content, name) for name in _NAMES[:2]}
      empty = {f'test{n[5:]}': array[:0] for n, array in arrays.items()}
      return arrays | empty
    if missing:
      raise DataError(
        f'{_FIELD}: {path} lacks {", ".join(missing)}; it holds '
        f'{", ".join(content.files)}'
      )
    return {name: array_of(content, name) for name in _NAMES}


@contextlib.contextmanager
def open_arrays(
  path: pathlib.Path, field: str, expected: str, *, unnamed: str = ''
) -> Iterator[Any]:
  """Opens a file of the user; each array is read when it is asked for.

  Args:
    path: the file.
    field: the config's field that names the file, for error messages.
    expected: which file the field expects, for error messages.
    unnamed: the name of the only array of a .npy file; '' refuses such files.
  Yields:
    The arrays by name: an open .npz file, or a dict with the unnamed array.
  Raises:
    DataError: if the file, or an array that is read, is missing or damaged.
  """
  local_paths.check_regular(path, field)
  try:
    with open(path, 'rb') as file:
      content = np.load(file, allow_pickle=False)
      if not isinstance(content, np.ndarray):
        with content:
          yield content
      elif unnamed:
        yield {unnamed: content}
      else:
        raise DataError(
          f'{field}: {path} holds one array without a name; expected {expected}'
        )
  except FileNotFoundError:
    raise DataError(f'{field}: there is no file {path}') from None
  except errors.UserError:
    raise
  except Exception as error:  # NumPy, zipfile and zlib raise many types.
    raise DataError(
      f'{field}: {path} cannot be read: {error_text(error)}; expected '
      f'{expected}'
    ) from None


def array_of(content: Mapping[str, Any], name: str) -> np.ndarray:
  """Returns an array of a file that is open.

  Raises:
    ValueError: if the member is no array; NumPy would return its bytes.
  """
  array = content[name]
  if not isinstance(array, np.ndarray):
    raise ValueError(f'{name} is no array')
  return array


def check_memory(
  content: zipfile.ZipFile, path: pathlib.Path, names: Collection[str]
) -> None:
  """Checks that arrays of a file fit in memory, before they are read.

  Args:
    content: the opened file.
    path: the file, for the error message.
    names: the arrays.
  """
  host_memory.check_available(
    sum(
      member.file_size
      for member in content.infolist()
      if member.filename.removesuffix('.npy') in names
    ),
    f'the arrays of {path}',
    'store fewer or smaller images, or prepare them with TFDS, which reads '
    'images from disk',
  )


def array_shape(content: zipfile.ZipFile, name: str) -> tuple[int, ...]:
  """Returns the shape of an array of an .npz file, from its header."""
  with content.open(f'{name}.npy') as file:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
      return np.lib.format.read_array_header_1_0(file)[0]
    return np.lib.format.read_array_header_2_0(file)[0]


def as_images(array: np.ndarray, count: int, name: str) -> np.ndarray:
  """Returns images with a channel axis.

  Args:
    array: the array in the file.
    count: the number of labels.
    name: the file and the array, for error messages.
  Returns:
    uint8 [N, H, W, C].
  """
  axes = _order_of_axes(array.shape, count)
  if axes:
    raise DataError(
      f'{name} have shape {list(array.shape)}, which looks like {axes[0]}; '
      f'expected [N, H, W, C]: store images.transpose{axes[1]}'
    )
  if array.dtype != np.uint8 or array.ndim not in (3, 4):
    raise DataError(
      f'{name} are {array.dtype} {list(array.shape)}; expected uint8 '
      '[N, H, W, C] or [N, H, W], with values from 0 to 255'
    )
  if 0 in array.shape[1:]:
    raise DataError(
      f'{name} have shape {list(array.shape)}, images without a pixel; '
      'expected sides and channels of at least 1'
    )
  return array if array.ndim == 4 else array[..., None]


def _order_of_axes(
  shape: tuple[int, ...], count: int
) -> tuple[str, tuple[int, ...]] | None:
  """Returns another order of axes that a shape has, and how to transpose it.

  Args:
    shape: the shape of an array of images.
    count: the number of labels.
  """
  if len(shape) != 4:
    return None
  if shape[-1] == count != shape[0]:
    return '[H, W, C, N]', (3, 0, 1, 2)
  _, first, second, last = shape
  if first <= _FEW and min(second, last) > max(_CHANNELS[-1], first):
    return '[N, C, H, W]', (0, 2, 3, 1)
  if second in _CHANNELS and min(first, last) > _CHANNELS[-1]:
    return '[N, H, C, W]', (0, 1, 3, 2)
  return None


def as_labels(array: np.ndarray, count: int, name: str) -> np.ndarray:
  """Returns labels as int32.

  Args:
    array: the array in the file.
    count: N, the number of images.
    name: the file and the array, for error messages.
  Returns:
    int32 [N].
  Raises:
    DataError: if they have another type or shape; says how to convert them.
  """
  if array.ndim == 2 and array.shape[1] == 1:
    array = array[:, 0]
  if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
    raise DataError(
      f'{name} are {array.dtype} {list(array.shape)}; expected integers '
      f'[{count}], one for each image{_conversion(array, count)}'
    )
  limits = np.iinfo(np.int32)
  outside = (array > limits.max) | (array < limits.min)
  if outside.any():
    first = int(np.argmax(outside))
    raise DataError(
      f'{name}[{first}] is {array[first]}; expected the number of a class'
    )
  return array.astype(np.int32)


def start_at_1(labels: np.ndarray, num_classes: int) -> bool:
  """Returns whether labels number K classes from 1 to K, and not from 0."""
  return bool(len(labels) and labels.min() == 1 and labels.max() == num_classes)


def _conversion(array: np.ndarray, count: int) -> str:
  """Returns how to make integers [N] of other labels; '' if nobody knows."""
  if array.ndim == 2 and len(array) == count and array.dtype.kind in 'fiub':
    return ': of a row for each image, labels.argmax(1)'
  if array.shape != (count,):
    return ''
  if array.dtype.kind == 'f' and np.array_equal(array, np.round(array)):
    return ': labels.astype(int)'
  if array.dtype.kind in 'OSUT':
    return ': of names, np.unique(labels, return_inverse=True)[1]'
  return ''
