"""Stored teacher outputs: reuse, recomputation and damage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import losses, models
from kd_jax.data import preprocessing
from kd_jax.evaluation import inference
from kd_jax.models import apply
from kd_jax.runtime import errors, host_memory
from kd_jax.teachers import output_store
from tests import helpers

IDENTITY = {'weights': 'abc', 'model': {'hidden': [3]}, 'data_digest': 'd'}
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
  first = output_store.load_or_compute(tmp_path / 'o', IDENTITY, compute)
  second = output_store.load_or_compute(tmp_path / 'o', IDENTITY, compute)
  assert compute.calls == 1
  for split, logits in LOGITS.items():
    np.testing.assert_array_equal(first[split], logits)
    np.testing.assert_array_equal(second[split], logits)


@pytest.mark.parametrize('field', IDENTITY)
def test_anything_else_in_the_identity_recomputes_and_says_so(
  tmp_path, field, caplog
):
  compute = Compute()
  output_store.load_or_compute(tmp_path, IDENTITY, compute)
  with caplog.at_level('INFO'):
    output_store.load_or_compute(tmp_path, IDENTITY | {field: 'other'}, compute)
  assert compute.calls == 2
  assert f'another {field}' in caplog.text


@pytest.mark.parametrize('split', LOGITS)
def test_a_damaged_or_missing_file_is_noticed(tmp_path, split, caplog):
  compute = Compute()
  output_store.load_or_compute(tmp_path, IDENTITY, compute)
  path = tmp_path / f'{split}.npy'
  helpers.flip_byte(path)
  with caplog.at_level('INFO'):
    outputs = output_store.load_or_compute(tmp_path, IDENTITY, compute)
  assert compute.calls == 2
  assert f'{split}.npy is damaged' in caplog.text
  np.testing.assert_array_equal(outputs[split], LOGITS[split])
  path.unlink()
  output_store.load_or_compute(tmp_path, IDENTITY, compute)
  assert compute.calls == 3


def test_a_store_without_its_manifest_is_no_store(tmp_path):
  compute = Compute()
  output_store.load_or_compute(tmp_path, IDENTITY, compute)
  (tmp_path / 'manifest.json').write_text('{"fingerprint": {')
  output_store.load_or_compute(tmp_path, IDENTITY, compute)
  assert compute.calls == 2


def _views(folder, asked, identity=None, scale=1.0):
  """Returns a store whose logits name their example and their view."""

  def compute(examples, views):
    asked.extend(zip(examples.tolist(), views.tolist(), strict=True))
    return scale * np.stack([examples + 0.1, views + 0.2], axis=1)

  return output_store.ViewOutputs(
    folder, identity or IDENTITY, compute, shape=(4, 6, 2)
  )


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
  other = _views(tmp_path, asked, IDENTITY | {'weights': 'other'}, scale=2)
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
  assert 'is damaged and was removed' in caplog.text and not damaged.exists()
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
  variables = apply.init_variables(module, shape, jax.random.key(0))
  predict = inference.make_batched_predict(
    apply.make_apply(module), preprocessing.unit, batch_size=300
  )
  images = jnp.asarray(generated.train.images)
  stored = output_store.load_or_compute(
    tmp_path,
    IDENTITY,
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


def test_views_beyond_the_memory_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(host_memory, 'available_bytes', lambda: 90)
  with pytest.raises(errors.UserError, match='all views of the images take'):
    _views(tmp_path, [])


@pytest.mark.parametrize('content', ['[]', '5', '{"fingerprint": 1}', '\\xff'])
def test_a_manifest_of_another_shape_is_no_store(tmp_path, content):
  compute = Compute()
  output_store.load_or_compute(tmp_path, IDENTITY, compute)
  (tmp_path / 'manifest.json').write_text(content)
  output_store.load_or_compute(tmp_path, IDENTITY, compute)
  assert compute.calls == 2
