"""Transfer sets: what students learn on in the place of the training split.

Hinton et al. 2015 call so the examples that a student is shown with a teacher's
outputs. Here they are foreign to the task: a data set of something else, or
made of the training split's own pixels, or of none.
"""

from collections.abc import Callable

import numpy as np

from kd_jax.data.dataset import DataError, Dataset, Split

_SEED = 0
_CHUNK = 10_000  # examples


def noise(train: Split) -> Split:
  """Every pixel uniform in 0..255, under labels that say nothing of them."""
  rng = np.random.RandomState(_SEED)
  shape = np.shape(train.images)
  return Split(rng.randint(256, size=shape, dtype=np.uint8), train.labels)


def shuffled_pixels(train: Split) -> Split:
  """Each image's pixels in an order of its own, under its label.

  What is left of an image is how many of its pixels have which value.
  """
  rng = np.random.RandomState(_SEED)
  images = np.array(train.images)
  for start in range(0, len(images), _CHUNK):
    pixels = images[start : start + _CHUNK]
    flat = pixels.reshape(len(pixels), -1, pixels.shape[-1])
    order = np.argsort(rng.rand(*flat.shape[:2]), axis=1)
    shuffled = np.take_along_axis(flat, order[..., None], axis=1)
    images[start : start + _CHUNK] = shuffled.reshape(pixels.shape)
  return Split(images, train.labels)


# Pure functions of the training split.
TRANSFER_SETS: dict[str, Callable[[Split], Split]] = {
  'noise': noise,
  'shuffled_pixels': shuffled_pixels,
}


def transfer_set(
  name: str, dataset: Dataset, load: Callable[[str], Dataset]
) -> Split:
  """Returns what students learn on.

  Args:
    name: one of TRANSFER_SETS; or a data set, of whose training split there
      are as many examples as `dataset` has, or all.
    dataset: whose place it takes.
    load: a data set by its name.
  Raises:
    DataError: if a data set is not there, or not of the same kind.
  """
  if name in TRANSFER_SETS:
    return TRANSFER_SETS[name](dataset.train)
  other = load(name)
  shapes = [
    '×'.join(map(str, np.shape(own.train.images)[1:]))
    for own in (other, dataset)
  ]
  if shapes[0] != shapes[1] or other.num_classes > dataset.num_classes:
    raise DataError(
      f'{name} cannot take the place of {dataset.name}: its images are '
      f'{shapes[0]}, of {other.num_classes} classes, and not {shapes[1]}, of '
      f'{dataset.num_classes}'
    )
  count = len(dataset.train.labels)
  return Split(other.train.images[:count], other.train.labels[:count])
