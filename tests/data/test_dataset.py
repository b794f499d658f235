"""The digests of a data set, and its read-only arrays."""

import numpy as np
import pytest

from kd_jax import data
from kd_jax.data import dataset


@pytest.fixture(scope='module', params=['generated', 'generated_rgb'])
def generated(request) -> data.Dataset:
  return data.load(request.param)


def test_the_digest_covers_every_array(generated):
  arrays = dataset.named_arrays(generated.train, generated.test)
  digests = [dataset.array_digest(array) for array in arrays.values()]
  assert dataset.dataset_digest(digests) == generated.digest
  for array in arrays.values():
    changed = array.copy()
    changed.flat[-1] ^= 1
    assert dataset.array_digest(changed) not in digests


def test_the_digest_covers_shape_and_type():
  zeros = np.zeros((2, 3), np.uint8)
  variants = [zeros.T, zeros.astype(np.int8), zeros[:, :2], zeros.ravel()]
  digests = {dataset.array_digest(array) for array in [zeros, *variants]}
  assert len(digests) == 5


def test_arrays_are_read_only(generated):
  with pytest.raises(ValueError, match='read-only'):
    generated.train.images[0] = 0
