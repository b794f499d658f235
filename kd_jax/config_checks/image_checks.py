"""Words a warning for images that cannot be what the user meant."""

import hashlib

import numpy as np

from kd_jax import data

# Examples of images on disk whose values are looked at.
_EXAMPLES_READ = 1000
# Bytes of the digest of an image.
_DIGEST_SIZE = 16


def find_doubts(dataset: data.Dataset) -> list[str]:
  """Returns a sentence for each sign that images are not what they should be.

  Built-in data has none.

  Args:
    dataset: the part of a data set that a run uses.
  """
  if not dataset.is_users:
    return []
  return [
    *_too_dark(dataset.train),
    *_empty(dataset.train),
    *_trained_on(dataset),
  ]


def _too_dark(train: data.Split) -> list[str]:
  """Returns a sentence if the values of images were scaled to [0, 1]."""
  images = train.images
  if data.is_on_disk(train):
    images = images[:_EXAMPLES_READ]
  largest = int(np.max(images)) if len(images) else 0
  if largest > 1:
    return []
  return [
    f'the largest value of the training images is {largest}, and images have '
    'values from 0 to 255: multiply values from 0 to 1 by 255 before they '
    'become uint8'
  ]


def _empty(train: data.Split) -> list[str]:
  """Returns a sentence if half of the images or more show nothing."""
  images = np.asarray(train.images[:_EXAMPLES_READ])
  if not len(images):
    return []
  pixels = images.reshape(len(images), -1, images.shape[-1])
  count = int(np.sum((pixels == pixels[:, :1]).all(axis=(1, 2))))
  if 2 * count < len(images):
    return []
  return [
    f'{count:,} of the first {len(images):,} training images have one color: '
    'white drawings on a transparent background become white images; give '
    'them a background of another color'
  ]


def _trained_on(dataset: data.Dataset) -> list[str]:
  """Returns a sentence if test images are also training images.

  Images that stay on disk are not compared, since all would be read.
  """
  if data.is_on_disk(dataset.train) or data.is_on_disk(dataset.test):
    return []
  tested = _digests(dataset.test.images)
  if not tested:
    return []
  trained_on = set(_digests(dataset.train.images))
  count = sum(digest in trained_on for digest in tested)
  if not count:
    return []
  return [
    f'{count:,} of the {len(tested):,} test images are also training images, '
    'so that the metrics say too little about new images: expected images '
    'that are in no training'
  ]


def _digests(images: np.ndarray) -> list[bytes]:
  """Returns the digest of each image."""
  return [
    hashlib.blake2b(image.tobytes(), digest_size=_DIGEST_SIZE).digest()
    for image in np.asarray(images)
  ]
