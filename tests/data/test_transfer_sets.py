"""Transfer sets: what is left of the images, and what is refused."""

import dataclasses

import numpy as np
import pytest

from kd_jax import data

DATASET = data.load('generated')


def _transfer(name, dataset=DATASET):
  return data.transfer_set(name, dataset, data.load)


def test_noise_is_uniform_and_knows_nothing_of_the_images():
  split = _transfer('noise')
  assert split.images.shape == DATASET.train.images.shape
  assert split.images.dtype == np.uint8
  counts = np.bincount(split.images.ravel(), minlength=256)
  # A tenth is about 30 standard deviations.
  np.testing.assert_allclose(counts, split.images.size / 256, rtol=0.1)
  correlation = np.corrcoef(split.images.ravel(), DATASET.train.images.ravel())
  assert abs(correlation[0, 1]) < 0.01
  np.testing.assert_array_equal(split.labels, DATASET.train.labels)


@pytest.mark.parametrize('name', ['generated', 'generated_rgb'])
def test_shuffled_images_keep_their_pixels_and_nothing_else(name):
  dataset = data.load(name)
  split = _transfer('shuffled_pixels', dataset)
  pixels = lambda images: np.sort(
    # Pixels whole: the channels of one stay together.
    images.reshape(len(images), -1, images.shape[-1])
    @ 256 ** np.arange(images.shape[-1])
  )
  np.testing.assert_array_equal(
    pixels(split.images), pixels(dataset.train.images)
  )
  same = split.images == dataset.train.images
  assert same.mean() < 0.1
  # Each image in an order of its own.
  positions = lambda i: np.argsort(split.images[i].ravel(), kind='stable')
  assert (positions(0) != positions(1)).any()
  np.testing.assert_array_equal(split.labels, dataset.train.labels)


@pytest.mark.parametrize('name', data.TRANSFER_SETS)
def test_they_are_the_same_at_every_call_and_change_nothing(name):
  before = DATASET.train.images.copy()
  np.testing.assert_array_equal(_transfer(name).images, _transfer(name).images)
  np.testing.assert_array_equal(DATASET.train.images, before)


def test_another_data_set_gives_as_many_examples_as_there_were():
  train = data.Split(*(a[:700] for a in dataclasses.astuple(DATASET.train)))
  split = _transfer('generated', dataclasses.replace(DATASET, train=train))
  np.testing.assert_array_equal(split.images, DATASET.train.images[:700])


def test_images_of_another_kind_are_refused():
  with pytest.raises(
    data.DataError, match='32×32×3, of 10 classes, and not 28'
  ):
    _transfer('generated_rgb')
  with pytest.raises(data.DataError, match="no data set 'nothing'"):
    _transfer('nothing')
