"""Classifies image files with an exported student.

  python -m kd_jax.predict ARTIFACT IMAGE...

A line for each: the file, the classes that are most likely, their
probabilities. Images are PNG or whatever Pillow reads, of the size that the
student was trained on; color becomes gray, or gray color, as it needs.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags
from PIL import Image, UnidentifiedImageError

from kd_jax import artifact, errors

_TOP = flags.DEFINE_integer(
  'top', 3, 'How many classes of each.', lower_bound=1
)
_MODES = {1: 'L', 3: 'RGB'}


def read_image(path: pathlib.Path, shape: Sequence[int]) -> np.ndarray:
  """Returns an image file as uint8 [H, W, C].

  Raises:
    UserError: if it is not there, no image, or of another size.
  """
  height, width, channels = shape
  try:
    with Image.open(path) as image:
      if image.size != (width, height):
        raise errors.UserError(
          f'{path} is of {image.width}×{image.height} pixels, and the student '
          f'takes {width}×{height}: resize it first'
        )
      pixels = np.asarray(image.convert(_MODES[channels]))
  except (OSError, UnidentifiedImageError) as error:
    raise errors.UserError(f'{path} is no image file: {error}') from error
  return pixels.reshape(height, width, channels)


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
  images = np.stack([read_image(path, shape) for path in paths])
  probabilities = np.asarray(loaded.predict(images), np.float64)
  classes = loaded.manifest['classes']
  return [dict(zip(classes, own, strict=True)) for own in probabilities]


def _line(path: str, probabilities: dict[str, Any]) -> str:
  best = sorted(probabilities, key=probabilities.get, reverse=True)
  return f'{path}\t' + '\t'.join(
    f'{name} {probabilities[name]:.4f}' for name in best[: _TOP.value]
  )


def main(argv: list[str]) -> None:
  """The command line; see the module's docstring."""
  if len(argv) < 3:
    raise app.UsageError('expected an artifact and image files')
  _, folder, *paths = argv
  try:
    results = predict(pathlib.Path(folder), [pathlib.Path(p) for p in paths])
  except (errors.UserError, artifact.ArtifactError) as error:
    sys.exit(f'error: {error}')
  for path, probabilities in zip(paths, results, strict=True):
    print(_line(path, probabilities))


if __name__ == '__main__':
  app.run(main)
