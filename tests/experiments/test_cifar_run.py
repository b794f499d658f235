"""Runs of configs/cifar.py with small ResNets on generated images."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import cifar, cifar_teachers
from kd_jax import data
from kd_jax.data import selection
from kd_jax.evaluation import predictors
from kd_jax.models import apply, from_config
from kd_jax.report import run_report
from kd_jax.runtime import errors, files, run_records
from kd_jax.training import checkpoint
from tests import helpers


def _config(recipe='ideal', fields=None):
  """Returns a tiny config of a recipe, without a benchmark."""
  config = helpers.tiny_cifar(recipe, {'benchmark.enabled': False})
  config.update_from_flattened_dict(fields or {})
  return config


def _config_on_published(folder, recipe='ideal', fields=None):
  """Returns a tiny config whose teacher is the module's published outputs."""
  published = {'teacher.pretrained': str(folder / 'teacher' / 'outputs')}
  return _config(recipe, published | (fields or {}))


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  """Returns a folder with a teacher, and the outputs that the run publishes."""
  folder = tmp_path_factory.mktemp('cifar')
  helpers.run(_config('teacher'), folder, 'teacher')
  return folder


@pytest.fixture(name='ideal', scope='module')
def _ideal(folder):
  """Returns the record of the ideal student on the published outputs."""
  config = _config_on_published(folder, fields={'benchmark.enabled': True})
  return helpers.run(config, folder, 'ideal', with_plots=True)


@pytest.mark.slow
def test_a_run_of_a_teacher_alone_publishes_its_outputs(folder):
  record = files.read_json(folder / 'teacher' / 'run.json')
  assert record['status'] == 'complete' and record['students'] == []
  manifest = files.read_json(folder / 'teacher' / 'outputs' / 'manifest.json')
  assert set(manifest['accuracy']) == {'cifar10', 'symmetric'}
  assert manifest['teacher']['scaling'] == 'cifar10'
  logits = np.load(folder / 'teacher' / 'outputs' / 'symmetric-train.npy')
  assert logits.dtype == np.float16 and logits.shape == (1000, 10)
  # The teacher's scaling and the students' give the network other inputs.
  as_trained = np.load(folder / 'teacher' / 'outputs' / 'cifar10-train.npy')
  assert (as_trained != logits).any()


def test_a_student_trains_on_published_outputs(folder, ideal):
  manifest = files.read_json(folder / 'teacher' / 'outputs' / 'manifest.json')
  published = manifest['accuracy']['symmetric']['test']
  assert ideal['teacher']['test']['accuracy'] == pytest.approx(
    published['accuracy'], abs=0.01
  )
  (student,) = ideal['students']
  assert student['steps'] == 20 and student['epochs'] == 2
  assert len(student['test_accuracy_by_epoch']) == 2
  assert student['test_accuracy_by_epoch'][-1] == student['test']['accuracy']
  lines = run_records.MetricsLog(folder / 'ideal' / 'metrics.jsonl').read()
  assert lines[1]['train/loss'] < lines[0]['train/loss']
  assert student['test']['accuracy'] > 0.2


def test_the_report_compares_training_with_a_live_teacher(ideal):
  steps = ideal['benchmark']['training']['ideal']
  assert steps.keys() == {'live_step_s', 'stored_step_s'}
  text = run_report.render(ideal)
  assert 'with a live teacher s' in text and 'ms a step, live' in text
  assert ideal['benchmark']['reference'] == 'teacher'
  # Only the teacher's outputs are at hand.
  assert ideal['benchmark']['random_weights'] == ['teacher']
  assert 'The teacher was timed with random weights' in text
  seconds = ideal['part_seconds']
  assert seconds.keys() >= {'data', 'teacher', 'students', 'timing'}
  assert 'Minutes of each part, without commands that were stopped: ' in text


def _augmented(augmentation):
  """Returns a config whose teacher sees the students' views."""
  return _config(
    fields={'teacher.retrain': True, 'train.augmentation': augmentation}
  )


@pytest.mark.slow
@pytest.mark.parametrize('augmentation', ['none', 'crop_and_flip'])
def test_a_live_teacher_gives_what_its_stored_outputs_give(
  folder, augmentation
):
  config = _augmented(augmentation)
  (stored,) = helpers.run(config, folder, augmentation)['students']
  config.teacher.live = True
  (live,) = helpers.run(config, folder, f'{augmentation}-live')['students']
  assert live['test']['nll'] == pytest.approx(stored['test']['nll'], rel=0.02)
  assert live['steps'] == stored['steps'] > 0


