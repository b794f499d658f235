"""Random crops and flips: each a view of its image, each about as likely."""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import augment


def _views(image):
  """All 162 views by slicing."""
  padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
  height, width = image.shape[:2]
  crops = [
    padded[i : i + height, j : j + width] for i in range(9) for j in range(9)
  ]
  return np.stack([*crops, *(crop[:, ::-1] for crop in crops)])


def test_every_result_is_a_view_and_views_are_equally_likely():
  image = np.random.default_rng(0).integers(1, 256, (8, 8, 3), np.uint8)
  keys = jax.random.split(jax.random.key(0), 16_200)
  images = jnp.broadcast_to(image, (len(keys), *image.shape))
  results = np.asarray(augment.crop_and_flip(images, keys))
  assert results.dtype == np.uint8
  views = {view.tobytes(): i for i, view in enumerate(_views(image))}
  assert len(views) == 162
  counts = np.bincount([views[r.tobytes()] for r in results], minlength=162)
  # 100 of each are expected: chi-squared, df 161.
  assert np.sum((counts - 100) ** 2 / 100) < 230


def test_a_view_depends_on_its_key_alone():
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.integers(0, 256, (5, 8, 8, 3), np.uint8))
  keys = jax.random.split(jax.random.key(0), 5)
  together = augment.crop_and_flip(images, keys)
  alone = augment.crop_and_flip(images[3:4], keys[3:4])
  np.testing.assert_array_equal(together[3], alone[0])
