"""Images that stay on disk and are read by index.

The type `Images` serves data sets that are larger than memory. It replaces an
array [N, H, W, C]; reading from it returns arrays. `EncodedImages` decodes
records each time that it reads them; `DecodedImages` only reads.
"""

import abc
import errno
import os
import pathlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, Self

import numpy as np

from kd_jax.data.dataset import DataError
from kd_jax.runtime import local_paths

# For a slice of images, each call of a thread reads this many, or fewer if
# images are large.
_IMAGES_PER_READ, _BYTES_PER_READ = 256, 2**22
# For batches, one call reads a group: the images of several batches, or fewer
# if images are large. A call asks each file separately. For images in 40 files,
# a call for 100 images takes 0.2 ms of a core for each image, and a call for
# 1600 images takes 0.05 ms.
_GROUP_IMAGES, _GROUP_BYTES = 1600, 2**24
_GROUPS_AHEAD = 2  # Groups that are read while another group is in use.


class Images(abc.ABC):
  """Images uint8 [N, H, W, C] in files, in any order."""

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __init__(self, image_shape: Sequence[int], records: np.ndarray):
    """Keeps which images these are.

    Args:
      image_shape: (H, W, C).
      records: int [N], the position of each image in the files.
    """
    self._image_shape = tuple(image_shape)
    self._records = np.asarray(records)

  @abc.abstractmethod
  def read(self, indices: np.ndarray) -> np.ndarray:
    """Reads images in one call, with one thread.

    Args:
      indices: int [M], in 0 .. N-1.
    Returns:
      uint8 [M, H, W, C].
    """

  @abc.abstractmethod
  def part(self, start: int, stop: int) -> Self:
    """Returns the images from index `start` up to `stop`, still on disk."""

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape (N, H, W, C)."""
    return (len(self), *self._image_shape)

  @property
  def nbytes(self) -> int:
    """The size in bytes of an array with these images."""
    return int(np.prod(self.shape, dtype=np.int64))

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
    """Reads images [M, H, W, C] into memory, with several threads."""
    indices = np.arange(len(self))[index]
    images = np.empty((len(indices), *self._image_shape), np.uint8)
    at_most = _BYTES_PER_READ // int(np.prod(self._image_shape))
    size = max(1, min(_IMAGES_PER_READ, at_most))

    def read_into(start: int) -> None:
      part = slice(start, start + size)
      images[part] = self.read(indices[part])

    with futures.ThreadPoolExecutor() as pool:
      for _ in pool.map(read_into, range(0, len(indices), size)):
        pass  # To raise the errors of threads.
    return images

  def batches(self, order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yields batches of images in a given order, and reads ahead.

    Args:
      order: int [M], the indices of the images.
      size: B, the batch size; the last batch may be smaller.
    Yields:
      uint8 [B, H, W, C].
    """
    import grain

    # The other half of the cores computes the training step.
    threads = max(1, (os.cpu_count() or 1) // 2)
    max_images = _GROUP_BYTES // int(np.prod(self._image_shape))
    group = max(1, min(_GROUP_IMAGES, max_images) // size) * size
    groups = (
      grain.MapDataset.source(np.split(order, range(group, len(order), group)))
      .map(self.read)
      .to_iter_dataset(
        grain.ReadOptions(
          num_threads=threads,
          prefetch_buffer_size=max(threads, _GROUPS_AHEAD),
        )
      )
    )
    for images in groups:
      for start in range(0, len(images), size):
        yield images[start : start + size]


class EncodedImages(Images):
  """Images in array_record files, which are decoded whenever they are read."""

  def __init__(
    self,
    paths: Sequence[str | os.PathLike],
    decode: Callable[[bytes, str], np.ndarray],
    image_shape: Sequence[int],
    records: np.ndarray,
  ):
    """Opens files.

    Args:
      paths: array_record files.
      decode: (record, name of the record for errors) -> uint8 [H, W, C].
      image_shape: (H, W, C).
      records: int [N], the number of each image's record in the files.
    """
    import grain

    super().__init__(image_shape, records)
    self._paths, self._decode = tuple(map(str, paths)), decode
    self._source = grain.sources.ArrayRecordDataSource(self._paths)

  def part(self, start: int, stop: int) -> 'EncodedImages':
    """Returns the images from index `start` up to `stop`, still on disk."""
    return EncodedImages(
      self._paths,
      self._decode,
      self._image_shape,
      self._records[start:stop],
    )

  def read(self, indices: np.ndarray) -> np.ndarray:
    """Reads and decodes images; one call takes a fifth of single reads."""
    records = self._records[indices].tolist()
    images = [
      self._decode(content, f'record {record}')
      for record, content in zip(
        records, self._source.__getitems__(records), strict=True
      )
    ]
    return np.array(images, np.uint8).reshape(-1, *self._image_shape)


class OpenFile:
  """An open file, closed with its last user.

  If another file takes its name, this is still the old file.
  """

  def __init__(self, path: pathlib.Path):
    """Opens the file."""
    self.path = path
    kind = local_paths.irregular_kind(path)
    if kind is not None:  # To open a pipe would be to wait without end.
      raise OSError(errno.EINVAL, f'it is {kind}; expected a file', str(path))
    self._number = os.open(path, os.O_RDONLY)
    weakref.finalize(self, os.close, self._number)

  def read_into(self, buffer: Any, place: int) -> int:
    """Reads bytes from a place on; returns how many, fewer at the end."""
    return os.preadv(self._number, [buffer], place)


class DecodedImages(Images):
  """Decoded images in one file, one after another."""

  def __init__(
    self, file: OpenFile, image_shape: Sequence[int], records: np.ndarray
  ):
    """Keeps an open file.

    Args:
      file: the file.
      image_shape: (H, W, C).
      records: int [N], the position of each image in the file.
    """
    super().__init__(image_shape, records)
    self._file = file
    self._image_bytes = int(np.prod(self._image_shape, dtype=np.int64))

  def part(self, start: int, stop: int) -> 'DecodedImages':
    """Returns the images from index `start` up to `stop`, still on disk."""
    records = self._records[start:stop]
    return DecodedImages(self._file, self._image_shape, records)

  def read(self, indices: np.ndarray) -> np.ndarray:
    """Reads images, without a map of the file, which would count as memory."""
    images = np.empty((len(indices), *self._image_shape), np.uint8)
    for image, record in zip(
      images, self._records[indices].tolist(), strict=True
    ):
      place = record * self._image_bytes
      if self._file.read_into(image, place) != self._image_bytes:
        raise DataError(
          f'{self._file.path} ends before its image {record}: another program '
          'has cut it off; start again, which decodes the images again'
        )
    return images


class JoinedImages(Images):
  """Images of several parts, one after another; a part may be in memory."""

  def __init__(self, parts: Sequence[np.ndarray | Images]):
    """Keeps the parts.

    Args:
      parts: at least one; uint8 [N, H, W, C] each, of one shape (H, W, C).
    """
    self._parts = tuple(parts)
    self._ends = np.cumsum([len(part) for part in self._parts])
    super().__init__(self._parts[0].shape[1:], np.arange(self._ends[-1]))

  def part(self, start: int, stop: int) -> 'JoinedImages':
    """Returns the images from index `start` up to `stop`, still on disk."""
    parts = []
    for part, end in zip(self._parts, self._ends.tolist(), strict=True):
      begin = end - len(part)
      first, last = max(start, begin) - begin, max(min(stop, end) - begin, 0)
      parts.append(
        part.part(first, last) if isinstance(part, Images) else part[first:last]
      )
    return JoinedImages(parts)

  def read(self, indices: np.ndarray) -> np.ndarray:
    """Reads images of all parts in one call."""
    images = np.empty((len(indices), *self._image_shape), np.uint8)
    part_of = np.searchsorted(self._ends, indices, side='right')
    for number, part in enumerate(self._parts):
      here = part_of == number
      within = indices[here] - (self._ends[number] - len(part))
      images[here] = (
        part.read(within) if isinstance(part, Images) else part[within]
      )
    return images