@pytest.mark.slow
def test_views_are_computed_once_for_all_networks(folder):
  """The views of a seed do not depend on the network that sees them."""
  config = _augmented('crop_and_flip')
  config.train.epochs = 1
  helpers.run(config, folder, 'views')
  (store,) = (folder / 'teachers').glob('*/outputs-symmetric-crop_and_flip')
  parts = set(store.glob('*.npy'))
  assert parts
  config.student.widths = (4,)
  helpers.run(config, folder, 'views-narrow')
  assert set(store.glob('*.npy')) == parts


def test_a_killed_run_resumes_exactly(folder, ideal, monkeypatch):
  config = _config_on_published(folder)
  save, saved = checkpoint.Checkpoints.save, []

  def die_after_an_epoch(self, step, state):
    save(self, step, state)
    saved.append(step)
    if len(saved) == 1:
      raise KeyboardInterrupt

  monkeypatch.setattr(checkpoint.Checkpoints, 'is_due', lambda self: True)
  monkeypatch.setattr(checkpoint.Checkpoints, 'save', die_after_an_epoch)
  with pytest.raises(KeyboardInterrupt):
    helpers.run(config, folder, 'killed')
  resumed = helpers.run(config, folder, 'killed')
  assert saved[:2] == [1, 2]
  assert resumed['students'][0]['weights'] == ideal['students'][0]['weights']


def _same_training(recipe):
  """Returns, for each row of a recipe, the first row with the same training."""
  config = cifar.get_config(recipe)
  config.lock()
  run = helpers.make_rows(config, data.load('generated_rgb'))
  return {row.name: row.same_training_as for row in run.by_name.values()}


def test_rows_that_are_one_training_are_found():
  first = _same_training('table2')
  assert {row for row in first if first[row] != row} == {
    'blocks_1100', 'stride_2', 'stride_4',
  }  # fmt: skip
  assert first['stride_4'] == first['blocks_1100'] == 'blocks_1111'
  # Rows differ in the number of bits to which features are rounded.
  mimic = _same_training('mimic,smoke')
  assert all(row == same_as for row, same_as in mimic.items())
  # As the paper describes them, strides and dropped stages make rows differ.
  as_written = _same_training('table2,protocol=as_written')
  assert all(row == same_as for row, same_as in as_written.items())


@pytest.mark.slow
def test_rows_that_are_one_training_train_once(folder):
  fields = {
    'train.epochs': 1,
    'benchmark.enabled': True,
    'benchmark.live_teacher': False,
  }
  config = _config_on_published(folder, 'table2', fields)
  helpers.keep_rows(config, 'blocks_1111', 'blocks_1100')
  # Two stages instead of four: the second stage of `blocks_1100` is empty, and
  # the authors' code gives it a block.
  config.student.widths = (8, 8)
  for row, blocks in {'blocks_1111': (1, 1), 'blocks_1100': (1, 0)}.items():
    config.rows[row].student.update(
      blocks=blocks, strides=(2, 2), stem_stride=2
    )
  record = helpers.run(config, folder, 'one-network', with_plots=True)
  lines = run_records.MetricsLog(
    folder / 'one-network' / 'metrics.jsonl'
  ).read()
  assert [line['row'] for line in lines] == ['blocks_1111']
  first, same = record['students']
  assert (same['row'], same['same_as']) == ('blocks_1100', 'blocks_1111')
  assert same['weights'] == first['weights']
  assert record['benchmark']['network_of']['blocks_1100'] == 'blocks_1111'
  assert 'as blocks_1111, done once: blocks_1100.' in run_report.render(record)


@pytest.mark.slow
def test_rows_of_a_table_differ_as_they_say(folder):
  config = _config_on_published(folder, 'table2,reduced=as_published')
  helpers.keep_rows(config, 'ideal_no_kd', 'ideal_reduced')
  students = run_records.by_row(helpers.run(config, folder, 'table'))
  assert students['ideal_no_kd'][0]['steps'] == 20
  # 10 images are shown 500 times.
  assert students['ideal_reduced'][0]['steps'] == 100
  lines = run_records.MetricsLog(folder / 'table' / 'metrics.jsonl').read()
  assert {(line['row'], 'train/kl' in line) for line in lines} == {
    ('ideal_no_kd', False),
    ('ideal_reduced', True),
  }


