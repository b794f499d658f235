"""Features of a teacher outside the project: their file, checked and read."""

import dataclasses

import numpy as np
import pytest

from kd_jax.data import selection
from kd_jax.data.dataset import Origin
from kd_jax.evaluation import mismatched_outputs
from kd_jax.runtime import errors, host_memory
from kd_jax.teachers import user_features
from tests import helpers

LAYERS = {'stage': (4, 4, 6), 'pooled': (8,)}


@pytest.fixture(name='arrays', scope='module')
def _arrays(generated):
  """Returns features by layer that tell the classes apart."""
  rng = np.random.default_rng(0)
  labels = np.asarray(generated.train.labels)
  means = rng.normal(size=(10, 8))
  noise = lambda shape: rng.normal(size=(len(labels), *shape))
  return {
    'stage': noise(LAYERS['stage']).astype(np.float32),
    'pooled': (means[labels] + noise((8,))).astype(np.float32),
  }


def _save(folder, arrays):
  np.savez(folder / 'features.npz', **arrays)
  return str(folder / 'features.npz')


def test_the_teachers_layers_are_those_of_the_file(arrays, tmp_path):
  path = _save(tmp_path, arrays)
  config = helpers.tiny_mnist(fields={'teacher.features': path})
  model = user_features.with_features(config).teacher.model
  assert dict(model.layers) == LAYERS
  without = helpers.tiny_mnist()
  assert user_features.with_features(without) is without


def test_rows_follow_the_examples_that_are_used(generated, arrays, tmp_path):
  path = _save(tmp_path, arrays)
  order = np.random.default_rng(1).permutation(len(generated.train.labels))
  train = dataclasses.replace(
    generated.train, origin=Origin('train', order[:50], len(order))
  )
  train = dataclasses.replace(train, labels=train.labels[:50])
  dataset = dataclasses.replace(generated, train=train, files_digest='users')
  features = user_features.open_file(path, dataset)
  examples = np.array([3, 3, 40])
  read = features.features(('pooled', 'stage'), 0, 'all', examples)
  for layer, array in read.items():
    assert array.dtype == np.float16
    np.testing.assert_array_equal(
      array, arrays[layer][order[examples]].astype(np.float16)
    )
  with pytest.raises(errors.UserError, match='expected finite ones of at'):
    features.features(('pooled',), 4, 'all', examples)


def test_rounded_features_are_in_units_of_the_largest(
  generated, arrays, tmp_path
):
  positive = {'relu': np.abs(arrays['pooled'])}
  features = user_features.open_file(_save(tmp_path, positive), generated)
  rows = np.arange(20)
  read = features.features(('relu',), 8, 'all', rows)
  assert read['relu'].max() == 255
  np.testing.assert_allclose(
    read['relu'] / 255 * read['relu-largest'],
    positive['relu'][:20],
    atol=read['relu-largest'] / 255,
  )


def test_a_file_of_the_examples_in_use_fits_built_in_data(
  generated, arrays, tmp_path
):
  section = helpers.tiny_mnist(fields={'data.train_examples': 30}).data
  part = selection.select(generated, section)
  few = {layer: array[:30] for layer, array in arrays.items()}
  for content in (few, arrays):
    features = user_features.open_file(_save(tmp_path, content), part)
    read = features.features(('pooled',), 0, 'all', np.arange(30))
    np.testing.assert_allclose(read['pooled'], few['pooled'], rtol=1e-3)


@pytest.mark.parametrize(
  'change, message',
  [
    (
      lambda a: {'pooled': a['pooled'][1:]},
      r'has 1,\d+ examples; expected [12],',
    ),
    (
      lambda a: {'stage': a['stage'].transpose(0, 3, 1, 2)},
      r'looks like \[N, C, H, W\].*transpose\(0, 2, 3, 1\)',
    ),
    (lambda a: {'flat': a['pooled'][:, 0]}, r'expected \[N, C\] or'),
    (lambda a: {}, 'holds no arrays'),
  ],
)
def test_files_that_do_not_fit_are_refused(
  generated, arrays, tmp_path, change, message
):
  path = _save(tmp_path, change(arrays))
  with pytest.raises(errors.UserError, match=message):
    user_features.open_file(path, generated)


def test_files_that_are_no_features_are_refused(generated, arrays, tmp_path):
  np.save(tmp_path / 'one.npy', arrays['pooled'])
  (tmp_path / 'damaged.npz').write_bytes(b'no archive')
  for name, message in (
    ('missing.npz', 'there is no file'),
    ('one.npy', 'without a name; expected FILE.npz.*LAYER'),
    ('damaged.npz', 'cannot be read: .*; expected FILE.npz.*LAYER'),
  ):
    with pytest.raises(errors.UserError, match=message):
      user_features.open_file(str(tmp_path / name), generated)


