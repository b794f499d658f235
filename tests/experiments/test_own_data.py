"""Runs on a user's data: its order, its classes, and data that has changed."""

import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.export import exporter, measurement
from kd_jax.report import run_report
from kd_jax.runtime import errors, files
from kd_jax.teachers import pretrained, provider
from kd_jax.training import context, plan, training_record
from tests import helpers

NUM_CLASSES = 3
NAMES = ('ant', 'bee', 'cat')


def _arrays():
  """Returns images that are easy to learn, sorted by class."""
  rng = np.random.default_rng(0)
  arrays = {}
  for split, count in (('train', 24), ('test', 8)):
    labels = np.repeat(np.arange(NUM_CLASSES), count)
    images = rng.integers(90, size=(len(labels), 6, 6, 1), dtype=np.uint8)
    images[np.arange(len(labels)), labels] += 150  # A bright row.
    arrays |= {f'{split}_images': images, f'{split}_labels': labels}
  return arrays


def _logits(arrays, order=range(NUM_CLASSES)):
  """Returns logits of a perfect teacher, with its classes in an order."""
  onehot = 5 * np.eye(NUM_CLASSES, dtype=np.float32)[:, list(order)]
  return {
    split: onehot[arrays[f'{split}_labels']] for split in ('train', 'test')
  }


def _save_npz(folder, arrays=None):
  np.savez(folder / 'own.npz', **(arrays or _arrays()))
  return str(folder / 'own.npz')


def _save_folder(folder, names=NAMES, splits=('train', 'test')):
  arrays = _arrays()
  for split in splits:
    for i, (image, label) in enumerate(
      zip(arrays[f'{split}_images'], arrays[f'{split}_labels'], strict=True)
    ):
      path = folder / split / names[label] / f'{i:03d}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(image[..., 0]).save(path)
  return str(folder)


def _config(name, **fields):
  """Returns a config of a student of the logits beside the data."""
  own = {
    'data.name': name,
    'student.hidden': (8,),
    'train.folds': 0,
    'train.batch_size': 8,
    'optim.learning_rate': 0.03,
  }
  return helpers.tiny_mnist(fields=own | fields)


def _with_logits(folder, logits):
  np.savez(folder / 'logits.npz', **logits)
  return {'teacher.logits': str(folder / 'logits.npz')}


def _get_teacher(config, folder):
  """Returns a config's teacher; trains no student."""
  run_context = context.make_context(config, data.load)
  return provider.get_teacher(config, run_context, folder / 'teachers')


def test_what_is_kept_from_the_teacher_has_its_share_of_each_class(tmp_path):
  """The last fifth of sorted data held whole classes."""
  config = _config(_save_folder(tmp_path))
  assert config.teacher.train.holdout_fraction == 0.2
  dataset = context.make_context(config, data.load).dataset
  training_plan = plan.make_plan(config.teacher.train, dataset)
  # Of 24 examples of each class, 72 in all, 58 are trained on.
  trained_on = training_record.examples_by_class(training_plan, dataset)
  assert sum(trained_on) == 58 and min(trained_on) >= 19


def test_a_folder_without_a_test_split_is_tested_on_training_images(tmp_path):
  name = _save_folder(tmp_path, splits=('train',))
  logits = _with_logits(tmp_path, {'train': _logits(_arrays())['train']})
  with pytest.raises(data.DataError, match='data.holdout_examples=N'):
    helpers.run(_config(name, **logits), tmp_path)
  config = _config(name, **logits, **{'data.holdout_examples': 12})
  record = helpers.run(config, tmp_path)
  assert record['students'][0]['by_class']['examples'] == [4, 4, 4]
  # The teacher's logits for these images are those of the training split.
  assert record['teacher']['test']['accuracy'] == 1


def test_smoke_takes_what_there_is(tmp_path):
  config = helpers.tiny_mnist('h50,smoke', {'data.name': _save_npz(tmp_path)})
  dataset = context.make_context(config, data.load).dataset
  assert (len(dataset.train.labels), len(dataset.test.labels)) == (72, 24)
  config.data.at_most = False
  with pytest.raises(errors.UserError, match='train_examples=1024: own has 72'):
    context.make_context(config, data.load)


