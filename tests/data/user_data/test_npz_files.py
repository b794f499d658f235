"""Data sets in .npz files, and the mistakes in them.

Also tests `kd_jax/data/user_data/user_datasets.py`.
"""

import pathlib
import zipfile

import numpy as np
import pytest

from kd_jax import data
from kd_jax.data.dataset import DataError
from kd_jax.data.user_data import npz_files
from kd_jax.runtime import errors, host_memory
from kd_jax.teachers import user_logits
from tests.data import toys


def _save(path, arrays):
  np.savez(path, **arrays)
  return str(path)


@pytest.fixture
def arrays():
  return toys.class_arrays(np.random.default_rng(0))


def test_the_arrays_of_a_file_are_the_data_set(arrays, tmp_path):
  dataset = data.load(_save(tmp_path / 'mine.npz', arrays))
  assert (dataset.name, dataset.num_classes) == ('mine', 3)
  for split in ('train', 'test'):
    part = getattr(dataset, split)
    rows = part.origin.positions
    for found, name in ((part.images, 'images'), (part.labels, 'labels')):
      expected = arrays[f'{split}_{name}'][rows]
      np.testing.assert_array_equal(found, expected)
  assert dataset.train.labels.dtype == np.int32
  arrays['train_images'][0, 0, 0, 0] ^= 1
  changed = data.load(_save(tmp_path / 'mine.npz', arrays))
  assert changed.digest != dataset.digest


def test_gray_images_and_columns_of_labels_are_reshaped(tmp_path):
  arrays = toys.class_arrays(np.random.default_rng(0), shape=(4, 5))
  arrays['train_labels'] = arrays['train_labels'][:, None]
  dataset = data.load(_save(tmp_path / 'gray.npz', arrays))
  assert dataset.train.images.shape == (6, 4, 5, 1)
  assert dataset.train.labels.shape == (6,)


def _without_labels(arrays):
  del arrays['train_labels']


def _float_images(arrays):
  arrays['test_images'] = arrays['test_images'] / 255


def _negative_label(arrays):
  arrays['train_labels'][4] = -1


def _too_few_labels(arrays):
  arrays['train_labels'] = arrays['train_labels'][:5]


def _other_image_size(arrays):
  arrays['test_images'] = arrays['test_images'][:, :3]


def _labels_from_one_on(arrays):
  arrays['train_labels'] += 1
  arrays['test_labels'] += 1


def _untrained_class(arrays):
  arrays['test_labels'][2] = 255


def _label_beyond_int32(arrays):
  arrays['train_labels'][2] = 2**32 + 1


def _pickled_objects(arrays):
  arrays['train_labels'] = np.array([{}] * 6, dtype=object)


def _no_test_examples(arrays):
  arrays['test_images'] = arrays['test_images'][:0]
  arrays['test_labels'] = arrays['test_labels'][:0]


def _channels_first(arrays):
  for split in ('train', 'test'):
    images = np.repeat(arrays[f'{split}_images'], 8, axis=1)
    arrays[f'{split}_images'] = images.transpose(0, 3, 1, 2)


def _gray_channels_first(arrays):
  for split in ('train', 'test'):
    count = len(arrays[f'{split}_images'])
    arrays[f'{split}_images'] = np.zeros((count, 1, 28, 28), np.uint8)


def _examples_last(arrays):
  arrays['train_images'] = arrays['train_images'].transpose(1, 2, 3, 0)


def _without_test(arrays):
  del arrays['test_images'], arrays['test_labels']


def _no_pixels(arrays):
  for split in ('train', 'test'):
    arrays[f'{split}_images'] = arrays[f'{split}_images'][:, :0]


def _no_channels(arrays):
  for split in ('train', 'test'):
    arrays[f'{split}_images'] = arrays[f'{split}_images'][..., :0]


def test_a_missing_test_split_is_empty_on_request(arrays, tmp_path):
  _without_test(arrays)
  path = _save(tmp_path / 'mine.npz', arrays)
  dataset = data.load(path, needs_test=False)
  assert dataset.test.images.shape == (0, 4, 5, 3)
  assert dataset.test.labels.shape == (0,)
  assert len(dataset.train.labels) == 6


