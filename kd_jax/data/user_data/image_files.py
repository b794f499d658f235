"""Decodes PNG and JPEG images into arrays."""

import io
import pathlib
from collections.abc import Sequence
from concurrent import futures

import numpy as np
from PIL import Image, ImageOps

from kd_jax.data import progress
from kd_jax.data.dataset import DataError, error_text
from kd_jax.runtime import host_memory, local_paths

SUFFIXES = ('.png', '.jpg', '.jpeg')
_FORMATS = ('PNG', 'JPEG')
_GRAY_MODES = ('L', 'LA', '1')  # Pillow's names of the modes without color.
File = pathlib.Path | io.BytesIO


def open_image(name: str, file: File) -> Image.Image:
  """Returns a PNG or JPEG image, rotated as its EXIF orientation says.

  Args:
    name: the name of the image for error messages.
    file: the path or the content of the image.
  Returns:
    The decoded image.
  Raises:
    DataError: if the file is damaged or has another format, or if the image is
      too large or has more than 8 bits per channel; names the image.
  """
  if isinstance(file, pathlib.Path):
    local_paths.check_regular(file, name)
  try:
    with Image.open(file, formats=_FORMATS) as image:
      # Pillow raises an error only above twice this limit; below, it warns.
      limit = Image.MAX_IMAGE_PIXELS
      if limit is not None and image.width * image.height > limit:
        raise DataError(f'is too large: {image.width} x {image.height} pixels')
      if image.mode.startswith(('I', 'F')) or _has_16_bits(image):
        raise DataError('has more than 8 bits per channel: convert it to 8')
      image.load()
      ImageOps.exif_transpose(image, in_place=True)
      return image
  except Exception as error:  # Pillow raises many types of errors.
    raise DataError(f'{name}: {error_text(error)}') from None


def _has_16_bits(image: Image.Image) -> bool:
  """Returns whether the file has 16 bits per channel, in any mode.

  Pillow opens 16-bit PNG files with colors in an 8-bit mode, and drops bits.
  """
  return any(';16' in str(tile.args) for tile in getattr(image, 'tile', ()))


def _over_white(image: Image.Image) -> Image.Image:
  """Returns an image with transparency as it looks on a white background.

  Without this, the result would show the colors of invisible pixels: an icon
  drawn in black on nothing is often black everywhere.
  """
  image = image.convert('RGBA')
  return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)


def as_array(image: Image.Image, image_size: int, is_gray: bool) -> np.ndarray:
  """Converts an image to an array, cropped and resized on request.

  Transparent images are shown on a white background.

  Args:
    image: an image of any mode.
    image_size: side in pixels of the result: the image is cropped to a square
      around its middle and resized; 0 keeps its size.
    is_gray: whether the result has one channel instead of three.
  Returns:
    uint8 [H, W, 1 or 3].
  """
  mode = 'L' if is_gray else 'RGB'
  if image.has_transparency_data:
    image = _over_white(image)
  if image.mode != mode:  # `convert` copies an image even if the modes agree.
    image = image.convert(mode)
  if image_size:
    image = ImageOps.fit(image, (image_size, image_size))
  array = np.asarray(image)
  return array[..., None] if is_gray else array


def decode(
  name: str,
  file: File,
  *,
  image_size: int,
  is_gray: bool,
  shape: Sequence[int] | None = None,
  like: str = 'an image of train',
) -> np.ndarray:
  """Decodes an image.

  Args:
    name: the name of the image for error messages.
    file: the path or the content of a PNG or JPEG image.
    image_size: side in pixels of the result; see `as_array`.
    is_gray: whether the image must be gray; the result then has one channel.
    shape: the expected (H, W, C); None accepts any size.
    like: what has this shape, for error messages.
  Returns:
    uint8 [H, W, C].
  Raises:
    DataError: if the image cannot be decoded, has colors although `is_gray`, or
      has another shape; names the image.
  """
  if image_size and shape is None:  # An image before all others.
    check_memory(1, (image_size, image_size, 1 if is_gray else 3))
  image = open_image(name, file)
  if is_gray and image.mode not in _GRAY_MODES:
    raise DataError(f'{name}: has colors, but the data set is declared gray')
  array = as_array(image, image_size, is_gray)
  if shape is not None and array.shape != tuple(shape):
    raise DataError(
      f'{name} is {_width_by_height(array.shape)}, but {like} is '
      f'{_width_by_height(shape)}: --config.data.image_size=N crops and '
      'resizes all images to N x N'
    )
  return array


def _width_by_height(shape: Sequence[int]) -> str:
  return f'{shape[1]} x {shape[0]}'


def decode_all(
  names: Sequence[str],
  files: Sequence[File],
  *,
  image_size: int,
  is_gray: bool,
  shape: Sequence[int] | None = None,
) -> np.ndarray:
  """Decodes images of one shape with several threads.

  Args:
    names: the name of each image for error messages.
    files: the path or the content of each image.
    image_size: side in pixels of the results; see `as_array`.
    is_gray: whether all images must be gray; see `decode`.
    shape: the expected (H, W, C); None for the shape of the first image.
  Returns:
    uint8 [N, H, W, C].
  Raises:
    DataError: as in `decode`.
  """
  like = 'an image of train'
  if image_size:
    check_memory(len(files), (image_size, image_size, 1 if is_gray else 3))
  if shape is None:
    like = names[0]
    first = decode(names[0], files[0], image_size=image_size, is_gray=is_gray)
    shape = first.shape
  check_memory(len(files), shape)
  images = np.empty((len(files), *shape), np.uint8)

  def decode_into(index: int) -> None:
    images[index] = decode(
      names[index],
      files[index],
      image_size=image_size,
      is_gray=is_gray,
      shape=shape,
      like=like,
    )

  with futures.ThreadPoolExecutor() as pool:
    done = pool.map(decode_into, range(len(files)))
    for _ in progress.bar(done, total=len(files), desc='Decoding images'):
      pass
  return images


def check_memory(
  count: int,
  shape: Sequence[int],
  mend: str = 'choose a smaller config.data.image_size, or fewer images',
) -> None:
  """Checks that images fit in memory, before they are decoded.

  Args:
    count: the number of images.
    shape: (H, W, C) of each image.
    mend: what the user can do.
  Raises:
    UserError: if there is less memory than needed.
  """
  host_memory.check_available(
    count * int(np.prod(shape, dtype=np.int64)),
    f'{count:,} images of {_width_by_height(shape)} pixels',
    mend,
  )


def open_header(path: pathlib.Path) -> Image.Image:
  """Opens an image file without decoding it; the caller closes it.

  Raises:
    DataError: if the path is no file.
    OSError: if the file is no image.
  """
  local_paths.check_regular(path, 'an image')
  return Image.open(path, formats=_FORMATS)


def are_gray(paths: Sequence[pathlib.Path]) -> bool:
  """Returns whether the headers of all images say that they have no color."""

  def is_gray(path: pathlib.Path) -> bool:
    try:
      with open_header(path) as image:
        return image.mode in _GRAY_MODES
    except Exception:  # Decoding the image will report the error.
      return True

  with futures.ThreadPoolExecutor() as pool:
    return all(pool.map(is_gray, paths))
