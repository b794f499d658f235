"""Crops, flips, cutout and mixup: their values and their distributions."""

import itertools

import jax
import numpy as np
import pytest
from PIL import Image, ImageOps

from kd_jax.data import augmentation

CROP_AND_FLIP = augmentation.AUGMENTATIONS['crop_and_flip']


def _views(chosen, images, indices):
  """Compiles and calls `apply`; eagerly, each operation is compiled."""
  return jax.jit(chosen.apply)(images, np.asarray(indices))


def _choose(chosen, keys):
  return np.asarray(jax.jit(chosen.choose)(keys))


def test_views_are_the_crops_and_their_flips():
  image = np.random.default_rng(0).integers(1, 256, (8, 8, 3), np.uint8)
  padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
  crops = [padded[i : i + 8, j : j + 8] for i in range(9) for j in range(9)]
  expected = np.stack([v for crop in crops for v in (crop, crop[:, ::-1])])
  count = CROP_AND_FLIP.num_views
  images = np.broadcast_to(image, (count, *image.shape))
  views = _views(CROP_AND_FLIP, images, np.arange(count))
  assert count == 162 and views.dtype == np.uint8
  np.testing.assert_array_equal(views, expected)
  np.testing.assert_array_equal(views[80], image)


def test_resized_crops_are_those_of_pillow():
  chosen = augmentation.AUGMENTATIONS['resized_crop_and_flip']
  image = np.random.default_rng(0).integers(256, size=(20, 24, 3), dtype='u1')
  rows, columns, _ = image.shape
  parts = itertools.product(
    (0.3, 0.475, 0.65, 0.825, 1.0),
    (3 / 4, 1, 4 / 3),
    range(5),
    range(5),
    (0, 1),
  )
  expected = []
  for area, aspect, row, column, flip in parts:
    height = rows * min(1, (area / aspect) ** 0.5)
    width = columns * min(1, (area * aspect) ** 0.5)
    top, left = row / 4 * (rows - height), column / 4 * (columns - width)
    view = Image.fromarray(image).resize(
      (columns, rows),
      Image.Resampling.BILINEAR,
      (left, top, left + width, top + height),
    )
    expected.append(ImageOps.mirror(view) if flip else view)
  assert chosen.num_views == len(expected) == 750 and chosen.has_stored_views
  images = np.broadcast_to(image, (750, *image.shape))
  views = _views(chosen, images, np.arange(750))
  assert views.dtype == np.uint8
  difference = np.abs(np.asarray(views, int) - np.stack(expected))
  assert difference.max() <= 1  # Pillow interpolates in whole numbers.
  # The middle crop of the whole image is the image.
  np.testing.assert_array_equal(views[((4 * 3 + 1) * 25 + 12) * 2], image)


def test_jitter_moves_an_image_by_up_to_two_pixels():
  image = np.random.default_rng(0).integers(1, 256, (6, 6, 1), np.uint8)
  padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
  expected = [padded[i : i + 6, j : j + 6] for i in range(5) for j in range(5)]
  jitter = augmentation.AUGMENTATIONS['jitter']
  images = np.broadcast_to(image, (25, *image.shape))
  views = _views(jitter, images, np.arange(jitter.num_views))
  np.testing.assert_array_equal(views, np.stack(expected))


@pytest.mark.parametrize(
  'name, limit',
  [('crop_and_flip', 230), ('jitter', 52), ('resized_crop_and_flip', 900)],
)
def test_views_are_equally_likely(name, limit):
  chosen = augmentation.AUGMENTATIONS[name]
  keys = jax.random.split(jax.random.key(0), 100 * chosen.num_views)
  counts = np.bincount(_choose(chosen, keys), minlength=chosen.num_views)
  # Each view is expected 100 times. The statistic is chi-squared distributed;
  # its degrees of freedom are the number of views minus one.
  assert len(counts) == chosen.num_views
  assert np.sum((counts - 100) ** 2 / 100) < limit


def test_cutout_hides_a_square_of_a_quarter_of_the_side():
  cutout = augmentation.AUGMENTATIONS['crop_flip_cutout']
  image = np.random.default_rng(0).integers(1, 128, (32, 32, 3), np.uint8)
  inner = 80  # The middle crop, unflipped: the image.
  # The square's centre is the upper left corner of pixel (16, 5).
  place = 16 * 32 + 5
  (shown,) = _views(cutout, image[None], [place * 162 + inner])
  expected = image.copy()
  expected[12:20, 1:9] = 128
  np.testing.assert_array_equal(shown, expected)
  assert shown.dtype == np.uint8


def test_cutout_leaves_the_crops_and_flips_as_they_are():
  cutout = augmentation.AUGMENTATIONS['crop_flip_cutout']
  images = np.random.default_rng(0).integers(1, 128, (9, 32, 32, 3), np.uint8)
  keys = jax.random.split(jax.random.key(0), 9)
  views = _choose(cutout, keys)
  np.testing.assert_array_equal(views % 162, _choose(CROP_AND_FLIP, keys))
  shown = np.asarray(_views(cutout, images, views))
  whole = np.asarray(_views(CROP_AND_FLIP, images, views % 162))
  np.testing.assert_array_equal(shown[shown != 128], whole[shown != 128])
  hidden = np.all(shown == 128, axis=-1)
  assert np.all((hidden.sum((1, 2)) >= 16) & (hidden.sum((1, 2)) <= 64))


def test_places_of_cutout_are_equally_likely():
  cutout = augmentation.AUGMENTATIONS['crop_flip_cutout']
  keys = jax.random.split(jax.random.key(0), 100 * 1024)
  counts = np.bincount(_choose(cutout, keys) // 162, minlength=1024)
  # Chi-squared with 1,023 degrees of freedom: mean 1,023, deviation 45.
  assert len(counts) == 1024
  assert np.sum((counts - 100) ** 2 / 100) < 1023 + 4 * 45


def test_outputs_for_the_views_of_cutout_are_not_stored():
  assert CROP_AND_FLIP.has_stored_views
  assert not augmentation.AUGMENTATIONS['crop_flip_cutout'].has_stored_views


def test_a_view_depends_on_its_key_alone():
  keys = jax.random.split(jax.random.key(0), 5)
  together = _choose(CROP_AND_FLIP, keys)
  np.testing.assert_array_equal(
    together[3:4], _choose(CROP_AND_FLIP, keys[3:4])
  )


def test_mixup_mixes_each_image_with_the_one_before():
  images = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 1), np.uint8)
  mixup = jax.vmap(lambda key: augmentation.mixup(images, key, alpha=2.0))
  mixed, shares = jax.jit(mixup)(jax.random.split(jax.random.key(0), 200))
  share = np.asarray(shares).reshape(200, 1, 1, 1, 1)
  expected = share * images + (1 - share) * images[[2, 0, 1]]
  np.testing.assert_allclose(mixed, expected, rtol=1e-5)
  # Beta(2, 2): mean 1/2, standard deviation 0.2236.
  assert abs(np.mean(shares) - 0.5) < 4 * 0.2236 / np.sqrt(200)
  assert abs(np.std(shares) - 0.2236) < 0.04