def test_smoke_holds_out_what_small_data_can_spare(tmp_path):
  config = helpers.tiny_mnist('methods_grid,smoke')
  assert config.data.holdout_examples == 10_000
  config.data.name = _save_npz(tmp_path)
  dataset = context.make_context(config, data.load).dataset
  assert (len(dataset.train.labels), len(dataset.test.labels)) == (36, 36)


# --- Warnings: in the terminal, in run.json and in the report. ---


def test_warnings_are_in_the_terminal_in_run_json_and_in_the_report(
  tmp_path, caplog
):
  """A part of the data lacks a class, and the logits are of other classes."""
  logits = _with_logits(tmp_path, _logits(_arrays(), order=(0, 2, 1)))
  fields = {'data.test_examples': 2}
  config = _config(_save_folder(tmp_path), **logits, **fields)
  record = helpers.run(config, tmp_path)
  part, teacher, *_ = record['warnings']
  assert 'test_examples=2 leaves no test example of 1 of 3 classes: cat' in part
  assert '33.3% accuracy on the train split, as it takes bee as cat' in teacher
  stored = json.loads((tmp_path / 'run' / 'run.json').read_text())
  report = (tmp_path / 'run' / 'report.md').read_text()
  summary = run_report.summary(record)
  for warning in record['warnings']:
    assert warning in caplog.text and warning in summary
    assert warning in stored['warnings']
    assert report.index(warning) < report.index('## Accuracy')


@pytest.mark.parametrize('save', [_save_npz, _save_folder])
def test_logits_of_other_classes_are_named(tmp_path, save):
  name = save(tmp_path)
  logits = _with_logits(tmp_path, _logits(_arrays(), order=(0, 2, 1)))
  warnings = _get_teacher(_config(name, **logits), tmp_path).warnings
  names = NAMES if save is _save_folder else ('0', '1', '2')
  for split, warning in zip(('train', 'test'), warnings, strict=True):
    assert f'33.3% accuracy on the {split} split' in warning
    assert f'{names[1]} as {names[2]}, {names[2]} as {names[1]}' in warning


def test_one_of_several_teachers_that_does_not_fit_is_named(tmp_path):
  paths = []
  for i, order in enumerate([(0, 1, 2), (0, 1, 2), (1, 2, 0)]):
    paths.append(str(tmp_path / f'logits{i}.npz'))
    np.savez(paths[-1], **_logits(_arrays(), order))
  fields = {'teacher.logits': ','.join(paths)}
  teacher = _get_teacher(_config(_save_npz(tmp_path), **fields), tmp_path)
  assert teacher.record['test']['accuracy'] == 1  # The mean hides it.
  assert len(teacher.warnings) == 2
  assert all('logits2.npz has 0.0% accuracy' in w for w in teacher.warnings)


def test_published_outputs_have_the_order_of_the_data_set(tmp_path):
  """They are those of a teacher of this project, not of the user's files."""
  config = _config(_save_npz(tmp_path))
  config.teacher.pretrained = str(tmp_path / 'published')
  dataset = data.load(config.data.name)
  onehot = 5 * np.eye(NUM_CLASSES, dtype=np.float32)
  logits = {
    split: onehot[getattr(dataset, split).labels] for split in data.SPLITS
  }
  manifest = {
    'data': dataset.name,
    'data_digest': dataset.digest,
    'teacher': config_lib.recorded(config)['teacher'],
    'training': {},
  }
  pretrained.write(tmp_path / 'published', manifest, outputs={'unit': logits})
  for fields in (
    {'holdout_examples': 12},
    {'holdout_examples': 1000, 'at_most': True},  # More than there are.
  ):
    config.data.update(fields)
    record = _get_teacher(config, tmp_path).record
    assert record['train']['accuracy'] == record['test']['accuracy'] == 1
  config.data.update(holdout_examples=12, at_most=False)
  # Outputs for a part do not say which part is held out.
  logits['train'] = logits['train'][:60]
  pretrained.write(tmp_path / 'published', manifest, outputs={'unit': logits})
  with pytest.raises(errors.UserError, match='outputs for a part of own'):
    _get_teacher(config, tmp_path)
  config.data.update(holdout_examples=0, train_examples=60)
  record = _get_teacher(config, tmp_path).record
  assert record['train']['accuracy'] == record['test']['accuracy'] == 1


