"""Data sets of the user's own: an .npz file, a folder of images, or TFDS.

Every mistake is named by file and example before anything is computed.
"""

import functools
import io
import pathlib
from collections.abc import Sequence
from concurrent import futures

import numpy as np
from absl import logging
from PIL import Image, ImageOps

from kd_jax.data import images_on_disk, progress, tfds_folder
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
_FORMATS = ('PNG', 'JPEG')
_NAMES = ('train_images', 'train_labels', 'test_images', 'test_labels')
# Splits that students are tested on, the first that is there.
_TESTS = ('test', 'val', 'validation')
_SPLITS = ('train', 'test')
_GRAY = ('L', 'LA', '1')  # Pillow's names for modes without color


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
      and are an `images_on_disk.Images`.
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
    arrays, digest = _read_tfds(content, image_size, memory_gib, data_dir)
  else:
    arrays, class_names = _read_folder(path, image_size)
  _check_labels(arrays, class_names, name)
  return make_dataset(
    own_name,
    arrays,
    num_classes=len(class_names) or 1 + int(arrays['train_labels'].max()),
    digest=digest or dataset_digest(map(array_digest, arrays.values())),
    class_names=class_names,
  )


def _check_labels(arrays: Arrays, class_names, name: str) -> None:
  """Refuses labels of no class, and classes that nobody can learn.

  Without names of classes there are as many as the training labels have.
  """
  train = arrays['train_labels']
  for split in _SPLITS:
    if not len(arrays[f'{split}_labels']):
      raise DataError(f'{name}: {split} holds no examples')
  num_classes = len(class_names) or 1 + int(train.max())
  for split in _SPLITS:
    labels = arrays[f'{split}_labels']
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
      first = int(np.argmax(wrong))
      raise DataError(
        f'{name}: {split}_labels[{first}] is {labels[first]}; expected whole '
        f'numbers from 0 to {num_classes - 1}, the largest to be trained on'
      )
  if class_names:  # Where there may be more than there are examples of.
    return
  known = np.unique(train)
  if len(known) < num_classes:
    empty = int(np.argmax(known != np.arange(len(known))))
    first = int(np.argmax(train > empty))
    raise DataError(
      f'{name}: train_labels[{first}] is {train[first]}, and none is {empty}; '
      'expected whole numbers from 0 on, each class with an example'
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
      f'{path} is not a sound .npz file: {str(error) or type(error).__name__}'
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
  listed = [_list_classes(part, class_names) for part in parts]
  missing = sorted({*range(len(class_names))} - {*listed[0][1]})
  if missing:
    raise DataError(
      f'{parts[0] / class_names[missing[0]]} holds no images: expected '
      f'*{", *".join(_SUFFIXES)}, or no such folder'
    )
  is_gray = _are_gray([file for files, _ in listed for file in files])
  splits, shape = [], None
  for files, labels in listed:
    images = _decode_all(
      [str(file) for file in files],
      files,
      image_size=image_size,
      is_gray=is_gray,
      shape=shape,
    )
    shape = images.shape[1:]
    splits.append(Split(images, np.asarray(labels, np.int32)))
  return named_arrays(*splits), class_names


def _are_gray(files: Sequence[pathlib.Path]) -> bool:
  """Whether none of the images has colors, as their headers say."""

  def is_gray(file: pathlib.Path) -> bool:
    try:
      with Image.open(file, formats=_FORMATS) as image:
        return image.mode in _GRAY
    except Exception:  # Said when it is decoded.
      return True

  with futures.ThreadPoolExecutor() as pool:
    return all(pool.map(is_gray, files))


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
  files, labels, others = [], [], []
  for label, name in enumerate(class_names):
    if not (part / name).is_dir():
      continue
    # Hidden ones are what systems leave beside them, as `._001.png`.
    paths = [p for p in (part / name).iterdir() if not p.name.startswith('.')]
    found = sorted(p for p in paths if p.suffix.lower() in _SUFFIXES)
    others += sorted({*paths} - {*found})
    files += found
    labels += [label] * len(found)
  if not files:
    raise DataError(
      f'{part} holds no images: expected CLASS/*{", *".join(_SUFFIXES)}'
    )
  if others:
    logging.warning(
      '%s: %d files and folders are no PNG or JPEG, and left out, such as %s',
      part,
      len(others),
      others[0],
    )
  return files, labels


def _read_tfds(
  content: tfds_folder.Content,
  image_size: int,
  memory_gib: float,
  data_dir: pathlib.Path,
) -> tuple[Arrays, str]:
  """Returns the arrays of a prepared folder, the training images perhaps not.

  What is read of those that are left on disk is their labels, once. With them
  comes the data's digest, which is that of its records, wherever they lie.
  """
  test = tfds_folder.read_encoded(content.test, content)
  test_images = _decode_all(
    test.names,
    [io.BytesIO(image) for image in test.images],
    image_size=image_size,
    is_gray=content.is_gray,
  )
  shape = test_images.shape[1:]
  size = content.train.num_examples * int(np.prod(shape))
  if size > memory_gib * 2**30:
    images = images_on_disk.Images(
      content.train.paths,
      functools.partial(_decode_record, content, image_size, shape),
      shape,
    )
    labels, digest = tfds_folder.read_labels(content.train, content, data_dir)
  else:
    encoded = tfds_folder.read_encoded(content.train, content)
    images = _decode_all(
      encoded.names,
      [io.BytesIO(image) for image in encoded.images],
      image_size=image_size,
      is_gray=content.is_gray,
      shape=shape,
    )
    labels, digest = np.asarray(encoded.labels, np.int32), encoded.digest
  arrays = named_arrays(
    Split(images, labels), Split(test_images, np.asarray(test.labels, np.int32))
  )
  return arrays, dataset_digest([digest, test.digest, repr(image_size)])


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


def _decode_all(
  names: Sequence[str],
  files: Sequence[pathlib.Path | io.BytesIO],
  *,
  image_size: int,
  is_gray: bool,
  shape: Sequence[int] | None = None,
) -> np.ndarray:
  """Returns images uint8 [N, H, W, C], of a shape or of that of the first."""
  if shape is None:
    shape = decode(names[0], files[0], image_size, is_gray).shape
  images = np.empty((len(files), *shape), np.uint8)

  def put(index: int) -> None:
    image = decode(names[index], files[index], image_size, is_gray)
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
  is_gray: bool,
) -> np.ndarray:
  """Returns an image as uint8 [H, W, C].

  Args:
    name: of it, for errors.
    file: a PNG or JPEG.
    image_size: see `load`.
    is_gray: whether C is to be 1, or 3.
  """
  image = open_image(name, file)
  if is_gray and image.mode not in _GRAY:
    raise DataError(f'{name}: has colors, which the data set says it has not')
  return as_array(image, image_size, is_gray)


def open_image(name: str, file: pathlib.Path | io.BytesIO) -> Image.Image:
  """Returns a PNG or JPEG, turned as its camera was.

  Raises:
    DataError: naming it, if it is neither, too large, or of more than 8 bits.
  """
  try:
    with Image.open(file, formats=_FORMATS) as image:
      # Pillow refuses what is twice as large, and only warns of this.
      if image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise DataError(f'is too large: {image.width} x {image.height} pixels')
      if image.mode.startswith(('I', 'F')):
        raise DataError('has more than 8 bits a pixel and color: convert it')
      image.load()
      ImageOps.exif_transpose(image, in_place=True)
      return image
  except Exception as error:  # Pillow raises many kinds.
    raise DataError(f'{name}: {str(error) or type(error).__name__}') from None


def as_array(image: Image.Image, image_size: int, is_gray: bool) -> np.ndarray:
  """Returns uint8 [H, W, 1 or 3], cropped and resized to a side if not 0."""
  mode = 'L' if is_gray else 'RGB'
  if image.mode != mode:  # Else it would be copied.
    image = image.convert(mode)
  if image_size:
    image = ImageOps.fit(image, (image_size, image_size))
  array = np.asarray(image)
  return array[..., None] if is_gray else array