def test_held_out_examples_take_the_place_of_the_test_split():
  fields = {'data.train_examples': 0, 'data.test_examples': 0}
  config = _config('teacher', fields)
  dataset = data.load(config.data.name)
  whole = selection.select(dataset, config.data)
  config.data.holdout_examples = 400
  held = selection.select(dataset, config.data)
  np.testing.assert_array_equal(held.train.labels, whole.train.labels[:1600])
  np.testing.assert_array_equal(held.test.images, whole.train.images[1600:])
  config.data.holdout_examples = 2000
  with pytest.raises(errors.UserError, match='generated_rgb has 2000 training'):
    selection.select(dataset, config.data)


@pytest.mark.parametrize(
  'fields, message',
  [
    (
      {'teacher.pretrained': 'teachers/none'},
      'none holds no sound manifest.*retrain',
    ),
    ({'data.name': 'generated'}, 'are of other data'),
    ({'teacher.outputs_scaling': 'unit'}, "outputs_scaling='unit'"),
    ({'teacher.live': True}, 'teacher.retrain=true with it'),
    ({'train.augmentation': 'crop_and_flip'}, 'teacher that is trained here'),
    (
      {'train.drop_remainder': False, 'train.batch_size': 64},
      'config.train.drop_remainder=true',
    ),
  ],
)
def test_fields_that_do_not_fit_together_are_refused(
  folder, tmp_path, fields, message
):
  config = _config_on_published(folder, fields=fields)
  with pytest.raises(errors.UserError, match=message):
    helpers.run(config, tmp_path, 'refused')


def test_damaged_published_outputs_are_refused(folder, tmp_path):
  outputs = tmp_path / 'outputs'
  outputs.mkdir()
  for path in (folder / 'teacher' / 'outputs').iterdir():
    (outputs / path.name).write_bytes(path.read_bytes())
  (outputs / 'symmetric-test.npy').write_bytes(b'short')
  config = _config(fields={'teacher.pretrained': str(outputs)})
  with pytest.raises(errors.UserError, match='symmetric-test.npy is damaged'):
    helpers.run(config, tmp_path)


def test_predictions_do_not_depend_on_where_a_batch_ends():
  """Predictions use the running averages, not the batch's statistics."""
  config = _config()
  module = from_config.make_module(config.student, 10)
  variables = apply.init_variables(module, (32, 32, 3), jax.random.key(0))
  images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
  logits = [
    predictors.make_predict(config.student, 10, 'symmetric', size)(
      variables, images
    )
    for size in (7, 3)
  ]
  np.testing.assert_allclose(*logits, atol=1e-5)


@pytest.mark.slow
def test_features_are_stored_or_the_teacher_is_live_with_one_result(folder):
  nll, teachers = {}, folder / 'teachers'
  for features_gib in (1.0, 0.0):
    fields = {
      'teacher.retrain': True,
      'teacher.features_gib': features_gib,
      'train.subset': 'first20',
      # The default weights are too large for these small networks.
      'distill.hint.weight': 1.0,
      'distill.similarity.weight': 1.0,
      'distill.kd_warmup_epochs': 0,
      'benchmark.live_teacher': features_gib > 0,
      'benchmark.enabled': features_gib > 0,
    }
    config = _config('ideal,method=kl+hint+similarity', fields)
    record = helpers.run(config, folder, f'features-{features_gib}')
    nll[features_gib] = record['students'][0]['test']['nll']
    assert set(record['config']['distill']) >= {'kl', 'hint', 'similarity'}
    assert 'dkd' not in record['config']['distill']
  assert nll[0.0] == pytest.approx(nll[1.0], rel=0.02)
  (store,) = teachers.glob('*/features-symmetric-first20-*')
  arrays = {path.stem: np.load(path) for path in store.glob('*.npy')}
  assert {array.shape[0] for array in arrays.values()} == {200}
  lines = run_records.MetricsLog(
    folder / 'features-1.0' / 'metrics.jsonl'
  ).read()
  assert lines[0]['train/similarity'] > 0
  for name in ('kl', 'hint'):
    assert lines[1][f'train/{name}'] < lines[0][f'train/{name}']


