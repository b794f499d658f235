"""Logits from the user's files, and the mean of several teachers."""

import numpy as np
import pytest

from kd_jax.runtime import errors
from kd_jax.teachers import user_logits

LOGITS = {
  'train': np.arange(6, dtype=np.float32).reshape(3, 2),
  'test': np.ones((1, 2), np.float32),
}
LENGTHS = {'train': 3, 'test': 1}


def _load(path):
  return user_logits.load_outputs(path, LENGTHS, 2)


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


@pytest.mark.parametrize(
  'content, message',
  [
    (b'', 'is not a .npy or .npz file'),
    (b'logits', 'is not a .npy or .npz file'),
    (np.array([[1, 'a']], object), 'is not a .npy or .npz file'),
    ({'train': np.array([[1, 'a']], object)}, 'is not a .npy or .npz file'),
    (np.zeros((4, 2)), r'shape \(4, 2\).*needs \(3, 2\)'),
    (np.zeros((3, 5)), r'shape \(3, 5\).*needs \(3, 2\)'),
    (np.zeros(3), r'shape \(3,\)'),
    (np.zeros((3, 2), int), 'int64; expected floating-point'),
    (np.full((3, 2), np.nan), 'not all finite'),
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


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(errors.UserError, match='there is no file'):
    _load(tmp_path / 'none.npy')


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
