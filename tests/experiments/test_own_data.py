"""Runs on a user's data: its order, its classes, and wrong logits."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.report import markdown, run_report
from kd_jax.runtime import errors
from kd_jax.teachers import pretrained, provider
from kd_jax.training import context, plan, training_record
from tests import helpers
from tests.experiments import insects


def _get_teacher(config, folder):
  """Returns a config's teacher; trains no student."""
  run_context = context.make_context(config, data.load)
  return provider.get_teacher(config, run_context, folder / 'teachers')


def test_examples_held_out_from_the_teacher_are_of_every_class(tmp_path):
  """Without the stratified order, the last fifth would be whole classes."""
  config = insects.make_config(insects.save_folder(tmp_path))
  assert config.teacher.train.holdout_fraction == 0.2
  dataset = context.make_context(config, data.load).dataset
  training_plan = plan.make_plan(config.teacher.train, dataset)
  # Of 24 examples of each class, 72 in all, 58 are trained on.
  trained_on = training_record.examples_by_class(training_plan, dataset)
  assert sum(trained_on) == 58 and min(trained_on) >= 19


def test_a_folder_without_a_test_split_is_tested_on_training_images(tmp_path):
  name = insects.save_folder(tmp_path, splits=('train',))
  logits = insects.save_logits(
    tmp_path, {'train': insects.make_logits(insects.make_arrays())['train']}
  )
  with pytest.raises(data.DataError, match='data.holdout_examples=N'):
    helpers.run(insects.make_config(name, **logits), tmp_path)
  config = insects.make_config(name, **logits, **{'data.holdout_examples': 12})
  record = helpers.run(config, tmp_path)
  assert record['students'][0]['by_class']['examples'] == [4, 4, 4]
  # The teacher's logits for these images are those of the training split.
  assert record['teacher']['test']['accuracy'] == 1


def test_smoke_takes_what_there_is(tmp_path):
  config = helpers.tiny_mnist(
    'h50,smoke', {'data.name': insects.save_npz(tmp_path)}
  )
  dataset = context.make_context(config, data.load).dataset
  assert (len(dataset.train.labels), len(dataset.test.labels)) == (72, 24)
  config.data.at_most = False
  with pytest.raises(errors.UserError, match='train_examples=1024: own has 72'):
    context.make_context(config, data.load)


def test_smoke_holds_out_what_small_data_can_spare(tmp_path):
  config = helpers.tiny_mnist('methods_grid,smoke')
  assert config.data.holdout_examples == 10_000
  config.data.name = insects.save_npz(tmp_path)
  dataset = context.make_context(config, data.load).dataset
  assert (len(dataset.train.labels), len(dataset.test.labels)) == (36, 36)


# --- Warnings: in the terminal, in run.json and in the report. ---


def test_warnings_are_in_the_terminal_in_run_json_and_in_the_report(
  tmp_path, caplog
):
  """A part of the data lacks a class, and the logits are of other classes."""
  logits = insects.save_logits(
    tmp_path, insects.make_logits(insects.make_arrays(), order=(0, 2, 1))
  )
  fields = {'data.test_examples': 2}
  config = insects.make_config(
    insects.save_folder(tmp_path), **logits, **fields
  )
  record = helpers.run(config, tmp_path)
  part, teacher, *_ = record['warnings']
  assert 'test_examples=2 leaves no test example of 1 of 3 classes: cat' in part
  assert '33.3% accuracy on the train split, as it takes bee as cat' in teacher
  stored = json.loads((tmp_path / 'run' / 'run.json').read_text())
  report = (tmp_path / 'run' / 'report.md').read_text()
  without_spaces = lambda text: ''.join(text.split())  # The summary is wrapped.
  summary = without_spaces(run_report.summary(record))
  for warning in record['warnings']:
    assert warning in caplog.text and without_spaces(warning) in summary
    assert warning in stored['warnings']
    shown = markdown.as_text(warning)
    assert report.index(shown) < report.index('## Accuracy')


@pytest.mark.parametrize('save', [insects.save_npz, insects.save_folder])
def test_logits_of_other_classes_are_named(tmp_path, save):
  name = save(tmp_path)
  logits = insects.save_logits(
    tmp_path, insects.make_logits(insects.make_arrays(), order=(0, 2, 1))
  )
  warnings = _get_teacher(
    insects.make_config(name, **logits), tmp_path
  ).warnings
  names = insects.NAMES if save is insects.save_folder else ('0', '1', '2')
  for split, warning in zip(('train', 'test'), warnings, strict=True):
    assert f'33.3% accuracy on the {split} split' in warning
    assert f'{names[1]} as {names[2]}, {names[2]} as {names[1]}' in warning


def test_one_of_several_teachers_that_does_not_fit_is_named(tmp_path):
  paths = []
  for i, order in enumerate([(0, 1, 2), (0, 1, 2), (1, 2, 0)]):
    paths.append(str(tmp_path / f'logits{i}.npz'))
    np.savez(paths[-1], **insects.make_logits(insects.make_arrays(), order))
  fields = {'teacher.logits': ','.join(paths)}
  teacher = _get_teacher(
    insects.make_config(insects.save_npz(tmp_path), **fields), tmp_path
  )
  assert teacher.record['test']['accuracy'] == 1  # The mean hides it.
  assert len(teacher.warnings) == 2
  assert all('logits2.npz has 0.0% accuracy' in w for w in teacher.warnings)


def test_published_outputs_have_the_order_of_the_data_set(tmp_path):
  """They are those of a teacher of this project, not of the user's files."""
  config = insects.make_config(insects.save_npz(tmp_path))
  config.teacher.pretrained = str(tmp_path / 'published')
  dataset = data.load(config.data.name)
  onehot = 5 * np.eye(insects.NUM_CLASSES, dtype=np.float32)
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
  weights = 0.01 * jax.random.normal(
    jax.random.key(0), (36, insects.NUM_CLASSES)
  )
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
    helpers.run(
      insects.make_config(insects.save_npz(tmp_path), **fields), tmp_path
    )
  assert not list(tmp_path.rglob('*.npy'))


def test_logits_of_a_bfloat16_teacher_are_stored(tmp_path):
  fields = {
    'teacher.module': 'tests.experiments.test_own_data:bfloat16_teacher'
  }
  config = provider.with_user_teacher(
    insects.make_config(insects.save_npz(tmp_path), **fields)
  )
  computed = _get_teacher(config, tmp_path)
  (stored,) = tmp_path.rglob('outputs-unit/train.npy')
  assert np.load(stored).dtype == np.float32
  read = _get_teacher(config, tmp_path)
  np.testing.assert_array_equal(read.logits['test'], computed.logits['test'])