def test_a_missing_layer_is_named_before_any_work(folder):
  fields = {'teacher.retrain': True, 'distill.hint.layers': 'stage9'}
  config = _config('ideal,method=hint', fields)
  with pytest.raises(errors.UserError, match="distill.hint: no layer 'stage9'"):
    helpers.run(config, folder, 'no-such-layer')
  config.teacher.retrain = False
  config.teacher.pretrained = cifar_teachers.TEACHER
  with pytest.raises(errors.UserError, match='holds logits alone'):
    helpers.run(config, folder, 'no-features')


@pytest.mark.slow
def test_rows_teach_later_rows_and_several_teach_as_their_mean(folder):
  fields = {'teacher.retrain': True, 'seeds': 2, 'train.subset': 'first20'}
  config = _config('dropped', fields)
  config.unlock()
  small = config.rows.blocks_2200_dropped
  small.student.update(blocks=(1, 0, 0, 0), stem_stride=2)
  config.teacher.rows = None
  for name in [*config.rows]:
    del config.rows[name]
  for name, taught_by in {
    'assistant': (),
    'taught': ('assistant',),
    'of_two': ('teacher', 'assistant'),
  }.items():
    config.rows[name] = small.copy_and_resolve_references()
    config.rows[name].teacher = ConfigDict({'rows': taught_by})
  config.lock()
  record = helpers.run(config, folder, 'rows')
  students = run_records.by_row(record)
  assert [len(s) for s in students.values()] == [2, 2, 2]
  logits = {}
  for seed in (0, 1):
    path = folder / 'rows/students/assistant' / f'seed-{seed}' / 'outputs'
    logits[seed] = np.load(path / 'test.npy')
    # The stored logits have the accuracy that the record states.
    accuracy = students['assistant'][seed]['test']['accuracy']
    labels = selection.select(
      data.load(config.data.name), config.data
    ).test.labels
    assert (logits[seed].argmax(1) == labels).mean() == pytest.approx(accuracy)
  assert (logits[0] != logits[1]).any()
  weights = {s['weights'] for rows in students.values() for s in rows}
  assert len(weights) == 6
  # The same command trains nothing again.
  before = (folder / 'rows' / 'metrics.jsonl').read_text()
  helpers.run(config, folder, 'rows')
  assert (folder / 'rows' / 'metrics.jsonl').read_text() == before


def test_a_missing_row_cannot_teach(folder):
  config = _config()
  config.teacher.rows = ('ideal',)
  with pytest.raises(errors.UserError, match='rows before it \\(teacher\\)'):
    helpers.run(config, folder, 'no-such-row')
  config.teacher.rows = ('teacher',)
  config.teacher.live = config.teacher.retrain = True
  with pytest.raises(errors.UserError, match='teacher.rows.*live teacher'):
    helpers.run(config, folder, 'live-rows')


@pytest.mark.slow
def test_features_are_stored_as_whole_numbers_for_a_quantized_mimic(folder):
  fields = {
    'teacher.retrain': True,
    'train.subset': 'first20',
    'eval.attacked_examples': 16,
    'benchmark.enabled': True,
  }
  config = _config('ideal,method=kl+quantized', fields)
  assert config.teacher.feature_bits == 4
  record = helpers.run(config, folder, 'quantized', with_plots=True)
  # The benchmark leaves the live teacher out, because its features would not be
  # rounded.
  assert 'training' not in record['benchmark']
  (student,) = record['students']
  assert student['robust']['examples'] == 16
  assert student['robust']['nll'] > student['test']['nll']
  (store,) = (folder / 'teachers').glob('*/features_4_bits-*')
  levels = np.load(store / 'stage1.npy')
  assert levels.dtype == np.uint8 and levels.max() == 15
  assert len(levels) == 200
  lines = run_records.MetricsLog(folder / 'quantized' / 'metrics.jsonl').read()
  assert 0 < lines[1]['train/quantized'] < lines[0]['train/quantized']


def test_features_are_rounded_where_they_are_stored_for_a_quantized_mimic(
  folder,
):
  config = _config('ideal,method=kl+quantized', {'teacher.retrain': True})
  config.train.augmentation = 'crop_and_flip'
  with pytest.raises(errors.UserError, match='feature_bits=4.*leave out augm'):
    helpers.run(config, folder, 'quantized-views')
  config.teacher.feature_bits = 0
  with pytest.raises(errors.UserError, match='from 1 to 16 for the method'):
    helpers.run(config, folder, 'quantized-none')
