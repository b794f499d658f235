"""Images that stay in array_record files and are read by index.

The type `Images` serves data sets that are larger than memory. It replaces an
array [N, H, W, C]; reading from it returns arrays.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures

import numpy as np

# For a slice of images, each call of a thread reads this many.
_IMAGES_PER_READ = 256
# For batches, one call reads a group: the images of several batches, or fewer
# if images are large. A call asks each file separately. For images in 40 files,
# a call for 100 images takes 0.2 ms of a core for each image, and a call for
# 1600 images takes 0.05 ms.
_GROUP_IMAGES, _GROUP_BYTES = 1600, 2**24
_GROUPS_AHEAD = 2  # Groups that are read while another group is in use.


class Images:
  """Images uint8 [N, H, W, C] in files, in any order."""

  dtype = np.dtype(np.uint8)
  ndim = 4

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

    self._paths, self._decode = tuple(map(str, paths)), decode
    self._source = grain.sources.ArrayRecordDataSource(self._paths)
    self._image_shape = tuple(image_shape)
    self._records = np.asarray(records)

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape (N, H, W, C)."""
    return (len(self), *self._image_shape)

  @property
  def nbytes(self) -> int:
    """The size in bytes of an array with these images."""
    return int(np.prod(self.shape))

  def __len__(self) -> int:
    return len(self._records)

  def part(self, start: int, stop: int) -> 'Images':
    """Returns the images from index `start` up to `stop`, still on disk."""
    return Images(
      self._paths,
      self._decode,
      self._image_shape,
      self._records[start:stop],
    )

  def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
    """Reads images [M, H, W, C] into memory, with several threads."""
    indices = np.arange(len(self))[index]
    parts = np.split(
      indices, range(_IMAGES_PER_READ, len(indices), _IMAGES_PER_READ)
    )
    with futures.ThreadPoolExecutor() as pool:
      return np.concatenate(list(pool.map(self.read, parts)))

  def read(self, indices: np.ndarray) -> np.ndarray:
    """Reads images in one call, in a fifth of the time of single reads.

    Args:
      indices: int [M], in 0 .. N-1.
    Returns:
      uint8 [M, H, W, C].
    """
    records = self._records[indices].tolist()
    images = [
      self._decode(content, f'record {record}')
      for record, content in zip(
        records, self._source.__getitems__(records), strict=True
      )
    ]
    return np.array(images, np.uint8).reshape(-1, *self._image_shape)

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
