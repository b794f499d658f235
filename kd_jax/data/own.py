"""Data sets of the user's own: an .npz file, a folder of images, or TFDS.

Every mistake is named by file and example before anything is computed.
"""

import functools
import io
import pathlib
from collections.abc import Sequence
from concurrent import futures

import numpy as np
from PIL import Image, ImageOps

from kd_jax.data import on_disk, progress, tfds_folder
from kd_jax.data.dataset import (
  Arrays,
  DataError,
  Dataset,
  Split,
  array_digest,
  dataset_digest,
  make_dataset,
  named_arrays,
)

_TFDS = 'tfds:'
_SUFFIXES = ('.png', '.jpg', '.jpeg')
_NAMES = ('train_images', 'train_labels', 'test_images', 'test_labels')
# Splits that students are tested on, the first that is there.
_TESTS = ('test', 'val', 'validation')
_SPLITS = ('train', 'test')
_GRAY = ('L', '1')  # Pillow's names for modes without color


def load(
  name: str, data_dir: pathlib.Path, image_size: int, memory_gib: float
) -> Dataset:
  """Loads a data set of the user's own.

  Args:
    name: FILE.npz with train_images, train_labels, test_images and test_labels;
      a folder with train/CLASS/*.png (or .jpg) and test/CLASS/*.png; a folder
      that TFDS has prepared; or tfds:NAME, which TFDS prepares in `data_dir`.
    data_dir: where TFDS keeps what it has prepared.
    image_size: images of files are cropped to a square around their middle, and
      resized to this side; 0 to take them as they are, all of one size.
    memory_gib: training images that would take more are left in TFDS' files,
      and are an `on_disk.Images`.
  Raises:
    DataError: naming what is wrong, and where.
  """
  path = pathlib.Path(name).expanduser()
  own_name, digest = path.name.removesuffix('.npz'), None
  if name.endswith('.npz'):
    if image_size:
      raise DataError(
        f'{name} holds arrays, which are taken as they are: '
        'config.data.image_size=0'
      )
    arrays, class_names = _read_npz(path), ()
  elif name.startswith(_TFDS) or (path / 'dataset_info.json').is_file():
    if name.startswith(_TFDS):
      path = tfds_folder.prepare(name.removeprefix(_TFDS), data_dir)
    content = tfds_folder.open_folder(path, _TESTS)
    own_name, class_names = content.name, content.class_names
    arrays = _read_tfds(content, image_size, memory_gib, data_dir)
    if isinstance(arrays['train_images'], on_disk.Images):
      digest = _digest_of_files(content, arrays, image_size)
  else:
    arrays, class_names = _read_folder(path, image_size)
  _check_labels(arrays, class_names, name)
  return make_dataset(
    own_name,
    arrays,
    num_classes=len(class_names)
    or 1 + int(max(arrays[f'{split}_labels'].max() for split in _SPLITS)),
    digest=digest or dataset_digest(map(array_digest, arrays.values())),
    class_names=class_names,
  )


def _check_labels(arrays: Arrays, class_names, name: str) -> None:
  for split in _SPLITS:
    labels = arrays[f'{split}_labels']
    if not len(labels):
      raise DataError(f'{name}: {split} holds no examples')
    wrong = labels < 0
    if class_names:
      wrong |= labels >= len(class_names)
    if wrong.any():
      first = int(np.argmax(wrong))
      raise DataError(
        f'{name}: {split}_labels[{first}] is {labels[first]}; expected whole '
        'numbers from 0 on'
      )


# --- Arrays. ---


