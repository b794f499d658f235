"""The generated sets: the same everywhere, learnable, not trivial."""

import numpy as np
import pytest

from kd_jax import data
from kd_jax.data import dataset

SHAPES = {'generated': (28, 28, 1), 'generated_rgb': (32, 32, 3)}
# Integers and a frozen random stream: no platform or version may differ. Change
# these only together with generated.py, and say so in the change log.
DIGESTS = {
  'generated': (
    'a8137a6bd38ea92ed37cf4dabafc9d69ecd8fec8b949e7d36b307d6ce39225cb'
  ),
  'generated_rgb': (
    'e7cd563f374e34e2f7e92f3ec7fdb81ff1e42e57214d614a785149ca0f898776'
  ),
}


@pytest.fixture(scope='module', params=SHAPES)
def generated(request) -> data.Dataset:
  return data.load(request.param)


def test_shapes_and_types(generated):
  shape = SHAPES[generated.name]
  for split, size in ((generated.train, 2000), (generated.test, 500)):
    assert split.images.shape == (size, *shape)
    assert split.images.dtype == np.uint8
    assert split.labels.dtype == np.int32
    np.testing.assert_array_equal(np.bincount(split.labels), [size // 10] * 10)
  assert generated.num_classes == 10


def test_the_same_everywhere(generated):
  assert generated.digest == DIGESTS[generated.name]


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
  others = [zeros.T, zeros.astype(np.int8), zeros[:, :2], zeros.ravel()]
  digests = {dataset.array_digest(array) for array in [zeros, *others]}
  assert len(digests) == 5


def test_arrays_are_read_only(generated):
  with pytest.raises(ValueError, match='read-only'):
    generated.train.images[0] = 0


def test_train_and_test_share_no_image(generated):
  train = {image.tobytes() for image in generated.train.images}
  test = {image.tobytes() for image in generated.test.images}
  assert len(train) == 2000
  assert not train & test


def test_learnable_but_not_trivial(generated):
  """Least squares on few examples is far above chance; on all, below 100%."""

  def accuracy(count):
    train, test = (
      np.c_[split.images.reshape(len(split.labels), -1) / 255, split.labels]
      for split in (generated.train, generated.test)
    )
    means = np.stack(
      [train[:count][train[:count, -1] == k, :-1].mean(0) for k in range(10)]
    )
    distances = ((test[:, None, :-1] - means) ** 2).sum(-1)
    return (distances.argmin(1) == test[:, -1]).mean()

  assert accuracy(100) > 0.3
  assert accuracy(100) + 0.05 < accuracy(2000) < 0.98
