"""Image files, decoded once into one file of the data folder.

A folder of many photographs takes minutes to decode. The decoded images are
kept, so that the next start only reads them, and so that they need not fit in
memory. They are decoded again if an image file has another size or time, if
other options are given, or if they do not have their digest.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import IO, NamedTuple

import numpy as np
import PIL
from absl import logging

from kd_jax.data import images_on_disk, ordering, preparation_lock, progress
from kd_jax.data.dataset import DataError, array_header
from kd_jax.data.user_data import image_files, npz_files
from kd_jax.runtime import local_paths

# Images that take fewer bytes are decoded at each start, in a few seconds.
LEAST_BYTES = 2**26
# The system reads and writes at most 2 GiB in one call.
MOST_IMAGE_BYTES = 2**30
_IMAGES_PER_TASK = 16
_BYTES_PER_READ = 2**22
_DECODED, _PARTIAL = '.u8', '.part'
# The image files of each split, in the order of the files.
Paths = Mapping[str, Sequence[pathlib.Path]]


class Decoded(NamedTuple):
  """Decoded images.

  Attributes:
    file: the open file, with the images of each split, one after another.
    image_shape: (H, W, C).
    counts: the number of images by split, in the order of the file.
    digests: the `array_digest` of the images [N, H, W, C] by split.
  """

  file: images_on_disk.OpenFile
  image_shape: tuple[int, ...]
  counts: dict[str, int]
  digests: dict[str, str]

  def images(
    self, split: str, order: np.ndarray, limit: float
  ) -> np.ndarray | images_on_disk.DecodedImages:
    """Returns the images of a split.

    Args:
      split: the name of the split.
      order: int [N], the positions of the images in the order of the files.
      limit: bytes above which the images stay on disk.
    Raises:
      UserError: if images that should be in memory do not fit.
    """
    splits = [*self.counts]
    before = sum(self.counts[s] for s in splits[: splits.index(split)])
    images = images_on_disk.DecodedImages(
      self.file, self.image_shape, order + before
    )
    if images.nbytes > limit:
      return images
    _check_memory(len(images), self.image_shape)
    return images[:]


class Place:
  """The place of the decoded images of a folder."""

  def __init__(
    self,
    folder: pathlib.Path,
    paths: Paths,
    image_size: int,
    data_dir: pathlib.Path,
    shape: Sequence[int] = (),
  ):
    """Finds the place; reads the size and the times of each image file.

    Args:
      folder: the folder of the data set.
      paths: its image files.
      image_size: side in pixels of the results; see `image_files.as_array`.
      data_dir: the data folder.
      shape: the shape (H, W, C) of the results, if other data determine it.
    """
    self.folder, self.paths = folder, paths
    self._image_size, self._data_dir = image_size, data_dir
    self._counts = {split: len(files) for split, files in paths.items()}
    name = _digest([os.path.realpath(folder), image_size, *shape])
    self._name = f'images-{name[:16]}'
    self._record = data_dir / '.kd_jax' / f'{self._name}.npz'
    self._key = _digest(
      [ordering.VERSION, PIL.__version__, *_states(folder, paths)]
    )
    self._decoded = self._record.with_name(
      f'{self._name}-{self._key[:16]}{_DECODED}'
    )

  def find(self) -> Decoded | None:
    """Returns the images that are decoded already; None if there are none."""
    try:
      # The zip archive has checksums, so that NumPy detects damaged arrays.
      with (
        local_paths.open_regular(self._record) as file,
        np.load(file, allow_pickle=False) as stored,
      ):
        if str(stored['key']) != self._key:
          return None
        shape = tuple(npz_files.array_of(stored, 'image_shape').tolist())
        digests = npz_files.array_of(stored, 'digests').tolist()
        found = dict(zip(self._counts, digests, strict=True))
      opened = images_on_disk.OpenFile(self._decoded)
    except Exception:  # NumPy, zipfile and the system raise many types.
      return None
    decoded = Decoded(opened, shape, self._counts, found)
    if _hash(decoded) == found:
      return decoded
    logging.warning(
      '%s is damaged: the images are decoded again', self._decoded
    )
    return None

  def decode(self, shape: Sequence[int], like: str) -> Decoded:
    """Decodes all images, or finds those that another process has decoded.

    Args:
      shape: (H, W, C) of each image.
      like: what has this shape, for error messages.
    Raises:
      DataError: if an image cannot be used; names the image.
      OSError: if the data folder cannot be written, or has no space.
    """
    with preparation_lock.hold(self._data_dir, self._name):
      return self.find() or self._decode(tuple(shape), like)

  def _decode(self, shape: tuple[int, ...], like: str) -> Decoded:
    """Decodes all images; another process waits."""
    kept = self._record.parent.glob(f'{self._name}-*{_DECODED}*')
    # Other image files, or a process that was killed, have left these.
    for old in kept:
      old.unlink()
    paths = [path for split in self.paths.values() for path in split]
    needed = len(paths) * int(np.prod(shape, dtype=np.int64))
    free = shutil.disk_usage(self._record.parent).free
    if needed > free:
      raise OSError(
        f'{self._record.parent} has {free / 2**30:.1f} GiB left, and the '
        f'decoded images take {needed / 2**30:.1f} GiB'
      )
    partial = self._decoded.with_name(self._decoded.name + _PARTIAL)
    try:
      with open(partial, 'wb') as file:
        _decode_into(file, paths, self._image_size, shape, like)
        os.fsync(file.fileno())
      os.replace(partial, self._decoded)
      opened = images_on_disk.OpenFile(self._decoded)
      decoded = Decoded(opened, shape, self._counts, {})
      decoded = decoded._replace(digests=_hash(decoded))
      self._write_record(decoded)
    except BaseException:
      with contextlib.suppress(OSError):
        partial.unlink(missing_ok=True)
      raise
    return decoded

  def _write_record(self, decoded: Decoded) -> None:
    partial = self._record.with_suffix(_PARTIAL)
    with open(partial, 'wb') as file:
      np.savez(
        file,
        key=self._key,
        image_shape=decoded.image_shape,
        digests=[*decoded.digests.values()],
      )
    os.replace(partial, self._record)


def find_or_decode(
  place: Place,
  get_shape: Callable[[], Sequence[int]],
  *,
  limit: float,
  like: str,
) -> Decoded | None:
  """Returns images that are kept in a file, or decodes them into it.

  Args:
    place: where the images are kept.
    get_shape: returns the shape (H, W, C) of each image.
    limit: bytes of a split above which its images must stay on disk.
    like: what has this shape, for error messages.
  Returns:
    The images; None if they are few, or if they cannot be kept and fit in
    memory.
  Raises:
    DataError: if the images do not fit in memory and cannot be kept, or if one
      cannot be used.
  """
  decoded = place.find()
  if decoded is not None:
    return decoded
  shape = get_shape()
  image_bytes = int(np.prod(shape, dtype=np.int64))
  splits = [len(paths) * image_bytes for paths in place.paths.values()]
  if sum(splits) < LEAST_BYTES or image_bytes > MOST_IMAGE_BYTES:
    return None
  for paths in place.paths.values():  # Before minutes of decoding.
    if len(paths) * image_bytes <= limit:
      _check_memory(len(paths), shape)
  try:
    return place.decode(shape, like)
  except OSError as error:
    if max(splits) > limit:
      raise DataError(
        f'the decoded images of {place.folder} cannot be kept ({error}), and '
        'are larger than config.data.memory_gib: give a data folder with more '
        'space (--data_dir), or a smaller config.data.image_size'
      ) from None
    logging.warning(
      'the decoded images of %s cannot be kept, and will be decoded again '
      'next time: %s',
      place.folder,
      error,
    )
    return None


def _check_memory(count: int, shape: Sequence[int]) -> None:
  """Checks that images of a shape fit in memory, before they are read."""
  image_files.check_memory(
    count, shape, 'lower config.data.memory_gib, which leaves them on disk'
  )


def _states(folder: pathlib.Path, paths: Paths) -> Iterator[object]:
  """Yields what changes if an image file changes.

  The time of the last change of an inode tells of files that were written and
  then got their old time back, as copies do.
  """
  for split, files in paths.items():
    for path in files:
      name = os.fsencode(path.relative_to(folder))
      try:
        state = path.stat()
      except OSError:  # Decoding will name the file.
        yield split, name
      else:
        times = state.st_mtime_ns, state.st_ctime_ns
        yield split, name, state.st_size, times


def _digest(values: Sequence[object]) -> str:
  return hashlib.sha256(repr(values).encode()).hexdigest()


def _decode_into(
  file: IO[bytes],
  paths: Sequence[pathlib.Path],
  image_size: int,
  shape: Sequence[int],
  like: str,
) -> None:
  """Decodes images to their places in a file, with a thread for each core."""
  size = int(np.prod(shape, dtype=np.int64))

  def decode(start: int) -> int:
    task = paths[start : start + _IMAGES_PER_TASK]
    for index, path in enumerate(task, start):
      image = image_files.decode(
        str(path),
        path,
        image_size=image_size,
        is_gray=shape[-1] == 1,
        shape=shape,
        like=like,
      )
      content = np.ascontiguousarray(image).data
      if os.pwrite(file.fileno(), content, index * size) != size:
        raise OSError(f'{file.name}: no space left')
    return len(task)

  def each(pool: futures.Executor) -> Iterator[int]:
    for count in pool.map(decode, range(0, len(paths), _IMAGES_PER_TASK)):
      yield from range(count)

  # One thread a core: `ThreadPoolExecutor()` has four more, which hold images.
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for _ in progress.bar(each(pool), total=len(paths), desc='Decoding images'):
      pass


def _hash(decoded: Decoded) -> dict[str, str]:
  """Returns the digests of the images of each split in a file.

  A file that is too short has other digests.
  """
  digests, place = {}, 0
  buffer = memoryview(bytearray(_BYTES_PER_READ))
  for split, count in decoded.counts.items():
    shape = (count, *decoded.image_shape)
    sha = hashlib.sha256(array_header(np.dtype(np.uint8), shape))
    left = int(np.prod(shape, dtype=np.int64))
    while left:
      read = decoded.file.read_into(buffer[:left], place)
      if not read:
        break
      sha.update(buffer[:read])
      left, place = left - read, place + read
    digests[split] = sha.hexdigest()
  return digests