def _read_npz(path: pathlib.Path) -> Arrays:
  try:
    with open(path, 'rb') as file, np.load(file, allow_pickle=False) as content:
      missing = [name for name in _NAMES if name not in content.files]
      if missing:
        raise DataError(
          f'{path} lacks {", ".join(missing)}; it holds '
          f'{", ".join(content.files)}'
        )
      arrays = {name: content[name] for name in _NAMES}
  except FileNotFoundError:
    raise DataError(f'there is no file {path}') from None
  except DataError:
    raise
  except Exception as error:  # Of NumPy, zipfile, zlib: each has its own.
    raise DataError(
      f'{path} is not a sound .npz file: {error or type(error).__name__}'
    ) from None
  for split in _SPLITS:
    arrays[f'{split}_images'] = _as_images(
      arrays[f'{split}_images'], f'{path}: {split}_images'
    )
    arrays[f'{split}_labels'] = _as_labels(
      arrays[f'{split}_labels'],
      len(arrays[f'{split}_images']),
      f'{path}: {split}_labels',
    )
  shapes = [arrays[f'{split}_images'].shape[1:] for split in _SPLITS]
  if shapes[0] != shapes[1]:
    raise DataError(
      f'{path}: train_images are {shapes[0]}, test_images {shapes[1]}'
    )
  return arrays


def _as_images(array: np.ndarray, name: str) -> np.ndarray:
  if array.dtype != np.uint8 or array.ndim not in (3, 4):
    raise DataError(
      f'{name} are {array.dtype} {list(array.shape)}; expected uint8 '
      '[N, H, W, C] or [N, H, W], of values from 0 to 255'
    )
  return array if array.ndim == 4 else array[..., None]


def _as_labels(array: np.ndarray, count: int, name: str) -> np.ndarray:
  if array.ndim == 2 and array.shape[1] == 1:
    array = array[:, 0]
  if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
    raise DataError(
      f'{name} are {array.dtype} {list(array.shape)}; expected whole numbers '
      f'[{count}], one for each image'
    )
  kept = np.iinfo(np.int32)
  beyond = (array > kept.max) | (array < kept.min)
  if beyond.any():
    first = int(np.argmax(beyond))
    raise DataError(f'{name}[{first}] is {array[first]}; expected classes')
  return array.astype(np.int32)


# --- Files. ---


def _read_folder(
  folder: pathlib.Path, image_size: int
) -> tuple[Arrays, tuple[str, ...]]:
  parts = [folder / 'train']
  parts += [folder / name for name in _TESTS if (folder / name).is_dir()][:1]
  if len(parts) < 2 or not parts[0].is_dir():
    raise DataError(
      f'{folder} holds no train/ and test/ (or val/), with a folder of PNG or '
      'JPEG files for each class in them'
    )
  class_names = tuple(
    sorted(
      path.name
      for path in parts[0].iterdir()
      # No class is hidden, as folders of programs are.
      if path.is_dir() and not path.name.startswith('.')
    )
  )
  decode = functools.partial(_decode_all, image_size=image_size)
  splits, like = [], None
  for part in parts:
    files, labels = _list_classes(part, class_names)
    images = decode([str(file) for file in files], files, like=like)
    like = images[:1]
    splits.append(Split(images, np.asarray(labels, np.int32)))
  return named_arrays(*splits), class_names


def _list_classes(
  part: pathlib.Path, class_names: Sequence[str]
) -> tuple[list[pathlib.Path], list[int]]:
  """Returns the images of a split and their labels, by class and by name."""
  unknown = sorted(
    path.name
    for path in part.iterdir()
    if path.is_dir()
    and path.name not in class_names
    and not path.name.startswith('.')
  )
  if unknown:
    raise DataError(
      f'{part} has classes that train/ has not: {", ".join(unknown)}'
    )
  files, labels = [], []
  for label, name in enumerate(class_names):
    found = sorted(
      path
      for path in (part / name).glob('*')
      if path.suffix.lower() in _SUFFIXES
    )
    files += found
    labels += [label] * len(found)
  if not files:
    raise DataError(
      f'{part} holds no images: expected CLASS/*{", *".join(_SUFFIXES)}'
    )
  return files, labels


