"""Data sets in folders of image files, and the mistakes in them.

Also tests `kd_jax/data/user_data/image_files.py`.
"""

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from kd_jax import data
from kd_jax.runtime import errors, host_memory
from tests.data import toys


@pytest.fixture
def arrays():
  return toys.class_arrays(np.random.default_rng(0))


def _save_folder(folder, arrays, *, suffix='png', names=('ant', 'bee', 'cat')):
  for split in ('train', 'test'):
    labels = arrays[f'{split}_labels']
    for i, (image, label) in enumerate(
      zip(arrays[f'{split}_images'], labels, strict=True)
    ):
      path = folder / split / names[label] / f'{i:03d}.{suffix}'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(image.squeeze()).save(path)
  return str(folder)


def test_a_folder_of_images_is_the_data_set(arrays, tmp_path):
  dataset = data.load(_save_folder(tmp_path / 'insects', arrays))
  assert dataset.name == 'insects'
  assert dataset.class_names == ('ant', 'bee', 'cat')
  # The order of the files is by class and name; the data set has another one.
  by_class = np.argsort(arrays['train_labels'], kind='stable')
  order = by_class[dataset.train.origin.positions]
  np.testing.assert_array_equal(
    dataset.train.images, arrays['train_images'][order]
  )
  np.testing.assert_array_equal(
    dataset.train.labels, arrays['train_labels'][order]
  )
  assert sorted(dataset.train.origin.positions) == [*range(6)]
  assert len(dataset.test.labels) == 3


def test_hidden_folders_and_files_are_ignored(arrays, tmp_path):
  folder = _save_folder(tmp_path / 'insects', arrays)
  for split in ('train', 'test'):
    (tmp_path / 'insects' / split / '.ipynb_checkpoints').mkdir()
    (tmp_path / 'insects' / split / 'ant' / '._000.png').write_text('macOS')
  dataset = data.load(folder)
  assert dataset.class_names == ('ant', 'bee', 'cat')
  assert len(dataset.train.labels) == 6


def test_other_files_are_ignored_with_a_warning(arrays, tmp_path, caplog):
  folder = _save_folder(tmp_path / 'insects', arrays)
  for name in ('1.webp', '0.bmp'):
    (tmp_path / 'insects' / 'train' / 'bee' / name).write_text('')
  assert len(data.load(folder).train.labels) == 6
  expected = 'train: ignoring 2 files and folders that are not PNG or JPEG'
  assert expected in caplog.text and 'bee/0.bmp' in caplog.text


@pytest.mark.parametrize('split', ['train', 'test'])
def test_one_image_with_colors_gives_all_images_three_channels(tmp_path, split):
  arrays = toys.class_arrays(np.random.default_rng(0), shape=(4, 5, 1))
  folder = _save_folder(tmp_path / 'gray', arrays)
  Image.new('LA', (5, 4)).save(tmp_path / 'gray' / 'train' / 'ant' / '000.png')
  assert data.load(folder).train.images.shape == (6, 4, 5, 1)
  (path,) = (tmp_path / 'gray' / split / 'cat').glob('*2.png')
  Image.new('RGB', (5, 4), (9, 8, 7)).save(path)
  dataset = data.load(folder)
  assert dataset.train.images.shape == (6, 4, 5, 3)
  # In the files, the first image of class bee is the third.
  (gray,) = dataset.train.images[dataset.train.origin.positions == 2]
  np.testing.assert_array_equal(
    gray, np.repeat(arrays['train_images'][1], 3, -1)
  )


def test_gray_files_have_one_channel(tmp_path):
  arrays = toys.class_arrays(np.random.default_rng(0), shape=(4, 5, 1))
  dataset = data.load(_save_folder(tmp_path / 'gray', arrays))
  assert dataset.train.images.shape == (6, 4, 5, 1)


def test_a_size_beyond_the_memory_is_refused_before_an_image_is_decoded(
  arrays, tmp_path, monkeypatch
):
  folder = _save_folder(tmp_path / 'insects', arrays)
  monkeypatch.setattr(host_memory, 'available_bytes', lambda: 2**33)
  with pytest.raises(errors.UserError, match='100000 x 100000 pixels take'):
    data.load(folder, image_size=100_000)
  # One image would fit in memory, but not the training split.
  with pytest.raises(errors.UserError, match='6 images of 30000 x 30000'):
    data.load(folder, image_size=30_000)


