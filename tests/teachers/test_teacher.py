"""Stored teacher outputs: reuse, recomputation, damage, and users' files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import losses, models
from kd_jax.data import preprocessing
from kd_jax.evaluation import evaluate
from kd_jax.runtime import errors
from kd_jax.teachers import stored_outputs
from kd_jax.training import build
from tests import helpers

FINGERPRINT = {'weights': 'abc', 'model': {'hidden': [3]}, 'data_digest': 'd'}
LOGITS = {
  'train': np.arange(6, dtype=np.float32).reshape(3, 2),
  'test': np.ones((1, 2), np.float32),
}


class Compute:
  """A function that returns logits, and counts its calls."""

  calls = 0

  def __call__(self):
    self.calls += 1
    return LOGITS


def test_outputs_are_computed_once(tmp_path):
  compute = Compute()
  first = stored_outputs.stored_outputs(tmp_path / 'o', FINGERPRINT, compute)
  second = stored_outputs.stored_outputs(tmp_path / 'o', FINGERPRINT, compute)
  assert compute.calls == 1
  for split, logits in LOGITS.items():
    np.testing.assert_array_equal(first[split], logits)
    np.testing.assert_array_equal(second[split], logits)


@pytest.mark.parametrize('field', FINGERPRINT)
def test_anything_else_in_the_fingerprint_recomputes_and_says_so(
  tmp_path, field, caplog
):
  compute = Compute()
  stored_outputs.stored_outputs(tmp_path, FINGERPRINT, compute)
  with caplog.at_level('INFO'):
    stored_outputs.stored_outputs(
      tmp_path, FINGERPRINT | {field: 'other'}, compute
    )
  assert compute.calls == 2
  assert f'another {field}' in caplog.text


@pytest.mark.parametrize('split', LOGITS)
def test_a_damaged_or_missing_file_is_noticed(tmp_path, split, caplog):
  compute = Compute()
  stored_outputs.stored_outputs(tmp_path, FINGERPRINT, compute)
  path = tmp_path / f'{split}.npy'
  helpers.flip_byte(path)
  with caplog.at_level('INFO'):
    outputs = stored_outputs.stored_outputs(tmp_path, FINGERPRINT, compute)
  assert compute.calls == 2
  assert f'{split}.npy is damaged' in caplog.text
  np.testing.assert_array_equal(outputs[split], LOGITS[split])
  path.unlink()
  stored_outputs.stored_outputs(tmp_path, FINGERPRINT, compute)
  assert compute.calls == 3


def test_a_store_without_its_manifest_is_no_store(tmp_path):
  compute = Compute()
  stored_outputs.stored_outputs(tmp_path, FINGERPRINT, compute)
  (tmp_path / 'manifest.json').write_text('{"fingerprint": {')
  stored_outputs.stored_outputs(tmp_path, FINGERPRINT, compute)
  assert compute.calls == 2


def _views(folder, asked, fingerprint=None, scale=1.0):
  """Returns a store whose logits name their example and their view."""

  def compute(examples, views):
    asked.extend(zip(examples.tolist(), views.tolist(), strict=True))
    return scale * np.stack([examples + 0.1, views + 0.2], axis=1)

  return stored_outputs.ViewOutputs(
    folder, fingerprint or FINGERPRINT, compute,
    num_examples=4, num_views=6, num_classes=2,
  )  # fmt: skip


EXAMPLES, VIEWS = np.array([3, 0, 3, 3]), np.array([5, 1, 5, 0])


def test_a_view_is_computed_once_and_found_again(tmp_path):
  asked = []
  store = _views(tmp_path, asked)
  first = store(EXAMPLES, VIEWS)
  expected = np.stack([EXAMPLES + 0.1, VIEWS + 0.2], axis=1)
  np.testing.assert_array_equal(first, expected.astype(np.float16))
  assert sorted(asked) == [(0, 1), (3, 0), (3, 5)]
  store(np.array([3, 2]), np.array([5, 2]))
  assert asked[3:] == [(2, 2)]
  again = _views(tmp_path, asked)(EXAMPLES, VIEWS)
  np.testing.assert_array_equal(again, first)
  assert len(asked) == 4


def test_views_that_another_process_has_computed_are_read(tmp_path):
  asked, by_other = [], []
  store, other = _views(tmp_path, asked), _views(tmp_path, by_other)
  theirs = other(EXAMPLES, VIEWS)
  np.testing.assert_array_equal(store(EXAMPLES, VIEWS), theirs)
  assert asked == [] and len(by_other) == 3
  store(np.array([3, 2]), np.array([5, 2]))
  assert asked == [(2, 2)]


def test_views_of_another_teacher_are_computed_anew(tmp_path):
  asked = []
  _views(tmp_path, asked)(EXAMPLES, VIEWS)
  other = _views(tmp_path, asked, FINGERPRINT | {'weights': 'other'}, scale=2)
  np.testing.assert_array_equal(
    other(EXAMPLES, VIEWS)[:, 0], np.float16(2 * (EXAMPLES + 0.1))
  )
  assert len(asked) == 6


def test_a_damaged_part_is_noticed_and_computed_again(tmp_path, caplog):
  asked = []
  store = _views(tmp_path, asked)
  store(EXAMPLES, VIEWS)
  store(np.array([1]), np.array([1]))
  damaged = max(tmp_path.glob('*.npy'), key=lambda path: path.stat().st_size)
  helpers.flip_byte(damaged)
  again = _views(tmp_path, asked)
  assert 'is damaged, and removed' in caplog.text and not damaged.exists()
  np.testing.assert_array_equal(
    again(EXAMPLES, VIEWS)[:, 0], np.float16(EXAMPLES + 0.1)
  )
  again(np.array([1]), np.array([1]))
  assert len(asked) == 3 + 1 + 3


def test_views_beyond_half_floats_are_refused(tmp_path):
  with pytest.raises(errors.UserError, match='its training diverged'):
    _views(tmp_path, [], scale=1e5)(EXAMPLES, VIEWS)
  assert not list(tmp_path.glob('*.npy'))


def test_cached_loss_equals_live_loss(tmp_path, generated):
  """The stored logits of an example are the logits of that example."""
  module = models.ConvNet(num_classes=10, filters=(4,), hidden=(16, 16))
  shape = generated.train.images.shape[1:]
  variables = build.init_variables(module, shape, jax.random.key(0))
  predict = evaluate.make_predict(
    build.apply_fn(module), preprocessing.unit, batch_size=300
  )
  images = jnp.asarray(generated.train.images)
  stored = stored_outputs.stored_outputs(
    tmp_path,
    FINGERPRINT,
    lambda: {'train': np.asarray(predict(variables, images))},
  )['train']
  index = jax.random.permutation(jax.random.key(1), len(images))[:32]
  student = jax.random.normal(jax.random.key(2), (32, 10))
  live, _ = module.apply(
    variables, preprocessing.unit(images[index]), train=False
  )
  cached = losses.kl(student, jnp.asarray(stored)[index], temperature=2.0)
  np.testing.assert_allclose(
    cached, losses.kl(student, live, temperature=2.0), rtol=1e-4
  )
  # The logits of another example give another loss.
  wrong = losses.kl(student, jnp.asarray(stored)[index + 1], temperature=2.0)
  assert not np.allclose(cached, wrong, rtol=1e-2)


LENGTHS = {'train': 3, 'test': 1}


def _load(path):
  return stored_outputs.load_outputs(path, LENGTHS, 2)


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


def test_shipped_outputs_are_half_floats_that_come_back(tmp_path):
  outputs = {'unit': LOGITS, 'symmetric': {k: -v for k, v in LOGITS.items()}}
  manifest = {'data': 'mnist', 'data_digest': 'd', 'command': 'c'}
  stored_outputs.ship(tmp_path, outputs, manifest)
  content = stored_outputs.shipped_manifest(tmp_path, 'd')
  logits = stored_outputs.shipped_logits(tmp_path, content, 'symmetric')
  assert content['command'] == 'c'
  for split, array in LOGITS.items():
    assert logits[split].dtype == np.float32
    np.testing.assert_array_equal(logits[split], -array)
    assert np.load(tmp_path / f'unit-{split}.npy').dtype == np.float16


def test_shipped_weights_are_half_floats_that_come_back(tmp_path):
  rng = np.random.default_rng(0)
  weights = {
    'params': {
      'hidden0': {'kernel': rng.normal(size=(3, 4)), 'bias': np.zeros(4)}
    },
    'batch_stats': {'mean': rng.normal(size=4)},
  }
  assert not stored_outputs.has_weights(tmp_path)
  stored_outputs.ship(tmp_path, {}, {'data_digest': 'd'}, weights)
  assert stored_outputs.has_weights(tmp_path)
  manifest = stored_outputs.shipped_manifest(tmp_path, 'd')
  found = stored_outputs.shipped_weights(tmp_path, manifest, weights)
  jax.tree.map(
    np.testing.assert_array_equal, found, stored_outputs.rounded(weights)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-3), found, weights
  )
  path = tmp_path / stored_outputs.WEIGHTS
  helpers.cut_bytes(path)
  with pytest.raises(errors.UserError, match='weights.npz is damaged'):
    stored_outputs.shipped_weights(tmp_path, manifest, weights)


def test_logits_beyond_half_floats_are_refused(tmp_path):
  for value in (1e5, np.nan):
    outputs = {'unit': {'train': np.full((2, 2), value, np.float32)}}
    with pytest.raises(errors.UserError, match='its training diverged'):
      stored_outputs.ship(tmp_path, outputs, {})


def test_an_ensemble_is_the_mean_of_its_logits_or_of_its_probabilities():
  rng = np.random.default_rng(0)
  teachers = [
    {'train': rng.normal(size=(5, 3)), 'test': rng.normal(size=(4, 3))},
    {'train': rng.normal(size=(5, 3))},
  ]
  a, b = (t['train'] for t in teachers)
  by_logits = stored_outputs.average(teachers, 'logits')
  assert set(by_logits) == {'train'} and by_logits['train'].dtype == np.float32
  np.testing.assert_allclose(by_logits['train'], (a + b) / 2, rtol=1e-6)
  softmax = lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)
  by_probabilities = stored_outputs.average(teachers, 'probabilities')['train']
  np.testing.assert_allclose(
    softmax(by_probabilities), (softmax(a) + softmax(b)) / 2, rtol=1e-5
  )


def test_features_as_whole_numbers_are_the_nearest_levels():
  rng = np.random.default_rng(0)
  features = np.maximum(rng.normal(size=(6, 4, 4, 3)), 0)
  for bits in (1, 3, 8):
    levels, largest = stored_outputs.whole_numbers(features, bits)
    assert levels.dtype == np.uint8 and levels.max() == 2**bits - 1
    step = largest / (2**bits - 1)
    assert np.abs(levels * step - features).max() <= step / 2 + 1e-6
  with pytest.raises(errors.UserError, match='behind a ReLU'):
    stored_outputs.whole_numbers(-features, 3)
  nothing, _ = stored_outputs.whole_numbers(0 * features, 3)
  assert not nothing.any()