# --- Refusals before any training. ---


class _Softmax(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, images, *, train):
    del train
    return nn.softmax(nn.Dense(self.num_classes)(images[:, :, 0, 0]))


def softmax_student(num_classes):
  return _Softmax(num_classes)


def _teacher(output):
  """Returns a teacher of random weights whose logits are mapped by `output`."""
  weights = 0.01 * jax.random.normal(jax.random.key(0), (36, NUM_CLASSES))
  return lambda w, x: output(x.reshape(x.shape[0], -1) @ w), weights


def softmax_teacher():
  return _teacher(jax.nn.softmax)


def bfloat16_teacher():
  return _teacher(lambda logits: logits.astype(jnp.bfloat16))


def infinite_teacher():
  return _teacher(lambda logits: logits.at[0, 0].set(-jnp.inf))


@pytest.mark.parametrize(
  'field, function, message',
  [
    ('student.kind', 'softmax_student', 'returns probabilities; expected logi'),
    ('teacher.module', 'softmax_teacher', 'train split are probabilities'),
    ('teacher.module', 'infinite_teacher', 'train split are not all finite'),
  ],
)
def test_outputs_that_are_no_logits_are_refused(
  tmp_path, field, function, message
):
  fields = {field: f'tests.experiments.test_own_data:{function}'}
  with pytest.raises(errors.UserError, match=message):
    helpers.run(_config(_save_npz(tmp_path), **fields), tmp_path)
  assert not list(tmp_path.rglob('*.npy'))


def test_logits_of_a_bfloat16_teacher_are_stored(tmp_path):
  fields = {
    'teacher.module': 'tests.experiments.test_own_data:bfloat16_teacher'
  }
  config = config_lib.with_user_teacher(_config(_save_npz(tmp_path), **fields))
  computed = _get_teacher(config, tmp_path)
  (stored,) = tmp_path.rglob('outputs-unit/train.npy')
  assert np.load(stored).dtype == np.float32
  read = _get_teacher(config, tmp_path)
  np.testing.assert_array_equal(read.logits['test'], computed.logits['test'])


# --- Data that has changed or gone away. ---


@pytest.fixture(name='own_run', scope='module')
def _own_run(tmp_path_factory):
  """The folder of a run of two seeds on a folder of images, beside its data."""
  folder = tmp_path_factory.mktemp('own')
  _save_folder(folder / 'insects')
  _with_logits(folder, _logits(_arrays()))
  _continue(folder)
  return folder


def _continue(folder, runs=None, **fields):
  """Runs the command of `own_run` again; returns the record."""
  own = {
    'teacher.logits': str(folder / 'logits.npz'),
    'train.epochs': 4,
    'seeds': 2,
  }
  config = _config(str(folder / 'insects'), **own | fields)
  return helpers.run(config, runs or folder)


@pytest.fixture(name='copied_run')
def _copied_run(own_run, tmp_path):
  """A copy of the run's folder, without its data."""
  shutil.copytree(own_run / 'run', tmp_path / 'run')
  return tmp_path


def _edit(path, change):
  """Changes the content of a JSON file."""
  content = json.loads(path.read_text())
  content.pop('checksum', None)
  change(content)
  path.write_text(json.dumps(content))


def test_logits_in_the_order_of_the_files_teach(own_run):
  record = files.read_json(own_run / 'run' / 'run.json')
  for split in ('train', 'test'):
    assert record['teacher'][split]['accuracy'] == 1
  assert record['students'][0]['test']['accuracy'] > 0.9
  assert record['warnings'] == []
  assert '## Warnings' not in (own_run / 'run' / 'report.md').read_text()