@pytest.mark.faults
def test_a_damaged_array_is_named(generated, arrays, tmp_path):
  """A damaged array of features: one line names the file."""
  path = _save(tmp_path, arrays)
  features = user_features.open_file(path, generated)
  content = bytearray((tmp_path / 'features.npz').read_bytes())
  content[len(content) // 2] ^= 1
  (tmp_path / 'features.npz').write_bytes(content)
  with pytest.raises(errors.UserError, match=f'{path} cannot be read: '):
    features.features(tuple(LAYERS), 0, 'all', np.arange(3))


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e6])
def test_features_that_are_not_finite_are_refused(
  generated, arrays, tmp_path, value
):
  pooled = arrays['pooled'].copy()
  pooled[7, 3] = value
  features = user_features.open_file(
    _save(tmp_path, {'pooled': pooled}), generated
  )
  with pytest.raises(errors.UserError, match='pooled is not finite, or beyond'):
    features.features(('pooled',), 0, 'all', np.arange(2))


def test_memory_is_compared_before_features_are_read(
  generated, arrays, tmp_path, monkeypatch
):
  features = user_features.open_file(_save(tmp_path, arrays), generated)
  monkeypatch.setattr(host_memory, 'available_bytes', lambda: 1000)
  with pytest.raises(errors.UserError, match='the arrays of .*features.npz'):
    features.features(('stage',), 0, 'all', np.arange(2))


def test_rows_of_other_examples_are_doubted(generated, arrays, tmp_path):
  path = _save(tmp_path, arrays)
  features = user_features.open_file(path, generated)
  assert user_features.find_mismatches(features, generated) == []
  shuffled = np.random.default_rng(2).permutation(arrays['pooled'])
  features = user_features.open_file(
    _save(tmp_path, {'pooled': shuffled}), generated
  )
  (sentence,) = user_features.find_mismatches(features, generated)
  assert 'seem to belong to other examples' in sentence
  assert not mismatched_outputs.is_unrelated(
    shuffled, np.zeros(len(shuffled), int)
  )


def test_features_of_a_file_teach_as_those_of_the_network(tmp_path):
  """The teacher's own features, given as a file, give the same student."""
  fields = {
    'data.train_examples': 100,
    'distill.method': 'kl+hint',
    'teacher.live': False,
  }
  record = helpers.run(helpers.tiny_mnist(fields=fields), tmp_path, 'network')
  (expected,) = record['students']
  (manifest,) = tmp_path.glob('teachers/*/features-*/manifest.json')
  store = manifest.parent
  logits = {
    split: np.load(store.parent / 'outputs-unit' / f'{split}.npy')
    for split in ('train', 'test')
  }
  np.savez(tmp_path / 'logits.npz', **logits)
  (layer,) = store.glob('*.npy')
  np.savez(tmp_path / 'features.npz', **{layer.stem: np.load(layer)})
  fields |= {
    'teacher.logits': f'{tmp_path}/logits.npz',
    'teacher.features': f'{tmp_path}/features.npz',
  }
  record = helpers.run(helpers.tiny_mnist(fields=fields), tmp_path, 'file')
  (student,) = record['students']
  assert student['weights'] == expected['weights']
  assert len(record['teacher']['features']) == 64
  # Another file is another student.
  halved = {layer.stem: np.load(layer) / 2}
  np.savez(tmp_path / 'features.npz', **halved)
  record = helpers.run(helpers.tiny_mnist(fields=fields), tmp_path, 'file')
  (other,) = record['students']
  assert other['weights'] != expected['weights']


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'teacher.logits': ''}, "'' without teacher.logits"),
    ({'train.mixup_alpha': 0.2}, '0 with teacher.features'),
    ({'teacher.features_gib': 0.0}, 'has no network to call'),
    (
      {'train.unlabeled': 'folder', 'train.subset': 'first5'},
      'those of the training split alone',
    ),
    ({'distill.hint.layers': 'hidden0:x'}, "no layer 'x'.*pooled"),
  ],
)
def test_fields_that_do_not_go_with_a_file_are_refused(
  arrays, tmp_path, fields, message
):
  count = len(arrays['pooled'])
  np.save(tmp_path / 'logits.npy', np.zeros((count, 10), np.float32))
  config = helpers.tiny_mnist(
    fields={
      'distill.method': 'kl+hint',
      'teacher.logits': f'{tmp_path}/logits.npy',
      'teacher.features': _save(tmp_path, arrays),
    }
    | fields
  )
  with pytest.raises(errors.UserError, match=message):
    helpers.run(config, tmp_path)
