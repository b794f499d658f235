"""Small generated data sets: no disk, no network, the same bytes anywhere.

An example is the smooth random image of its class, shifted, mixed with the
image of another class, and noised: learnable, and not by a template alone.
Integers throughout, and a random stream that NumPy has frozen, so that every
platform and version makes the same arrays.
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
_KNOTS = 6  # random values along a side of a class image
_MAX_SHIFT_PX = 4
_MAX_MIX = 120  # of 256: how much of the other class shows
_NOISE = 80  # each pixel's noise is the sum of two uniform in +-_NOISE


@functools.cache
def load(name: str) -> Dataset:
  """Generates a data set of SHAPES, once: its arrays are read-only."""
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


def _class_images(rng: np.random.RandomState, shape) -> np.ndarray:
  """[K, H + margin, W + margin, C] int32 in [0, 255], smooth."""
  height, width, channels = shape
  grid = (_NUM_CLASSES, _KNOTS, _KNOTS)
  # Mostly gray: color of its own in each class would give the class away.
  gray = rng.randint(192, size=(*grid, 1))
  knots = gray + rng.randint(64, size=(*grid, channels))
  down = _interpolation(height + 2 * _MAX_SHIFT_PX)
  across = _interpolation(width + 2 * _MAX_SHIFT_PX)
  image = np.einsum('hi,wj,kijc->khwc', down, across, knots) >> 16
  return image.astype(np.int32)


def _interpolation(length: int) -> np.ndarray:
  """[length, _KNOTS] int64: linear weights in 256ths."""
  position = np.arange(length) * 256 * (_KNOTS - 1) // (length - 1)
  distance = np.abs(position[:, None] - 256 * np.arange(_KNOTS))
  return np.maximum(256 - distance, 0)


def _draw(rng: np.random.RandomState, classes: np.ndarray, size: int) -> Split:
  """Draws examples, as many of each class."""
  labels = rng.permutation(size) % _NUM_CLASSES
  others = (labels + rng.randint(1, _NUM_CLASSES, size)) % _NUM_CLASSES
  mix = rng.randint(_MAX_MIX, size=(size, 1, 1, 1), dtype=np.int32)
  mixed = (256 - mix) * classes[labels] + mix * classes[others] >> 8
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
