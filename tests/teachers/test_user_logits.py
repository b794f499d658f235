"""Logits from the user's files, and the mean of several teachers.

Also tests `kd_jax/teachers/logit_checks.py`.
"""

import pathlib

import ml_dtypes
import numpy as np
import pytest
from ml_collections import ConfigDict

from kd_jax import data
from kd_jax.data import dataset as dataset_lib
from kd_jax.data import selection
from kd_jax.runtime import errors
from kd_jax.teachers import user_logits

LOGITS = {
  'train': np.arange(6, dtype=np.float32).reshape(3, 2),
  'test': np.ones((1, 2), np.float32),
}


def _dataset(*, orders=None, count=3) -> data.Dataset:
  """Returns a data set of two classes with one test example."""
  arrays = {
    'train_images': np.zeros((count, 2, 2, 1), np.uint8),
    'train_labels': np.arange(count) % 2,
    'test_images': np.zeros((1, 2, 2, 1), np.uint8),
    'test_labels': np.zeros(1, int),
  }
  return dataset_lib.make_dataset(
    'toy', arrays, num_classes=2, digest='digest', orders=orders
  )


def _load(path, dataset=None):
  return user_logits.load_outputs(path, dataset or _dataset())


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_a_file_of_the_user(tmp_path, dtype):
  np.save(tmp_path / 'a.npy', LOGITS['train'].astype(dtype))
  outputs = _load(tmp_path / 'a.npy')
  assert list(outputs) == ['train']
  np.testing.assert_array_equal(outputs['train'], LOGITS['train'])
  assert outputs['train'].dtype == np.float32
  np.savez(tmp_path / 'a.npz', **LOGITS)
  outputs = _load(tmp_path / 'a.npz')
  np.testing.assert_array_equal(outputs['test'], LOGITS['test'])


def _write(path, content):
  if isinstance(content, bytes):
    path.write_bytes(content)
  elif isinstance(content, dict):
    with open(path, 'wb') as file:
      np.savez(file, **content)
  else:
    with open(path, 'wb') as file:
      np.save(file, content)


_UNREADABLE = 'cannot be read: .*; expected FILE.npy or FILE.npz'


@pytest.mark.parametrize(
  'content, message',
  [
    (b'', _UNREADABLE),
    (b'logits', _UNREADABLE),
    (np.array([[1, 'a']], object), _UNREADABLE),
    ({'train': np.array([[1, 'a']], object)}, _UNREADABLE),
    (np.zeros((4, 2)), r'shape \(4, 2\).*needs \(3, 2\)'),
    (np.zeros((3, 5)), r'shape \(3, 5\).*needs \(3, 2\)'),
    (np.zeros(3), r'shape \(3,\)'),
    (np.zeros((3, 2), int), 'int64; expected floating-point'),
    (np.full((3, 2), np.nan), 'not all finite'),
    (np.full((3, 2), np.finfo(np.float64).min), 'beyond the range of float32'),
    (np.zeros((3, 2), ml_dtypes.bfloat16), 'V2, perhaps bfloat16.*as float32'),
    (np.full((3, 2), 0.5), 'are probabilities: give their logarithms'),
    (np.eye(3, 2)[[0, 1, 0]], 'are probabilities: give their logarithms'),
    (
      {'train': np.zeros((3, 2)), 'test': np.array([[0.3, 0.7]], np.float16)},
      'test logits .* are probabilities',
    ),
    ({'test': np.zeros((1, 2))}, "expected 'train'"),
    ({'train': np.zeros((3, 2)), 'val': np.zeros((1, 2))}, "expected 'train'"),
    (
      {'train': np.zeros((3, 2)), 'test': np.zeros((2, 2))},
      r'test logits .* shape \(2, 2\)',
    ),
  ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, content, message):
  path = tmp_path / 'logits'
  _write(path, content)
  with pytest.raises(errors.UserError, match=message):
    _load(path)


def test_rows_of_a_file_are_in_the_order_of_the_users_files(tmp_path):
  """The user's data has another order, and parts are taken from that order."""
  rows = np.array([3, 0, 4, 1, 2])
  dataset = _dataset(orders={'train': rows, 'test': np.zeros(1, int)}, count=5)
  train = np.arange(10.0).reshape(5, 2)
  np.savez(tmp_path / 'a.npz', train=train, test=-np.ones((1, 2)))
  outputs = _load(tmp_path / 'a.npz', dataset)
  np.testing.assert_array_equal(outputs['train'], train[rows])
  np.testing.assert_array_equal(outputs['test'], [[-1, -1]])
  section = dict(holdout_examples=2, train_examples=2, test_examples=0)
  selected = selection.select(dataset, ConfigDict(section))
  outputs = _load(tmp_path / 'a.npz', selected)
  np.testing.assert_array_equal(outputs['train'], train[[3, 0]])
  np.testing.assert_array_equal(outputs['test'], train[[1, 2]])
  # Logits of a part have an order that only this project knows.
  np.save(tmp_path / 'part.npy', train[:2])
  with pytest.raises(errors.UserError, match=r'needs \(5, 2\), for the exam'):
    _load(tmp_path / 'part.npy', selected)


def test_rows_of_a_part_of_built_in_data(tmp_path):
  section = dict(holdout_examples=1, train_examples=0, test_examples=0)
  selected = selection.select(_dataset(), ConfigDict(section))
  whole = np.arange(6.0).reshape(3, 2)
  np.save(tmp_path / 'whole.npy', whole)
  outputs = _load(tmp_path / 'whole.npy', selected)
  np.testing.assert_array_equal(outputs['train'], whole[:2])
  np.testing.assert_array_equal(outputs['test'], whole[2:])
  np.savez(tmp_path / 'parts.npz', train=whole[:2], test=whole[2:])
  outputs = _load(tmp_path / 'parts.npz', selected)
  np.testing.assert_array_equal(outputs['train'], whole[:2])
  np.testing.assert_array_equal(outputs['test'], whole[2:])


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(errors.UserError, match='there is no file'):
    _load(tmp_path / 'none.npy')


def test_the_name_of_one_file_may_have_a_comma(tmp_path):
  one, other = (str(tmp_path / name) for name in ('a, b.npz', 'c.npz'))
  assert user_logits.file_names(f'{other},{other}') == [other, other]
  pathlib.Path(one).touch()
  assert user_logits.file_names(one) == [one]


def test_an_ensemble_is_the_mean_of_its_logits_or_of_its_probabilities():
  rng = np.random.default_rng(0)
  teachers = [
    {'train': rng.normal(size=(5, 3)), 'test': rng.normal(size=(4, 3))},
    {'train': rng.normal(size=(5, 3))},
  ]
  a, b = (t['train'] for t in teachers)
  by_logits = user_logits.average(teachers, 'logits')
  assert set(by_logits) == {'train'} and by_logits['train'].dtype == np.float32
  np.testing.assert_allclose(by_logits['train'], (a + b) / 2, rtol=1e-6)
  softmax = lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)
  by_probabilities = user_logits.average(teachers, 'probabilities')['train']
  np.testing.assert_allclose(
    softmax(by_probabilities), (softmax(a) + softmax(b)) / 2, rtol=1e-5
  )
