"""Images without labels, from a folder and from a file."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from kd_jax import data
from kd_jax.data.user_data import unlabeled_images
from kd_jax.runtime import errors, host_memory


@pytest.fixture(name='images', scope='module')
def _images(generated):
  """Returns images of the shape of the generated data."""
  shape = (5, *generated.task.image_shape)
  return np.random.RandomState(0).randint(256, size=shape, dtype=np.uint8)


def _write_folder(folder, images):
  """Writes images into two folders, in the order of their paths."""
  for i, image in enumerate(images):
    path = folder / ('a', 'b')[i // 3] / f'{i}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0]).save(path)
  (folder / '.hidden').mkdir()
  Image.fromarray(images[0, ..., 0]).save(folder / '.hidden' / '0.png')
  (folder / 'notes.txt').write_text('no image')


def test_a_folder_and_a_file_of_the_same_images_are_the_same(
  generated, images, tmp_path
):
  _write_folder(tmp_path / 'folder', images)
  np.savez(tmp_path / 'file.npz', images=images[..., 0])
  added = [
    data.add_unlabeled(generated, str(tmp_path / name))
    for name in ('folder', 'file.npz')
  ]
  for dataset in added:
    count = len(generated.train.labels)
    np.testing.assert_array_equal(dataset.train.images[count:], images)
    np.testing.assert_array_equal(
      dataset.train.images[:count], generated.train.images
    )
    assert set(dataset.train.labels[count:].tolist()) == {data.NO_LABEL}
    assert dataset.num_labeled == count
    assert dataset.test is generated.test
    assert dataset.digest == generated.digest
  assert added[0].unlabeled == added[1].unlabeled != ''


def test_other_images_have_another_name(generated, images, tmp_path):
  np.savez(tmp_path / 'a.npz', images=images)
  np.savez(tmp_path / 'b.npz', images=images[:-1])
  names = {
    data.add_unlabeled(generated, str(tmp_path / f'{name}.npz')).unlabeled
    for name in 'ab'
  }
  assert len(names) == 2


def test_image_files_are_resized_like_the_data(generated, tmp_path):
  Image.fromarray(np.zeros((50, 40), np.uint8)).save(tmp_path / '0.png')
  shape = generated.task.image_shape
  users = dataclasses.replace(generated, files_digest='digest')
  for dataset, image_size in ((generated, 0), (users, shape[0])):
    added = data.add_unlabeled(dataset, str(tmp_path), image_size=image_size)
    assert added.train.images[-1].shape == shape
  with pytest.raises(
    errors.UserError, match=r'0.png is 40 x 50, .*config.data.image_size=N'
  ):
    data.add_unlabeled(users, str(tmp_path))


def test_images_that_cannot_be_used_are_refused(generated, images, tmp_path):
  add = lambda name: data.add_unlabeled(generated, str(tmp_path / name))
  (tmp_path / 'empty').mkdir()
  np.savez(tmp_path / 'other.npz', train_images=images)
  np.savez(tmp_path / 'none.npz', images=images[:0])
  np.savez(tmp_path / 'small.npz', images=images[:, 1:])
  np.savez(tmp_path / 'floats.npz', images=images / 255)
  (tmp_path / 'damaged.npz').write_bytes(b'no archive')
  with open(tmp_path / 'one.npz', 'wb') as file:
    np.save(file, images)
  for name, message in (
    ('missing', "expected a folder of images, FILE.npz .*'images', or 'rest'"),
    ('missing.npz', 'unlabeled: there is no file'),
    ('empty', r'holds no images: expected files \*\.png'),
    ('other.npz', "lacks the array 'images'; it holds train_images"),
    ('none.npz', 'holds no images'),
    ('small.npz', r'have the shape \(27, 28, 1\), but .* \(28, 28, 1\)'),
    ('floats.npz', 'expected uint8'),
    ('damaged.npz', "cannot be read: .*; expected FILE.npz with .* 'images'"),
    ('one.npz', 'holds one array without a name; expected FILE.npz with'),
  ):
    with pytest.raises(errors.UserError, match=message):
      add(name)


def test_images_beyond_the_memory_are_refused_before_they_are_read(
  generated, images, tmp_path, monkeypatch
):
  np.savez(tmp_path / 'file.npz', images=images)
  monkeypatch.setattr(host_memory, 'available_bytes', lambda: 1000)
  monkeypatch.setattr(
    unlabeled_images.npz_files, 'as_images', lambda *_: pytest.fail('read')
  )
  with pytest.raises(errors.UserError, match='the arrays of .*file.npz'):
    data.add_unlabeled(generated, str(tmp_path / 'file.npz'))


def test_without_such_images_every_example_has_a_label(generated):
  assert generated.num_labeled == len(generated.train.labels)
  assert dataclasses.replace(generated, unlabeled='x').num_labeled == len(
    generated.train.labels
  )
