"""Classifies image files with an exported student.

  python -m kd_jax.predict ARTIFACT IMAGE_OR_FOLDER...

Prints a line for each image: the file, and the most likely classes with their
probabilities. A folder stands for its PNG and JPEG files, at any depth. A file
that cannot be used is named, and does not stop the others; the exit status is
then 1. Images are read in batches, so that any number fits in memory. They are
PNG or JPEG files of the size that the student was trained on. If the training
images were cropped and resized, or with --resize, images may have any size, and
are cropped to a square and resized. Color images become gray for a student of
gray images, and gray images become color for a student of color images.
Transparent images are shown on white.
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures

import numpy as np

from kd_jax.data.user_data import image_files, unlabeled_images
from kd_jax.export import artifact
from kd_jax.runtime import (
  command_basics,
  compilation_cache,
  console,
  errors,
  local_paths,
)

# Images that are in memory at once.
BATCH_SIZE = 64


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
  if resize and height != width:
    raise errors.UserError(
      f'the student takes images of {width}×{height} pixels: only squares are '
      'cropped and resized'
    )
  image = image_files.open_image(str(path), path)
  if not resize and image.size != (width, height):
    raise errors.UserError(
      f'{path} has {image.width}×{image.height} pixels, but the student takes '
      f'{width}×{height}: --resize crops and resizes images'
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
  folder: pathlib.Path, paths: Sequence[pathlib.Path], *, resize: bool = False
) -> Iterator[dict[str, float] | errors.UserError]:
  """Classifies image files in batches; an unusable file stops no others.

  Args:
    folder: folder of an exported student.
    paths: image files.
    resize: whether images of any size are cropped and resized. They are in any
      case if those of the training were.
  Yields:
    For each file its probabilities by class name, or why it cannot be used.
  Raises:
    ArtifactError: if the folder holds no intact student.
  """
  student = artifact.load(folder)
  shape = student.manifest['image_shape']
  resize = resize or student.manifest.get('resized', False)
  classes = student.manifest['classes']

  def read(path: pathlib.Path) -> np.ndarray | errors.UserError:
    try:
      return read_image(path, shape, resize=resize)
    except errors.UserError as error:
      return error

  # A thread a core: each holds an image of full size.
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for start in range(0, len(paths), BATCH_SIZE):
      found = list(pool.map(read, paths[start : start + BATCH_SIZE]))
      images = [image for image in found if isinstance(image, np.ndarray)]
      probabilities: Iterator[list[float]] = iter(())
      if images:
        # Batches of one size are compiled once.
        padding = BATCH_SIZE - len(images) if len(paths) > BATCH_SIZE else 0
        batch = np.stack([*images, *[images[-1]] * padding])
        predicted = np.asarray(student.predict(batch), np.float64)
        probabilities = iter(predicted.tolist())
      for image in found:
        if isinstance(image, errors.UserError):
          yield image
        else:
          yield dict(zip(classes, next(probabilities), strict=True))


def list_images(path: pathlib.Path) -> list[pathlib.Path]:
  """Returns the image files of a folder; a path that is no folder as it is.

  Raises:
    UserError: if the folder has none.
  """
  if not path.is_dir():
    return [path]
  files = unlabeled_images.list_files(path)
  if not files:
    raise errors.UserError(
      f'{path} holds no images: expected files '
      f'*{", *".join(image_files.SUFFIXES)}, at any depth'
    )
  return files


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
  parser.add_argument('images', nargs='+', help='image files, or folders')
  parser.add_argument(
    '--top',
    type=int,
    default=3,
    help='number of classes to print for each image; 3 by default',
  )
  parser.add_argument(
    '--resize',
    action='store_true',
    help='crop images of any size to a square, and resize them',
  )
  with command_basics.one_line_errors():
    _print_answers(command_basics.parse_arguments(parser))


def _print_answers(args: argparse.Namespace) -> None:
  """Prints a line for each image; exits with an error if one failed."""
  compilation_cache.enable()
  given = [local_paths.expand(path, 'image') for path in args.images]
  # Files are printed as they were given, and those of folders by their paths.
  files: list[pathlib.Path] = []
  names: list[str] = []
  for path, name in zip(given, args.images, strict=True):
    found = list_images(path)
    files += found
    names += [name] if found == [path] else map(str, found)
  folder = local_paths.expand(args.artifact, 'artifact')
  failed = 0
  answers = predict_each(folder, files, resize=args.resize)
  try:
    for name, answer in zip(names, answers, strict=True):
      if isinstance(answer, errors.UserError):
        print(f'error: {console.printable(str(answer))}', file=sys.stderr)
        failed += 1
      else:
        print(_format_line(name, answer, args.top))
  except artifact.ArtifactError as error:
    raise errors.UserError(str(error)) from error
  console.check_printed()
  if failed:
    sys.exit(f'error: {failed} of {len(files)} images were not classified')


if __name__ == '__main__':
  main()
