"""Classifies image files with an exported student.

  python -m kd_jax.predict ARTIFACT IMAGE...

A line for each: the file, the classes that are most likely, their
probabilities. Images are PNG or JPEG, of the size that the student was trained
on, or of any if those were cropped and resized; color becomes gray, or gray
color, as it needs.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_jax.data import image_files
from kd_jax.export import artifact
from kd_jax.runtime import compilation_cache, errors


def read_image(
  path: pathlib.Path, shape: Sequence[int], *, resize: bool = False
) -> np.ndarray:
  """Returns an image file as uint8 [H, W, C], cropped and resized if need be.

  Raises:
    UserError: if it is not there, no such image, or of another size, or if the
      student takes no images of files.
  """
  height, width, channels = shape
  if channels not in (1, 3):
    raise errors.UserError(
      f'the student takes images of {channels} channels, which no file has: '
      'call artifact.load(FOLDER).predict with arrays'
    )
  image = image_files.open_image(str(path), path)
  if not resize and image.size != (width, height):
    raise errors.UserError(
      f'{path} is of {image.width}×{image.height} pixels, and the student '
      f'takes {width}×{height}: resize it first'
    )
  return image_files.as_array(image, height if resize else 0, channels == 1)


def predict(
  folder: pathlib.Path, paths: Sequence[pathlib.Path]
) -> list[dict[str, float]]:
  """Returns for each image file its probabilities by the names of classes.

  Raises:
    UserError: if a file is no image of the right size.
    ArtifactError: if the folder holds no sound artifact.
  """
  loaded = artifact.load(folder)
  shape = loaded.manifest['image_shape']
  resize = loaded.manifest.get('resized', False)
  images = np.stack([read_image(path, shape, resize=resize) for path in paths])
  probabilities = np.asarray(loaded.predict(images), np.float64)
  classes = loaded.manifest['classes']
  return [dict(zip(classes, of, strict=True)) for of in probabilities]


def _line(path: str, probabilities: dict[str, Any], top: int) -> str:
  best = sorted(probabilities, key=probabilities.get, reverse=True)
  return f'{path}\t' + '\t'.join(
    f'{name} {probabilities[name]:.4f}' for name in best[:top]
  )


def main() -> None:
  """The command line; see the module's docstring."""
  parser = argparse.ArgumentParser(
    prog='python -m kd_jax.predict',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('artifact', type=pathlib.Path, help='folder of a student')
  parser.add_argument('images', nargs='+', help='image files')
  parser.add_argument(
    '--top', type=int, default=3, help='how many classes of each; 3'
  )
  args = parser.parse_args()
  compilation_cache.enable()
  try:
    results = predict(args.artifact, [pathlib.Path(p) for p in args.images])
  except (errors.UserError, artifact.ArtifactError) as error:
    sys.exit(f'error: {error}')
  for path, probabilities in zip(args.images, results, strict=True):
    print(_line(path, probabilities, args.top))


if __name__ == '__main__':
  main()
