"""Images on disk joined with images in memory."""

import numpy as np
import pytest

from kd_jax.data import images_on_disk

SHAPE = (4, 5, 3)
COUNTS = (7, 3, 6)


@pytest.fixture(name='arrays')
def _arrays():
  """Returns the images of three parts."""
  rng = np.random.default_rng(0)
  return [rng.integers(256, size=(n, *SHAPE), dtype=np.uint8) for n in COUNTS]


@pytest.fixture(name='joined')
def _joined(arrays, tmp_path):
  """Returns the images; the part in the middle is on disk, in another order."""
  order = np.array([2, 0, 1])
  stored = np.empty_like(arrays[1])
  stored[order] = arrays[1]
  (tmp_path / 'images.u8').write_bytes(stored.tobytes())
  on_disk = images_on_disk.DecodedImages(
    images_on_disk.OpenFile(tmp_path / 'images.u8'), SHAPE, order
  )
  return images_on_disk.JoinedImages([arrays[0], on_disk, arrays[2]])


def test_joined_images_are_those_of_the_parts_one_after_another(arrays, joined):
  expected = np.concatenate(arrays)
  assert joined.shape == expected.shape and joined.nbytes == expected.nbytes
  np.testing.assert_array_equal(joined[:], expected)
  indices = np.array([15, 8, 0, 8, 7, 6, 9, 10])
  np.testing.assert_array_equal(joined.read(indices), expected[indices])
  (batch, rest) = joined.batches(indices, 5)
  np.testing.assert_array_equal(batch, expected[indices[:5]])
  np.testing.assert_array_equal(rest, expected[indices[5:]])


@pytest.mark.parametrize(
  'start, stop', [(0, 16), (3, 5), (6, 8), (7, 10), (8, 16), (12, 99), (9, 9)]
)
def test_a_part_of_joined_images_may_cross_their_parts(
  arrays, joined, start, stop
):
  part = joined.part(start, stop)
  expected = np.concatenate(arrays)[start:stop]
  assert len(part) == len(expected)
  np.testing.assert_array_equal(part[:], expected)
