"""Packs CIFAR-10 into two small files, and reads it back.

The files go to a machine that takes few bytes. Images are compressed without
loss by WebP, to about 1.7 KB each. The arrays are checked against their digests
when they are loaded.
"""

import io
import multiprocessing
import pathlib
import shutil
from concurrent import futures

import harness  # noqa: F401  (adds the project to the import path)
import numpy as np
from PIL import Image

from kd_jax import data
from kd_jax.data.builtin import array_cache, specs

SPEC = specs.SPECS['cifar10']
PARTS = 2
_SPLITS = ('train', 'test')
# Fewer images than this are decoded before a second process has started.
_FEW = 10_000


def pack_prepared(folder: pathlib.Path, data_dir: str | None) -> None:
  """Packs the prepared data set; prepares it if necessary."""
  dataset = data.load(SPEC.name, data_dir=data_dir)
  arrays = {}
  for split in _SPLITS:
    arrays[f'{split}_images'] = np.asarray(getattr(dataset, split).images)
    arrays[f'{split}_labels'] = np.asarray(getattr(dataset, split).labels)
  pack(arrays, folder)


def take_in(source: pathlib.Path, work_dir: pathlib.Path) -> None:
  """Copies the parts that a folder holds; unpacks them once all are copied."""
  parts = work_dir / 'parts'
  parts.mkdir(parents=True, exist_ok=True)
  for path in source.glob('part-*.npz'):
    shutil.copy(path, parts)
  if len(list(parts.iterdir())) == PARTS:
    unpack(parts, work_dir / 'data')


def pack(arrays: dict[str, np.ndarray], folder: pathlib.Path) -> list[int]:
  """Writes arrays as `part-0.npz`, ..., with an equal share of every array.

  Args:
    arrays: images uint8 [N, H, W, C] and labels [N] of both splits, by the
      names of `SPEC.array_digests`.
    folder: folder for the parts; created if necessary.
  Returns:
    The bytes of each part.
  """
  folder.mkdir(parents=True, exist_ok=True)
  sizes = []
  for part in range(PARTS):
    contents: dict[str, np.ndarray] = {}
    for split in _SPLITS:
      chosen = _chosen(len(arrays[f'{split}_labels']), part)
      blobs = [_encode(image) for image in arrays[f'{split}_images'][chosen]]
      contents[f'{split}_labels'] = arrays[f'{split}_labels'][chosen]
      contents[f'{split}_sizes'] = np.array([len(blob) for blob in blobs])
      contents[f'{split}_blobs'] = np.frombuffer(b''.join(blobs), np.uint8)
    path = folder / f'part-{part}.npz'
    # NumPy's types take the arrays for the flag `allow_pickle`.
    np.savez(path, **contents)  # type: ignore[arg-type]
    sizes.append(path.stat().st_size)
  return sizes


def unpack(folder: pathlib.Path, data_dir: pathlib.Path) -> None:
  """Writes the parts of a folder as the arrays of a data folder.

  Args:
    folder: the folder of all parts.
    data_dir: value of `--data_dir` of launch.py.
  """
  parts = [np.load(folder / f'part-{part}.npz') for part in range(PARTS)]
  arrays = {}
  for split in _SPLITS:
    images = _interleave([_decode_all(part, split) for part in parts])
    arrays[f'{split}_images'] = images
    arrays[f'{split}_labels'] = _interleave(
      [part[f'{split}_labels'] for part in parts]
    )
  folder_of_arrays = data_dir / SPEC.name / specs.VERSION
  folder_of_arrays.mkdir(parents=True, exist_ok=True)
  array_cache.write(folder_of_arrays, arrays)


def _chosen(count: int, part: int) -> np.ndarray:
  return np.arange(part, count, PARTS)


def _interleave(parts: list[np.ndarray]) -> np.ndarray:
  """Returns the array whose shares, by `_chosen`, are the parts."""
  count = sum(map(len, parts))
  whole = np.empty((count, *parts[0].shape[1:]), parts[0].dtype)
  for part, array in enumerate(parts):
    whole[_chosen(count, part)] = array
  return whole


def _encode(image: np.ndarray) -> bytes:
  content = io.BytesIO()
  Image.fromarray(image).save(content, 'webp', lossless=True)
  return content.getvalue()


def _decode(blob: bytes) -> np.ndarray:
  return np.asarray(Image.open(io.BytesIO(blob)).convert('RGB'))


def _decode_all(part: np.lib.npyio.NpzFile, split: str) -> np.ndarray:
  """Returns the images of a split that a part holds, uint8 [M, H, W, C]."""
  content = part[f'{split}_blobs'].tobytes()
  ends = np.cumsum(part[f'{split}_sizes'])
  blobs = [
    content[end - size : end]
    for end, size in zip(ends, part[f'{split}_sizes'], strict=True)
  ]
  if len(blobs) < _FEW:
    return np.stack(list(map(_decode, blobs)))
  # Pillow decodes one image at a time in a process.
  spawn = multiprocessing.get_context('spawn')
  with futures.ProcessPoolExecutor(mp_context=spawn) as pool:
    return np.stack(list(pool.map(_decode, blobs, chunksize=1000)))
