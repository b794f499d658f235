"""Teachers that come with the project: written, and read again."""

import jax
import numpy as np
import pytest

from kd_jax.runtime import errors
from kd_jax.teachers import pretrained
from tests import helpers

MANIFEST = {
  'data': 'mnist',
  'data_digest': 'd',
  'teacher': {'model': {}},
  'training': {},
}
LOGITS = {
  'train': np.arange(6, dtype=np.float32).reshape(3, 2),
  'test': np.ones((1, 2), np.float32),
}


def test_published_outputs_are_half_floats_that_come_back(tmp_path):
  outputs = {'unit': LOGITS, 'symmetric': {k: -v for k, v in LOGITS.items()}}
  manifest = MANIFEST | {'command': 'c'}
  pretrained.write(tmp_path, manifest, outputs=outputs)
  content = pretrained.read_manifest(tmp_path, 'd')
  logits = pretrained.read_logits(tmp_path, content, 'symmetric')
  assert content['command'] == 'c'
  for split, array in LOGITS.items():
    assert logits[split].dtype == np.float32
    np.testing.assert_array_equal(logits[split], -array)
    assert np.load(tmp_path / f'unit-{split}.npy').dtype == np.float16


def test_published_weights_are_half_floats_that_come_back(tmp_path):
  rng = np.random.default_rng(0)
  weights = {
    'params': {
      'hidden0': {'kernel': rng.normal(size=(3, 4)), 'bias': np.zeros(4)}
    },
    'batch_stats': {'mean': rng.normal(size=4)},
  }
  assert not pretrained.has_weights(tmp_path)
  pretrained.write(tmp_path, MANIFEST, weights=weights)
  assert pretrained.has_weights(tmp_path)
  manifest = pretrained.read_manifest(tmp_path, 'd')
  found = pretrained.read_weights(tmp_path, manifest, weights)
  jax.tree.map(
    np.testing.assert_array_equal, found, pretrained.as_float16(weights)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-3), found, weights
  )
  path = tmp_path / pretrained.WEIGHTS
  helpers.cut_bytes(path)
  with pytest.raises(errors.UserError, match='weights.npz is damaged'):
    pretrained.read_weights(tmp_path, manifest, weights)


def test_logits_beyond_half_floats_are_refused(tmp_path):
  for value in (1e5, np.nan):
    outputs = {'unit': {'train': np.full((2, 2), value, np.float32)}}
    with pytest.raises(errors.UserError, match='its training diverged'):
      pretrained.write(tmp_path, {}, outputs=outputs)
