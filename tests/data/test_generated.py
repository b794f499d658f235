"""The generated data sets: the same everywhere, learnable, not trivial."""

import numpy as np
import pytest

from kd_jax import data

SHAPES = {'generated': (28, 28, 1), 'generated_rgb': (32, 32, 3)}
# All arithmetic is on integers and the random stream is frozen, so that no
# platform or version may give another digest. Change a digest only together
# with generated.py, and note the change in the change log.
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


def test_every_platform_gives_the_same_digest(generated):
  assert generated.digest == DIGESTS[generated.name]


def test_train_and_test_share_no_image(generated):
  train = {image.tobytes() for image in generated.train.images}
  test = {image.tobytes() for image in generated.test.images}
  assert len(train) == 2000
  assert not train & test


def test_learnable_but_not_trivial(generated):
  """Checks the accuracy of the nearest class mean.

  With few training examples, the accuracy is far above chance. With all
  examples, it is higher, but below 100%.
  """

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
