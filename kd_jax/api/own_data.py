"""The user's files as arrays, for `distill`."""

import math
import os
from typing import Any, NamedTuple

import numpy as np

from kd_jax import data
from kd_jax.api import argument_names, scalars
from kd_jax.runtime import errors

# The share of the images that `distill` holds out by default.
HELD_OUT = 0.1


class LoadedData(NamedTuple):
  """A data set as arrays.

  Attributes:
    images: uint8 [N, H, W, C].
    labels: int32 [N].
    eval_data: (images, labels) of the test split; a share to hold out if there
      is no test split.
    class_names: the name of each label, in order.
  """

  images: np.ndarray
  labels: np.ndarray
  eval_data: Any
  class_names: tuple[str, ...]

  def __repr__(self) -> str:
    """Returns the numbers of images and the classes, in a line."""
    test = self.eval_data
    if isinstance(test, tuple):
      test = f'{len(test[1]):,} images'
    shape = 'x'.join(map(str, self.images.shape[1:]))
    return (
      f'LoadedData(images={len(self.labels):,} of {shape}, eval_data={test}, '
      f'classes={len(self.class_names)})'
    )


def load_data(name: str | os.PathLike, *, image_size: int = 0) -> LoadedData:
  """Loads a data set as arrays.

  Args:
    name: a folder with train/CLASS/*.png (or .jpg) and, if there are test
      images, test/CLASS/*.png; FILE.npz; 'mnist', 'fashion_mnist', 'cifar10';
      or tfds:NAME. See `data.name` in docs/how-to/data.md.
    image_size: side in pixels to which images of a folder or of TFDS are
      cropped and resized; 0 keeps their size, which must then be the same.
  Returns:
    What `distill` takes: images, labels, eval_data and class_names.
  Raises:
    UserError: names the mistake, and the file.
  """
  if not isinstance(name, str | os.PathLike):
    raise errors.UserError(
      f'name={name!r}: expected a folder, FILE.npz or the name of a data set'
    )
  image_size = scalars.whole_number('image_size', image_size, least=0)
  with argument_names.in_errors():
    dataset = data.load(
      os.fspath(name),
      image_size=image_size,
      memory_gib=math.inf,
      needs_test=False,
    )
  test = dataset.test
  return LoadedData(
    np.asarray(dataset.train.images),
    np.asarray(dataset.train.labels),
    (np.asarray(test.images), np.asarray(test.labels))
    if len(test.labels)
    else HELD_OUT,
    tuple(dataset.names_of(range(dataset.num_classes))),
  )
