"""The quick look at the user's data."""

import os

import numpy as np
import pytest
from PIL import Image

from kd_jax.data.dataset import DataError
from kd_jax.data.user_data import survey
from tests import helpers


def _save_images(folder, split, sizes, mode='L', **save):
  for i, (height, width) in enumerate(sizes):
    path = folder / split / 'ab'[i % 2] / f'{i}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height)).save(path, **save)


def test_a_folder_is_counted_and_measured(tmp_path):
  _save_images(tmp_path, 'train', [(6, 8)] * 4)
  assert survey.survey(str(tmp_path)) == (4, False, [(6, 8)] * 4, True, True)
  _save_images(tmp_path, 'val', [(6, 8)] * 2)
  assert survey.survey(str(tmp_path)).has_test


def test_photographs_on_their_side_have_the_size_that_is_shown(tmp_path):
  turned = Image.Exif()
  turned[0x0112] = 6
  _save_images(tmp_path, 'train', [(6, 8)] * 2, mode='RGB', exif=turned)
  looked = survey.survey(str(tmp_path))
  assert (looked.sizes, looked.is_gray) == ([(8, 6)] * 2, False)


def test_a_damaged_image_is_left_to_the_reader(tmp_path):
  _save_images(tmp_path, 'train', [(6, 8)] * 4)
  (tmp_path / 'train' / 'a' / '0.jpg').write_bytes(b'no image')
  assert survey.survey(str(tmp_path))[:3] == (4, False, [(6, 8)] * 3)
  for path in (tmp_path / 'train').rglob('*.jpg'):
    path.write_bytes(b'no image')
  with pytest.raises(DataError, match='no training image can be read'):
    survey.survey(str(tmp_path))


@pytest.mark.parametrize(
  'shape, is_gray',
  [((7, 6, 8), True), ((7, 6, 8, 1), True), ((7, 6, 8, 3), False)],
)
@pytest.mark.parametrize('has_test', [False, True])
def test_an_npz_file_is_measured_by_its_headers(
  tmp_path, shape, is_gray, has_test
):
  arrays = {'train_images': np.zeros(shape, np.uint8)}
  if has_test:
    arrays['test_images'] = arrays['train_images']
  np.savez_compressed(tmp_path / 'own.npz', **arrays)
  looked = survey.survey(str(tmp_path / 'own.npz'))
  assert looked == (7, has_test, [(6, 8)], is_gray, False)


@pytest.mark.parametrize(
  'content, message',
  [
    (None, 'config.data.name: there is no file'),
    ({'x': np.zeros(3)}, 'lacks train_images'),
    (
      {'train_images': np.zeros(3), 'train_labels': np.zeros(3, int)},
      'expected uint8',
    ),
  ],
)
def test_a_mistake_in_an_npz_file_is_named_as_by_its_reader(
  tmp_path, content, message
):
  if content is not None:
    np.savez(tmp_path / 'own.npz', **content)
  with pytest.raises(DataError, match=message):
    survey.survey(str(tmp_path / 'own.npz'))


@pytest.mark.parametrize('name', ['mnist', 'tfds:mnist', 'no/such/folder'])
def test_other_names_are_refused(name):
  expected = f'data={name}: there is no such folder; expected FILE.npz, a fol'
  with pytest.raises(DataError, match=expected):
    survey.survey(name)


def test_a_mistyped_folder_gets_the_nearest_name(tmp_path):
  (tmp_path / 'flowers').mkdir()
  with pytest.raises(DataError, match=r'did you mean flowers\?'):
    survey.survey(str(tmp_path / 'flower'))


def test_a_file_that_is_no_data_is_refused(tmp_path):
  (tmp_path / 'notes.txt').write_text('')
  with pytest.raises(DataError, match='notes.txt: expected FILE.npz'):
    survey.survey(str(tmp_path / 'notes.txt'))


@pytest.mark.faults
def test_a_pipe_among_the_images_is_left_to_the_reader(tmp_path):
  """A pipe among the images of a folder: the quick look does not wait."""
  _save_images(tmp_path, 'train', [(6, 8)] * 4)
  os.mkfifo(tmp_path / 'train' / 'a' / 'z.png')
  with helpers.time_limit(10):
    assert survey.survey(str(tmp_path)).sizes == [(6, 8)] * 4
