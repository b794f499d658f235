"""Transfer sets: their images, and refused data sets."""

import dataclasses

import numpy as np
import pytest

from kd_jax import data

DATASET = data.load('generated')


def _transfer(name, dataset=DATASET):
  return data.transfer_set(name, dataset, data.load)


def test_noise_is_uniform_and_independent_of_the_images():
  split = _transfer('noise')
  assert split.images.shape == DATASET.train.images.shape
  assert split.images.dtype == np.uint8
  counts = np.bincount(split.images.ravel(), minlength=256)
  # 10% is about 30 standard deviations of a count.
  np.testing.assert_allclose(counts, split.images.size / 256, rtol=0.1)
  correlation = np.corrcoef(split.images.ravel(), DATASET.train.images.ravel())
  assert abs(correlation[0, 1]) < 0.01
  np.testing.assert_array_equal(split.labels, DATASET.train.labels)


@pytest.mark.parametrize('name', ['generated', 'generated_rgb'])
def test_shuffled_images_keep_only_their_pixel_values(name):
  dataset = data.load(name)
  split = _transfer('shuffled_pixels', dataset)
  pixels = lambda images: np.sort(
    # One number for each pixel, as the channels of a pixel stay together.
    images.reshape(len(images), -1, images.shape[-1])
    @ 256 ** np.arange(images.shape[-1])
  )
  np.testing.assert_array_equal(
    pixels(split.images), pixels(dataset.train.images)
  )
  same = split.images == dataset.train.images
  assert same.mean() < 0.1
  # The order of the pixels differs between images.
  positions = lambda i: np.argsort(split.images[i].ravel(), kind='stable')
  assert (positions(0) != positions(1)).any()
  np.testing.assert_array_equal(split.labels, dataset.train.labels)


@pytest.mark.parametrize('name', data.TRANSFER_SETS)
def test_transfer_sets_are_deterministic_and_leave_the_data_unchanged(name):
  before = DATASET.train.images.copy()
  np.testing.assert_array_equal(_transfer(name).images, _transfer(name).images)
  np.testing.assert_array_equal(DATASET.train.images, before)


def test_another_data_set_is_cut_to_the_number_of_examples():
  train = data.Split(DATASET.train.images[:700], DATASET.train.labels[:700])
  split = _transfer('generated', dataclasses.replace(DATASET, train=train))
  np.testing.assert_array_equal(split.images, DATASET.train.images[:700])


def test_images_of_another_kind_are_refused():
  with pytest.raises(
    data.DataError, match='32×32×3 with 10 classes; expected 28×28×1'
  ):
    _transfer('generated_rgb')
  with pytest.raises(data.DataError, match="unknown data set 'nothing'"):
    _transfer('nothing')
