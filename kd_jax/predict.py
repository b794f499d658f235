"""Classifies image files with an exported student.

  python -m kd_jax.predict ARTIFACT IMAGE...

Prints a line for each image: the file, and the most likely classes with their
probabilities. The images are PNG or JPEG files of the size that the student was
trained on. If the training images were cropped and resized, images may have any
size, and are cropped and resized in the same way. Color images become gray for
a student of gray images, and gray images become color for a student of color
images.
"""

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from kd_jax.data import image_files
from kd_jax.export import artifact
from kd_jax.runtime import compilation_cache, errors


def read_image(
  path: pathlib.Path, shape: Sequence[int], *, resize: bool = False
) -> np.ndarray:
  """Reads an image file.

  Args:
    path: a PNG or JPEG file.
    shape: [H, W, C] of the student's images.
    resize: whether to crop and resize an image of another size.
  Returns:
    The image, uint8 [H, W, C].
  Raises:
    UserError: if the file is missing, is not an 8-bit PNG or JPEG image, or has
      another size, or if C is neither 1 nor 3.
  """
  height, width, channels = shape
  if channels not in (1, 3):
    raise errors.UserError(
      f'the student takes images of {channels} channels, but image files have '
      '1 or 3: call artifact.load(FOLDER).predict with arrays'
    )
  image = image_files.open_image(str(path), path)
  if not resize and image.size != (width, height):
    raise errors.UserError(
      f'{path} has {image.width}×{image.height} pixels, but the student takes '
      f'{width}×{height}: resize the image first'
    )
  return image_files.as_array(image, height if resize else 0, channels == 1)


def predict(
  folder: pathlib.Path, paths: Sequence[pathlib.Path]
) -> list[dict[str, float]]:
  """Classifies image files.

  Args:
    folder: the folder of an exported student.
    paths: the image files.
  Returns:
    For each image, the probabilities by class name.
  Raises:
    UserError: if a file is not an image that the student takes.
    ArtifactError: if the folder holds no intact artifact.
  """
  student = artifact.load(folder)
  shape = student.manifest['image_shape']
  resize = student.manifest.get('resized', False)
  images = np.stack([read_image(path, shape, resize=resize) for path in paths])
  probabilities = np.asarray(student.predict(images), np.float64)
  classes = student.manifest['classes']
  return [dict(zip(classes, row, strict=True)) for row in probabilities]


def _format_line(
  path: str, probabilities: Mapping[str, float], num_classes: int
) -> str:
  """Returns an output line with the most likely classes of an image."""
  best = sorted(probabilities, key=probabilities.__getitem__, reverse=True)
  return f'{path}\t' + '\t'.join(
    f'{name} {probabilities[name]:.4f}' for name in best[:num_classes]
  )


def main() -> None:
  """Runs the command line; see the module's docstring."""
  parser = argparse.ArgumentParser(
    prog='python -m kd_jax.predict',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    'artifact', type=pathlib.Path, help='folder of an exported student'
  )
  parser.add_argument('images', nargs='+', help='image files')
  parser.add_argument(
    '--top',
    type=int,
    default=3,
    help='number of classes to print for each image; 3 by default',
  )
  args = parser.parse_args()
  compilation_cache.enable()
  try:
    results = predict(args.artifact, [pathlib.Path(p) for p in args.images])
  except (errors.UserError, artifact.ArtifactError) as error:
    sys.exit(f'error: {error}')
  for path, probabilities in zip(args.images, results, strict=True):
    print(_format_line(path, probabilities, args.top))


if __name__ == '__main__':
  main()
