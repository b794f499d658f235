"""Classifies image files with an exported student.

  python -m kd_jax.predict ARTIFACT IMAGE...

Prints a line for each image: the file, and the most likely classes with their
probabilities. A file that cannot be used is named, and does not stop the
others; the exit status is then 1. The images are PNG or JPEG files of the size
that the student was trained on. If the training images were cropped and
resized, images may have any size, and are cropped and resized in the same way.
Color images become gray for a student of gray images, and gray images become
color for a student of color images. Transparent images are shown on white.
"""

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from kd_jax.data.user_data import image_files
from kd_jax.export import artifact
from kd_jax.runtime import (
  command_line,
  compilation_cache,
  console,
  errors,
  local_paths,
)


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
    folder: folder of an exported student.
    paths: image files.
  Returns:
    The probabilities of each file by class name, in the order of the student's
    classes.
  Raises:
    ArtifactError: if the folder holds no intact student.
    UserError: if a file is not an image for the student.
  """
  answers = []
  for answer in predict_each(folder, paths):
    if isinstance(answer, errors.UserError):
      raise answer
    answers.append(answer)
  return answers


def predict_each(
  folder: pathlib.Path, paths: Sequence[pathlib.Path]
) -> list[dict[str, float] | errors.UserError]:
  """Classifies image files; an unusable file does not stop the others.

  Args:
    folder: folder of an exported student.
    paths: image files.
  Returns:
    For each file its probabilities by class name, or why it cannot be used.
  Raises:
    ArtifactError: if the folder holds no intact student.
  """
  student = artifact.load(folder)
  shape = student.manifest['image_shape']
  resize = student.manifest.get('resized', False)
  answers: list[dict[str, float] | errors.UserError] = []
  images, used = [], []
  for path in paths:
    try:
      images.append(read_image(path, shape, resize=resize))
    except errors.UserError as error:
      answers.append(error)
    else:
      used.append(len(answers))
      answers.append({})
  if images:
    probabilities = np.asarray(student.predict(np.stack(images)), np.float64)
    classes = student.manifest['classes']
    for index, row in zip(used, probabilities, strict=True):
      answers[index] = dict(zip(classes, row.tolist(), strict=True))
  return answers


def _format_line(
  path: str, probabilities: Mapping[str, float], num_classes: int
) -> str:
  """Returns an output line with the most likely classes of an image."""
  best = sorted(probabilities, key=probabilities.__getitem__, reverse=True)
  return f'{console.printable(path)}\t' + '\t'.join(
    f'{console.printable(name)} {probabilities[name]:.4f}'
    for name in best[:num_classes]
  )


def main() -> None:
  """Runs the command line; see the module's docstring."""
  parser = argparse.ArgumentParser(
    prog='python -m kd_jax.predict',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('artifact', help='folder of an exported student')
  parser.add_argument('images', nargs='+', help='image files')
  parser.add_argument(
    '--top',
    type=int,
    default=3,
    help='number of classes to print for each image; 3 by default',
  )
  with command_line.one_line_errors():
    _print_answers(command_line.parse_arguments(parser))


def _print_answers(args: argparse.Namespace) -> None:
  """Prints a line for each image; exits with an error if one failed."""
  compilation_cache.enable()
  paths = [local_paths.expand(path, 'image') for path in args.images]
  folder = local_paths.expand(args.artifact, 'artifact')
  try:
    answers = predict_each(folder, paths)
  except artifact.ArtifactError as error:
    raise errors.UserError(str(error)) from error
  failed = 0
  for path, answer in zip(args.images, answers, strict=True):
    if isinstance(answer, errors.UserError):
      print(f'error: {console.printable(str(answer))}', file=sys.stderr)
      failed += 1
    else:
      print(_format_line(path, answer, args.top))
  if failed:
    sys.exit(f'error: {failed} of {len(answers)} images were not classified')


if __name__ == '__main__':
  main()