@pytest.mark.faults
@pytest.mark.parametrize(
  'spoil, message',
  [
    (_channels_first, r'\[N, C, H, W\].*images.transpose\(0, 2, 3, 1\)'),
    (_gray_channels_first, r'images.transpose\(0, 2, 3, 1\)'),
    (_examples_last, r'\[H, W, C, N\].*images.transpose\(3, 0, 1, 2\)'),
    (_without_test, 'no test split: .*test_images.*config.data.holdout_exam'),
    (_without_labels, 'lacks train_labels; it holds train_images'),
    (_float_images, r'test_images are float64 \[3, 4, 5, 3\]; expected uint8'),
    (_negative_label, r'train_labels\[4\] is -1'),
    (
      _labels_from_one_on,
      r'train_labels\[0\] is 1, but no label is 0; expected integers .*'
      ': they start at 1: give labels - 1$',
    ),
    (
      _untrained_class,
      r'test_labels\[2\] is 255; expected integers from 0 to 2',
    ),
    (
      _label_beyond_int32,
      r'train_labels\[2\] is 4294967297; expected the number of a class',
    ),
    (
      _too_few_labels,
      r'train_labels are int64 \[5\]; expected integers \[6\]',
    ),
    (
      _other_image_size,
      r'train_images are \(4, 5, 3\), but test_images are \(3, 5, 3\)',
    ),
    (_no_pixels, r'have shape \[6, 0, 5, 3\], images without a pixel'),
    (_no_channels, r'have shape \[6, 4, 5, 0\], images without a pixel'),
    (_pickled_objects, 'cannot be read: .*allow_pickle.*; expected FILE.npz'),
    (_no_test_examples, 'the split test has no examples'),
  ],
)
def test_a_mistake_in_the_arrays_is_named(arrays, tmp_path, spoil, message):
  """A mistake in the user's arrays: it is named."""
  spoil(arrays)
  with pytest.raises(data.DataError, match=message):
    data.load(_save(tmp_path / 'mine.npz', arrays))


def test_arrays_beyond_the_memory_are_refused_before_they_are_read(
  arrays, tmp_path, monkeypatch
):
  path = _save(tmp_path / 'mine.npz', arrays)
  monkeypatch.setattr(host_memory, 'available_bytes', lambda: 100)
  with pytest.raises(errors.UserError, match='the arrays of .*mine.npz take'):
    data.load(path)


@pytest.mark.faults
def test_an_invalid_npz_file_is_refused(arrays, tmp_path):
  """A file that is not a valid .npz file: it is refused."""
  valid = _save(tmp_path / 'valid.npz', arrays)
  content = bytearray(pathlib.Path(valid).read_bytes())
  content[len(content) // 2] ^= 0xFF
  (tmp_path / 'damaged.npz').write_bytes(content)
  with pytest.raises(
    data.DataError, match='name: .*damaged.npz cannot be read'
  ):
    data.load(str(tmp_path / 'damaged.npz'))
  (tmp_path / 'mine.npz').write_bytes(b'PK\x03\x04 nothing')
  with pytest.raises(
    data.DataError, match='mine.npz cannot be read: .*; expected FILE'
  ):
    data.load(str(tmp_path / 'mine.npz'))
  with open(tmp_path / 'one.npz', 'wb') as file:
    np.save(file, arrays['train_images'])
  with pytest.raises(data.DataError, match='one.npz holds one array without'):
    data.load(str(tmp_path / 'one.npz'))
  with pytest.raises(
    data.DataError, match='config.data.name: there is no file'
  ):
    data.load(str(tmp_path / 'other.npz'))


@pytest.mark.faults
def test_a_member_that_is_no_array_is_refused(tmp_path):
  """A damaged member of an .npz file, which the fuzzer found: it is refused."""
  path = tmp_path / 'own.npz'
  with zipfile.ZipFile(path, 'w') as archive:
    for name in ('train_images', 'train_labels', 'test_images', 'test_labels'):
      archive.writestr(f'{name}.npy', b'no array')
  with pytest.raises(DataError, match='train_images is no array'):
    data.load(str(path))
  with pytest.raises(errors.UserError, match='is no array'):
    user_logits.load_outputs(path, data.load('generated'))


@pytest.mark.faults
def test_a_single_number_is_no_split(tmp_path):
  """An array without axes, which the fuzzer found: it is refused by name."""
  arrays = dict.fromkeys(
    ('train_images', 'train_labels', 'test_images', 'test_labels'),
    np.zeros((), np.uint8),
  )
  np.savez(tmp_path / 'own.npz', **arrays)
  with pytest.raises(DataError, match='train_images is a single number'):
    data.load(str(tmp_path / 'own.npz'))


@pytest.mark.parametrize(
  ('shape', 'axes'),
  [
    ((9, 3, 32, 32), (0, 2, 3, 1)),
    ((9, 2, 16, 16), (0, 2, 3, 1)),
    ((9, 5, 24, 28), (0, 2, 3, 1)),
    ((9, 32, 3, 32), (0, 1, 3, 2)),
    ((32, 30, 3, 9), (3, 0, 1, 2)),
    ((9, 32, 32, 3), None),
    ((9, 32, 32, 13), None),  # Satellites have many channels.
    ((9, 3, 4, 4), None),  # Such images may be RGBA.
    ((9, 28, 28), None),
  ],
)
def test_another_order_of_axes_is_recognized_by_the_lengths(shape, axes):
  found = npz_files._order_of_axes(shape, 9)
  assert (found and found[1]) == axes
