"""Pretrained teachers: written, and read again."""

import hashlib
import io

import jax
import numpy as np
import pytest

from configs import mnist
from kd_jax import data
from kd_jax.runtime import errors, files, json_records
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


def test_weights_and_outputs_lie_side_by_side(tmp_path):
  weights = {'params': {'hidden0': {'bias': np.ones(2)}}}
  pretrained.write(
    tmp_path, MANIFEST, outputs={'unit': LOGITS}, weights=weights
  )
  manifest = pretrained.read_manifest(tmp_path, 'd')
  assert pretrained.has_weights(tmp_path)
  assert pretrained.has_outputs(manifest, 'unit')
  assert not pretrained.has_outputs(manifest, 'symmetric')
  found = pretrained.read_logits(tmp_path, manifest, 'unit')
  np.testing.assert_array_equal(found['train'], LOGITS['train'])
  found = pretrained.read_weights(tmp_path, manifest, weights)
  assert found['params']['hidden0']['bias'].tolist() == [1, 1]


def test_outputs_for_held_out_images_are_those_of_no_test_split():
  """The last training images, held out, stand in for the test split."""
  part = lambda count: data.Split(
    np.zeros((count, 2, 2, 1), np.uint8), np.zeros(count, int)
  )
  dataset = data.Dataset('mnist', part(3), part(1), 2, 'd')
  config = mnist.get_config('h50')
  find = lambda manifest: pretrained.find_examples(
    LOGITS, manifest, config, dataset
  )
  assert find(MANIFEST)['test'].shape == (1, 2)
  for held_out in (0, 1):
    identity = {'data': {'holdout_examples': held_out}}
    found = find(MANIFEST | {'identity': identity})
    assert (found is None) == (held_out > 0)


def test_logits_beyond_half_floats_are_refused(tmp_path):
  for value in (1e5, np.nan):
    outputs = {'unit': {'train': np.full((2, 2), value, np.float32)}}
    with pytest.raises(errors.UserError, match='its training diverged'):
      pretrained.write(tmp_path, {}, outputs=outputs)


def _seal(folder, name, content):
  """Replaces a file, and makes its digest and the checksum anew."""
  (folder / name).write_bytes(content)
  manifest = json_records.read(folder / 'manifest.json', dict)
  manifest['sha256'][name] = hashlib.sha256(content).hexdigest()
  json_records.write(folder / 'manifest.json', manifest)
  return manifest


def _npy(array):
  return files.npy_content(np.asarray(array))


def _npz(**arrays):
  file = io.BytesIO()
  np.savez(file, **arrays)
  return file.getvalue()


@pytest.mark.faults
@pytest.mark.parametrize(
  'content, reason',
  [
    (_npy(np.zeros(3, 'f')), 'holds no logits'),
    (_npy(np.zeros((3, 2), 'i4')), 'are int32; expected floating-point'),
    (_npy(np.full((3, 2), np.nan, 'f2')), 'are not all finite'),
    (_npz(a=np.zeros((3, 2))), 'holds no logits'),
    (b'no array', 'is no file of numbers'),
  ],
)
def test_sealed_files_that_are_no_logits_are_refused(tmp_path, content, reason):
  """Published outputs of somebody else that are no logits: one line."""
  pretrained.write(tmp_path, MANIFEST, outputs={'unit': LOGITS})
  manifest = _seal(tmp_path, 'unit-train.npy', content)
  with pytest.raises(errors.UserError, match=reason):
    pretrained.read_logits(tmp_path, manifest, 'unit')
  manifest = _seal(tmp_path, 'unit-train.npy', _npy(LOGITS['train']))
  del manifest['sha256']['unit-test.npy']
  with pytest.raises(errors.UserError, match='unit-test.npy is damaged'):
    pretrained.read_logits(tmp_path, manifest, 'unit')


@pytest.mark.faults
@pytest.mark.parametrize(
  'content, reason',
  [
    (_npz(b=np.zeros(4)), 'params/w.*not a file in the archive'),
    (_npz(**{'params/w': np.zeros(3)}), r'its shape is \(3,\)'),
    (_npz(**{'params/w': np.full(4, np.inf)}), 'it is not finite'),
    (_npz(**{'params/w': np.array(['a'] * 4)}), 'could not convert'),
    (_npy(np.zeros(4)), 'holds no params/w'),
    (b'', 'is no file of numbers'),
  ],
)
def test_sealed_weights_of_another_network_are_refused(
  tmp_path, content, reason
):
  """Published weights of another network, with right digests: one line."""
  like = {'params': {'w': np.zeros(4, 'f')}}
  pretrained.write(tmp_path, MANIFEST, weights=like)
  manifest = _seal(tmp_path, pretrained.WEIGHTS, content)
  with pytest.raises(errors.UserError, match=reason):
    pretrained.read_weights(tmp_path, manifest, like)
