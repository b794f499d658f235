"""Images that cannot be what the user meant."""

import dataclasses

import numpy as np
import pytest

from kd_jax.config_checks import image_checks
from kd_jax.data import dataset as dataset_lib

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), np.uint8)


def _dataset(train, test):
  arrays = {
    'train_images': train,
    'train_labels': np.arange(len(train)) % 2,
    'test_images': test,
    'test_labels': np.arange(len(test)) % 2,
  }
  orders = {'train': np.arange(len(train)), 'test': np.arange(len(test))}
  return dataset_lib.make_dataset(
    'own', arrays, num_classes=2, digest='digest', orders=orders
  )


def test_images_that_differ_raise_no_doubt():
  assert image_checks.find_doubts(_dataset(IMAGES[:8], IMAGES[8:])) == []
  assert image_checks.find_doubts(_dataset(IMAGES, IMAGES[:0])) == []


def test_test_images_that_are_trained_on_are_counted():
  (sentence,) = image_checks.find_doubts(_dataset(IMAGES[:8], IMAGES[6:]))
  assert sentence.startswith(
    '2 of the 6 test images are also training images, so that the metrics'
  )


@pytest.mark.parametrize('largest', [0, 1])
def test_images_that_were_scaled_to_one_are_named(largest):
  train = np.minimum(IMAGES[:8], largest)
  train[:, 0, 0] = 0
  sentence, *others = image_checks.find_doubts(_dataset(train, IMAGES[8:]))
  assert f'largest value of the training images is {largest}, and' in sentence
  assert bool(others) == (largest == 0)  # They are all black.


def test_images_of_one_color_are_named():
  train = IMAGES[:8].copy()
  train[:4] = 255
  (sentence,) = image_checks.find_doubts(_dataset(train, IMAGES[8:]))
  assert sentence.startswith('4 of the first 8 training images have one color')
  train = train.copy()
  train[0, 0, 0] = 0
  assert image_checks.find_doubts(_dataset(train, IMAGES[8:])) == []


def test_built_in_images_are_not_judged():
  dataset = _dataset(IMAGES, IMAGES)
  built_in = dataclasses.replace(dataset, files_digest='')
  assert image_checks.find_doubts(dataset)
  assert image_checks.find_doubts(built_in) == []