def _read_tfds(
  content: tfds_folder.Content,
  image_size: int,
  memory_gib: float,
  data_dir: pathlib.Path,
) -> Arrays:
  """Returns the arrays of a prepared folder, the training images perhaps not.

  What is read of those that are left on disk is their labels, once.
  """
  test = tfds_folder.read_encoded(content.test, content)
  test_images = _decode_all(
    test.names,
    [io.BytesIO(image) for image in test.images],
    image_size=image_size,
    like=None,
  )
  shape = test_images.shape[1:]
  size = content.train.num_examples * int(np.prod(shape))
  if size > memory_gib * 2**30:
    train = Split(
      on_disk.Images(
        content.train.paths,
        functools.partial(_decode_record, content, image_size, shape),
        shape,
      ),
      tfds_folder.read_labels(content.train, content, data_dir),
    )
  else:
    encoded = tfds_folder.read_encoded(content.train, content)
    images = _decode_all(
      encoded.names,
      [io.BytesIO(image) for image in encoded.images],
      image_size=image_size,
      like=test_images,
    )
    train = Split(images, np.asarray(encoded.labels, np.int32))
  labels = np.asarray(test.labels, np.int32)
  return named_arrays(train, Split(test_images, labels))


def _decode_record(
  content: tfds_folder.Content,
  image_size: int,
  shape: Sequence[int],
  record: bytes,
  name: str,
) -> np.ndarray:
  name = f'{content.folder}, {name} of train'
  file = io.BytesIO(tfds_folder.image_of(record, content))
  image = decode(name, file, image_size, shape[-1] == 1)
  if image.shape != tuple(shape):
    raise _other_size(name, image.shape, shape)
  return image


def _digest_of_files(
  content: tfds_folder.Content, arrays: Arrays, image_size: int
) -> str:
  """Returns what stands for the arrays of data that is too large to be read.

  That is the training labels, the test split, and the names and sizes of files.
  """
  files = [(path.name, path.stat().st_size) for path in content.train.paths]
  small = [arrays[name] for name in _NAMES if name != 'train_images']
  return dataset_digest([repr((files, image_size)), *map(array_digest, small)])


def _decode_all(
  names: Sequence[str],
  files: Sequence[pathlib.Path | io.BytesIO],
  *,
  image_size: int,
  like: np.ndarray | None,
) -> np.ndarray:
  """Returns images uint8 [N, H, W, C], shaped as `like` or as the first.

  All are gray if that one is.
  """
  is_gray = None if like is None else like.shape[-1] == 1
  first = decode(names[0], files[0], image_size, is_gray)
  shape = first.shape if like is None else like.shape[1:]
  images = np.empty((len(files), *shape), np.uint8)

  def put(index: int) -> None:
    image = decode(names[index], files[index], image_size, shape[-1] == 1)
    if image.shape != shape:
      raise _other_size(names[index], image.shape, shape)
    images[index] = image

  with futures.ThreadPoolExecutor() as pool:
    done = pool.map(put, range(len(files)))
    for _ in progress.bar(done, total=len(files), desc='Decoding images'):
      pass
  return images


def _other_size(
  name: str, own: Sequence[int], first: Sequence[int]
) -> DataError:
  return DataError(
    f'{name} is {_size(own)}, and the first image {_size(first)}: '
    '--config.data.image_size=N crops and resizes all of them to N x N'
  )


def _size(shape: Sequence[int]) -> str:
  return f'{shape[1]} x {shape[0]}'


def decode(
  name: str,
  file: pathlib.Path | io.BytesIO,
  image_size: int,
  is_gray: bool | None,
) -> np.ndarray:
  """Returns an image as uint8 [H, W, C].

  Args:
    name: of it, for errors.
    file: a PNG or JPEG.
    image_size: see `load`.
    is_gray: whether C is to be 1, or 3; None for what the image has.
  """
  try:
    with Image.open(file, formats=('PNG', 'JPEG')) as image:
      # Pillow refuses what is twice as large, and only warns of this.
      if image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise DataError(f'is too large: {image.width} x {image.height} pixels')
      if image.mode.startswith(('I', 'F')):
        raise DataError('has more than 8 bits a pixel and color: convert it')
      if is_gray is None:
        is_gray = image.mode in _GRAY
      if is_gray and image.mode not in _GRAY:
        raise DataError('has colors, and the first image has none')
      image = ImageOps.exif_transpose(image)
      image = image.convert('L' if is_gray else 'RGB')
      if image_size:
        image = ImageOps.fit(image, (image_size, image_size))
      array = np.asarray(image)
  except Exception as error:  # Pillow raises many kinds.
    raise DataError(f'{name}: {error or type(error).__name__}') from None
  return array[..., None] if is_gray else array