def test_a_pipe_among_the_images_is_not_waited_for(arrays, tmp_path):
  folder = _save_folder(tmp_path / 'insects', arrays)
  os.mkfifo(tmp_path / 'insects' / 'train' / 'ant' / 'a.png')
  with pytest.raises(errors.UserError, match='a.png is a pipe; expected a'):
    data.load(folder)


def test_images_are_cropped_and_resized_on_request(arrays, tmp_path):
  folder = _save_folder(tmp_path / 'insects', arrays, suffix='jpg')
  odd = tmp_path / 'insects' / 'train' / 'ant' / '999.png'
  Image.new('RGB', (30, 10), (255, 0, 0)).save(odd)
  # Both files are named, because either may be the odd one.
  message = (
    r'/001.jpg is 5 x 4, but .*/999.png is 30 x 10: .*image_size=N crops'
  )
  with pytest.raises(data.DataError, match=message):
    data.load(folder)
  dataset = data.load(folder, image_size=8)
  assert dataset.train.images.shape == (7, 8, 8, 3)
  (red,) = dataset.train.images[dataset.train.origin.positions == 2]
  np.testing.assert_array_equal(red, np.full((8, 8, 3), (255, 0, 0), np.uint8))


def test_names_that_differ_in_unicode_normalization_are_one_class(
  arrays, tmp_path
):
  folder = _save_folder(
    tmp_path / 'insects', arrays, names=('fourmi', 'gu\u00eape', 'z')
  )
  wasp = tmp_path / 'insects' / 'test' / 'gu\u00eape'
  wasp.rename(wasp.with_name(unicodedata.normalize('NFD', wasp.name)))
  dataset = data.load(folder)
  assert dataset.class_names == ('fourmi', 'gu\u00eape', 'z')
  assert sorted(dataset.test.labels) == [0, 1, 2]


def _without_train(folder):
  (folder / 'train').rename(folder / 'exercise')


def _without_test(folder):
  (folder / 'test').rename(folder / 'exam')


def _without_test_images(folder):
  for path in (folder / 'test').rglob('*.png'):
    path.unlink()


def _unknown_test_class(folder):
  (folder / 'test' / 'dog').mkdir()


def _damaged_image(folder):
  path = folder / 'train' / 'bee' / '001.png'
  path.write_bytes(path.read_bytes()[:40])


def _empty_train_class(folder):
  for path in (folder / 'train' / 'bee').iterdir():
    path.unlink()


def _16_bit_image(folder):
  pixels = np.zeros((4, 5), np.uint16)
  Image.fromarray(pixels).save(folder / 'train' / 'cat' / '000.png')


def _16_bit_colors(folder):
  path = folder / 'train' / 'cat' / '000.png'
  path.write_bytes(toys.png_of_16_bits(width=5, height=4))


def _decompression_bomb(folder):
  Image.new('1', (20_000, 10_000)).save(folder / 'train' / 'cat' / '999.png')


@pytest.mark.faults
@pytest.mark.parametrize(
  'spoil, message',
  [
    (_without_train, 'insects lacks train/: expected train/ and test/'),
    (
      _without_test,
      r'no test split: expected test/ \(or val/\).*config.data.holdout_exam',
    ),
    (_without_test_images, 'test holds no images'),
    (_unknown_test_class, 'test has classes that train/ lacks: dog'),
    (_damaged_image, 'bee/001.png: '),
    (_empty_train_class, r'train/bee holds no images: add \*.png'),
    (_16_bit_image, 'cat/000.png: has more than 8 bits'),
    (_16_bit_colors, 'cat/000.png: has more than 8 bits'),
    (_decompression_bomb, 'cat/999.png: .*decompression bomb'),
  ],
)
def test_a_mistake_in_a_folder_is_named(arrays, tmp_path, spoil, message):
  """A mistake in the user's folder of images: it is named."""
  folder = _save_folder(tmp_path / 'insects', arrays)
  spoil(tmp_path / 'insects')
  with pytest.raises(data.DataError, match=message):
    data.load(folder)
