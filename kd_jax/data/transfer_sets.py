"""Transfer sets, which replace the training split of the students.

Hinton et al. 2015 (arXiv:1503.02531) call the examples on which a student
learns a teacher's outputs the transfer set. The transfer sets here do not show
the task: the images are another data set, shuffled pixels of the training
split, or noise. `user_data/unlabeled_images.py` adds images of the task, which
have no labels, to the training split.
"""

from collections.abc import Callable

import numpy as np

from kd_jax.data.dataset import DataError, Dataset, Split

_SEED = 0
_CHUNK = 10_000  # Examples that are shuffled at once, to limit memory.


def noise(train: Split) -> Split:
  """Returns images of uniform noise, with the labels of the training split.

  Args:
    train: the training split, N examples.
  Returns:
    N images with pixels uniform in 0..255, independent of the labels.
  """
  rng = np.random.RandomState(_SEED)
  shape = np.shape(train.images)
  return Split(rng.randint(256, size=shape, dtype=np.uint8), train.labels)


def shuffled_pixels(train: Split) -> Split:
  """Returns each image with its pixels in a random order, with its label.

  The order differs between images. A shuffled image keeps the histogram of its
  pixels, and nothing else.

  Args:
    train: the training split, N examples.
  Returns:
    N shuffled images with their labels.
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


# Pure functions: training split -> transfer set.
TRANSFER_SETS: dict[str, Callable[[Split], Split]] = {
  'noise': noise,
  'shuffled_pixels': shuffled_pixels,
}


def transfer_set(
  name: str, dataset: Dataset, load: Callable[[str], Dataset]
) -> Split:
  """Returns the split that replaces the training split of `dataset`.

  Args:
    name: a name in TRANSFER_SETS, or the name of another data set. The training
      split of another data set is cut to the number of training examples in
      `dataset`.
    dataset: the data set of the task.
    load: returns a data set by its name.
  Returns:
    The transfer set.
  Raises:
    DataError: if the other data set cannot be loaded, its images have another
      shape, or it has more classes.
  """
  if name in TRANSFER_SETS:
    return TRANSFER_SETS[name](dataset.train)
  other = load(name)
  other_shape, expected_shape = (
    '×'.join(map(str, np.shape(each.train.images)[1:]))
    for each in (other, dataset)
  )
  if other_shape != expected_shape or other.num_classes > dataset.num_classes:
    raise DataError(
      f'{name} cannot replace the training split of {dataset.name}: its images '
      f'are {other_shape} with {other.num_classes} classes; expected '
      f'{expected_shape} with at most {dataset.num_classes} classes'
    )
  count = len(dataset.train.labels)
  return Split(other.train.images[:count], other.train.labels[:count])
