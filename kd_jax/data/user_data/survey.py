"""A quick look at the user's data: how many images, and of which size.

A recipe chooses its defaults by this look, before the data is loaded. It reads
directories and headers, and at most one image.
"""

import pathlib
import zipfile
from collections.abc import Sequence
from concurrent import futures
from typing import NamedTuple

from kd_jax.data.dataset import DataError
from kd_jax.data.user_data import image_files, image_folders, npz_files
from kd_jax.runtime import local_paths, suggestions

# Images of a folder whose headers are read, spread evenly over the classes.
_HEADERS_READ = 2000
_ORIENTATION = 0x0112  # The EXIF tag.
_ON_THEIR_SIDE = (5, 6, 7, 8)  # Orientations that swap height and width.


class Survey(NamedTuple):
  """The result of a quick look at the user's data.

  Attributes:
    train_examples: the number of training images.
    has_test: whether there is a test split.
    sizes: (height, width) in pixels of training images: of all, or of a sample.
    is_gray: whether all of these images are gray.
    can_resize: whether `data.image_size` applies to the data.
  """

  train_examples: int
  has_test: bool
  sizes: Sequence[tuple[int, int]]
  is_gray: bool
  can_resize: bool


def survey(name: str) -> Survey:
  """Looks at a data set of the user.

  Args:
    name: FILE.npz, a folder of images, or a folder that TFDS has prepared.
  Raises:
    DataError: if the data cannot be used, or `name` is something else.
  """
  path = local_paths.expand(name, 'data')
  if name.endswith('.npz'):
    return _survey_npz(path)
  if (path / 'dataset_info.json').is_file():
    return _survey_tfds(path)
  if path.is_dir():
    return _survey_folder(path)
  problem = ''
  if not path.exists():
    nearest = suggestions.nearest(path.name, _siblings(path))
    problem = f'there is no such folder{nearest}; '
  raise DataError(
    f'data={name}: {problem}expected FILE.npz, a folder of images, or a folder '
    'that TFDS has prepared: the defaults depend on the number and the size of '
    'the images, which are read before the data is loaded'
  )


def _siblings(path: pathlib.Path) -> list[str]:
  """Returns the names of what lies beside a path; [] if nothing can."""
  try:
    return [sibling.name for sibling in path.parent.iterdir()]
  except OSError:
    return []


def _survey_npz(path: pathlib.Path) -> Survey:
  """Looks at the headers of the arrays of an .npz file."""
  try:
    with zipfile.ZipFile(path) as archive:
      shape = npz_files.array_shape(archive, 'train_images')
      has_test = 'test_images.npy' in archive.namelist()
    count, height, width = shape[:3]
  except Exception as error:  # zipfile and NumPy raise many types of errors.
    npz_files.read(path, needs_test=False)  # Names the mistake.
    raise DataError(f'{path}: {error}') from None
  is_gray = len(shape) == 3 or shape[3] == 1
  return Survey(count, has_test, [(height, width)], is_gray, can_resize=False)


def _survey_tfds(path: pathlib.Path) -> Survey:
  """Looks at the metadata of a prepared folder, and at its first image."""
  # Other data sets need no TFDS.
  from kd_jax.data.user_data import tfds_folder, tfds_images

  folder = tfds_folder.open_folder(path, needs_test=False)
  height, width, channels = tfds_images.first_image_shape(folder, image_size=0)
  return Survey(
    folder.train.num_examples,
    folder.test is not None,
    [(height, width)],
    channels == 1,
    can_resize=True,
  )


def _survey_folder(path: pathlib.Path) -> Survey:
  """Looks at the headers of the images of a folder."""
  files = image_folders.list_files(path)
  train = files['train']
  step = -(-len(train) // _HEADERS_READ)
  with futures.ThreadPoolExecutor() as pool:
    sizes = [size for size in pool.map(_image_size, train[::step]) if size]
  if not sizes:
    raise DataError(f'{path}: no training image can be read')
  is_gray = image_files.are_gray(train[::step])
  return Survey(len(train), 'test' in files, sizes, is_gray, can_resize=True)


def _image_size(path: pathlib.Path) -> tuple[int, int] | None:
  """Returns the (height, width) of an image as it is shown; None if damaged."""
  try:
    with image_files.open_header(path) as image:
      if image.getexif().get(_ORIENTATION) in _ON_THEIR_SIDE:
        return image.width, image.height
      return image.height, image.width
  except Exception:  # Decoding the image will report the error.
    return None
