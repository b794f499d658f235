"""Images that stay in array_record files and are read by index when needed.

For data sets that are larger than memory. They stand where an array [N, H, W,
C] would; what has been read of them is an array.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures

import numpy as np

_AT_ONCE = 256  # images, of a slice
# Images of several batches that are read in one call, but for large ones. A
# call asks each file by itself: of 100 images in 40 files one costs 0.2 ms of a
# core, of 1600 0.05.
_GROUP, _GROUP_BYTES = 1600, 2**24
_READ_AHEAD = 2  # groups that are being read while another is in use


class Images:
  """Images uint8 [N, H, W, C] in files, in the order of these."""

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __init__(
    self,
    paths: Sequence[os.PathLike],
    decode: Callable[[bytes, str], np.ndarray],
    image_shape: Sequence[int],
    start: int = 0,
    count: int | None = None,
  ):
    """Opens files.

    Args:
      paths: of array_record files.
      decode: (record, its name for errors) -> uint8 [H, W, C].
      image_shape: (H, W, C).
      start: the first of them.
      count: so many from there on; None for all.
    """
    import grain

    self._paths, self._decode = tuple(map(str, paths)), decode
    self._source = grain.sources.ArrayRecordDataSource(self._paths)
    self._image_shape = tuple(image_shape)
    self._start = start
    self._count = len(self._source) - start if count is None else count

  @property
  def shape(self) -> tuple[int, ...]:
    """[N, H, W, C]."""
    return (self._count, *self._image_shape)

  @property
  def nbytes(self) -> int:
    """What they would take as an array."""
    return int(np.prod(self.shape))

  def __len__(self) -> int:
    return self._count

  def part(self, start: int, stop: int) -> 'Images':
    """Returns those from `start` up to `stop`."""
    return Images(
      self._paths,
      self._decode,
      self._image_shape,
      self._start + start,
      stop - start,
    )

  def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
    """Reads images [M, H, W, C] at once."""
    indices = np.arange(self._count)[index]
    parts = np.split(indices, range(_AT_ONCE, len(indices), _AT_ONCE))
    with futures.ThreadPoolExecutor() as pool:
      return np.concatenate(list(pool.map(self.read, parts)))

  def read(self, indices: np.ndarray) -> np.ndarray:
    """Returns images [M, H, W, C], read in one call: a fifth of one by one."""
    records = (self._start + indices).tolist()
    images = [
      self._decode(content, f'record {record}')
      for record, content in zip(
        records, self._source.__getitems__(records), strict=True
      )
    ]
    return np.array(images, np.uint8).reshape(-1, *self._image_shape)

  def batches(self, order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yields images in an order, so many at a time, and reads ahead.

    Args:
      order: indices [M].
      size: of a batch; the last may be smaller.
    """
    import grain

    # The step computes on the other half of the cores.
    threads = max(1, (os.cpu_count() or 1) // 2)
    largest = _GROUP_BYTES // int(np.prod(self._image_shape))
    group = max(1, min(_GROUP, largest) // size) * size
    groups = (
      grain.MapDataset.source(np.split(order, range(group, len(order), group)))
      .map(self.read)
      .to_iter_dataset(
        grain.ReadOptions(
          num_threads=threads,
          prefetch_buffer_size=max(threads, _READ_AHEAD),
        )
      )
    )
    for images in groups:
      for start in range(0, len(images), size):
        yield images[start : start + size]