def test_a_run_is_not_continued_with_other_data(own_run, copied_run):
  image = own_run / 'insects' / 'test' / 'bee' / '008.png'
  before = image.read_bytes()
  Image.new('L', (6, 6)).save(image)
  message = r'holds a run of other data \(digest .*files of insects have change'
  with pytest.raises(errors.UserError, match=message):
    _continue(own_run, copied_run, seeds=3)
  # Without the digest in run.json, the students tell.
  _edit(copied_run / 'run' / 'run.json', lambda record: record.pop('data'))
  with pytest.raises(errors.UserError, match=message):
    _continue(own_run, copied_run, seeds=3)
  image.write_bytes(before)
  assert len(_continue(own_run, copied_run)['students']) == 2


def test_a_run_of_a_version_that_took_parts_by_position_is_refused(
  own_run, copied_run
):
  files_digest = data.load(str(own_run / 'insects')).files_digest
  _edit(copied_run / 'run' / 'run.json', lambda record: record.pop('data'))
  for path in copied_run.rglob('seed-*/identity.json'):
    _edit(path, lambda identity: identity.update(data_digest=files_digest))
  with pytest.raises(
    errors.UserError, match='older version took parts of inse'
  ):
    _continue(own_run, copied_run)


def test_results_of_another_identity_are_not_gathered(
  own_run, copied_run, caplog
):
  (path,) = copied_run.rglob('seed-0/identity.json')
  _edit(path, lambda identity: identity.update(teacher_outputs='of another'))
  record = _continue(own_run, copied_run, first_seed=1, seeds=1)
  assert [student['seed'] for student in record['students']] == [1]
  assert 'seed-0 is left out: it was trained on other data' in caplog.text


@pytest.fixture(autouse=True)
def _measure_quickly(monkeypatch):
  monkeypatch.setattr(measurement, 'BUDGET_S', 0.01)


def _export(own_run, output):
  return exporter.export(own_run / 'run', output=output)[1]


def test_an_export_takes_its_classes_from_the_run(own_run, tmp_path, caplog):
  train, test = (own_run / 'insects' / s for s in ('train', 'test'))
  whole = _export(own_run, tmp_path / 'whole')
  record = files.read_json(own_run / 'run' / 'run.json')
  expected = record['students'][0]['test']['accuracy']
  assert whole['measured']['loaded']['test']['accuracy'] == expected
  assert whole['data_digest'] == record['data']['digest']
  # Another name in the same place of the order leaves the images the same.
  for split in (train, test):
    (split / 'bee').rename(split / 'bumblebee')
  assert _export(own_run, tmp_path / 'same')['classes'] == list(NAMES)
  # Another order: accuracy on today's data would be of other classes.
  for split in (train, test):
    (split / 'bumblebee').rename(split / 'zebra')
  manifest = _export(own_run, tmp_path / 'renamed')
  assert manifest['classes'] == list(NAMES)
  assert 'test' not in manifest['measured']['loaded']
  assert (
    'its digest is' in caplog.text and 'The classes are those' in caplog.text
  )
  for split in (train, test):
    (split / 'zebra').rename(split / 'bee')


def test_a_run_whose_data_has_gone_away_is_exported(own_run, tmp_path, caplog):
  (own_run / 'insects').rename(own_run / 'elsewhere')
  manifest = _export(own_run, tmp_path / 'gone')
  (own_run / 'elsewhere').rename(own_run / 'insects')
  assert manifest['classes'] == list(NAMES)
  assert manifest['image_shape'] == [6, 6, 1]
  assert manifest['measured']['loaded']['mean_difference'] < 1e-6
  assert 'today it cannot be loaded (unknown data set' in caplog.text


def test_an_old_run_of_changed_data_is_not_exported(own_run, copied_run):
  """Versions that did not record the classes cannot say what they were."""
  run = copied_run / 'run'
  _edit(run / 'run.json', lambda record: record.pop('data'))
  assert exporter.export(run)[1]['classes'] == list(NAMES)
  folder = own_run / 'insects' / 'train' / 'bee'
  (folder / '024.png').rename(folder / '.hidden')
  with pytest.raises(errors.UserError, match='has changed since .*restore'):
    exporter.export(run)
  (folder / '.hidden').rename(folder / '024.png')
