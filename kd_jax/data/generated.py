"""Small generated data sets that need no disk and no network.

An example is the smooth random image of its class, shifted, mixed with the
image of another class, with noise added. The classes can be learned, but
comparing an image with one template for each class does not classify all of
them. All arithmetic is on integers, and the random stream is one that NumPy has
frozen. Every platform and NumPy version therefore makes the same arrays.
"""

import functools

import numpy as np

from kd_jax.data.dataset import (
  Dataset,
  Split,
  array_digest,
  dataset_digest,
  make_dataset,
  named_arrays,
)

SHAPES = {'generated': (28, 28, 1), 'generated_rgb': (32, 32, 3)}

_NUM_CLASSES = 10
_TRAIN_SIZE = 2000
_TEST_SIZE = 500
_KNOTS = 6  # Random values along one side of a class image.
_MAX_SHIFT_PX = 4
_MAX_MIX = 120  # Limit (exclusive) of the other class's weight, in 256ths.
# The noise of a pixel is the sum of two integers, uniform in -_NOISE .. _NOISE.
_NOISE = 80


@functools.cache
def load(name: str) -> Dataset:
  """Returns a data set of SHAPES, generated once in a process.

  Args:
    name: a name in SHAPES.
  Returns:
    The data set; its arrays are read-only.
  """
  rng = np.random.RandomState(list(name.encode()))
  classes = _class_images(rng, SHAPES[name])
  arrays = named_arrays(
    _draw(rng, classes, _TRAIN_SIZE), _draw(rng, classes, _TEST_SIZE)
  )
  return make_dataset(
    name,
    arrays,
    num_classes=_NUM_CLASSES,
    digest=dataset_digest(map(array_digest, arrays.values())),
  )


def _class_images(
  rng: np.random.RandomState, image_shape: tuple[int, int, int]
) -> np.ndarray:
  """Returns a smooth image of each class, with a margin for shifts.

  Args:
    rng: random stream.
    image_shape: (H, W, C).
  Returns:
    int32 [K, H + 2 * _MAX_SHIFT_PX, W + 2 * _MAX_SHIFT_PX, C] in [0, 255].
  """
  height, width, channels = image_shape
  grid = (_NUM_CLASSES, _KNOTS, _KNOTS)
  # Images are mostly gray, as the color alone would otherwise show the class.
  gray = rng.randint(192, size=(*grid, 1))
  knots = gray + rng.randint(64, size=(*grid, channels))
  down = _interpolation(height + 2 * _MAX_SHIFT_PX)
  across = _interpolation(width + 2 * _MAX_SHIFT_PX)
  image = np.einsum('hi,wj,kijc->khwc', down, across, knots) >> 16
  return image.astype(np.int32)


def _interpolation(length: int) -> np.ndarray:
  """Returns the weights of linear interpolation between knots, in 256ths.

  Args:
    length: the number of pixels along one side.
  Returns:
    int64 [length, _KNOTS].
  """
  position = np.arange(length) * 256 * (_KNOTS - 1) // (length - 1)
  distance = np.abs(position[:, None] - 256 * np.arange(_KNOTS))
  return np.maximum(256 - distance, 0)


def _draw(rng: np.random.RandomState, classes: np.ndarray, size: int) -> Split:
  """Draws examples, the same number from each class.

  Args:
    rng: random stream.
    classes: class images [K, H + margin, W + margin, C], see `_class_images`.
    size: N, the number of examples.
  Returns:
    N examples in random order.
  """
  labels = rng.permutation(size) % _NUM_CLASSES
  other_labels = (labels + rng.randint(1, _NUM_CLASSES, size)) % _NUM_CLASSES
  mix = rng.randint(_MAX_MIX, size=(size, 1, 1, 1), dtype=np.int32)
  mixed = (256 - mix) * classes[labels] + mix * classes[other_labels] >> 8
  height, width = (side - 2 * _MAX_SHIFT_PX for side in classes.shape[1:3])
  shifts = rng.randint(2 * _MAX_SHIFT_PX + 1, size=(size, 2))
  images = np.empty((size, height, width, classes.shape[-1]), np.int32)
  for index, (down, across) in enumerate(shifts):
    images[index] = mixed[index, down : down + height, across : across + width]
  for _ in range(2):
    images += rng.randint(
      -_NOISE, _NOISE + 1, (size, height, width, 1), np.int32
    )
  return Split(
    images=np.clip(images, 0, 255).astype(np.uint8),
    labels=labels.astype(np.int32),
  )
