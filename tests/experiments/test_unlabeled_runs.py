"""Runs whose students learn from images without labels."""

import numpy as np
import pytest
from PIL import Image

from configs import tables, theory, user_data
from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.data.user_data import decoded_files
from kd_jax.experiments import run_checks
from kd_jax.runtime import errors, files, run_records
from tests import helpers

NUM_TRAIN = 600
LABELED = 3  # Examples of each class.


def _config(rows, **fields):
  """Returns a table of tiny students on generated digits."""
  config = theory.get_config('missing_digit,smoke')
  config.rows = {}
  config.data.update(name='generated', test_examples=0)
  config.data.train_examples = NUM_TRAIN
  config.train.update(holdout_fraction=0.0, subset='all', epochs=10)
  config.train.batch_size = config.teacher.train.batch_size = 32
  config.eval.bias_classes = ()
  config.distill.update(ce_weight=1.0, kd_weight=1.0, temperature=4.0)
  config.student.hidden = (32,)
  config.teacher.model.dropout_rate = 0.0
  config.teacher.train.update(epochs=20, augmentation='none')
  config.teacher.optim.learning_rate = config.optim.learning_rate = 5e-3
  config = tables.make_table(config, rows)
  config.paper = {}
  config.lock()
  config.update_from_flattened_dict(fields)
  return config


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory, generated):
  """Returns a folder with a file of images without labels."""
  folder = tmp_path_factory.mktemp('unlabeled')
  images = np.asarray(generated.train.images)[NUM_TRAIN : 2 * NUM_TRAIN]
  np.savez(folder / 'more.npz', images=images)
  return folder


def _rows(folder):
  few = {'train.subset': f'first{LABELED}'}
  more = {'train.unlabeled': str(folder / 'more.npz')}
  rest = {'train.unlabeled': 'rest'}
  return {
    'labels': few | rest | {'distill.kd_weight': 0.0},
    'rest': few | rest,
    'teacher_alone': {'distill.ce_weight': 0.0},
    'none': {'train.subset': 'none'} | rest,
    'more': few | more,
    'ratio': few | more | {'train.unlabeled_ratio': 4.0},
  }


@pytest.fixture(name='students', scope='module')
def _students(folder):
  """Returns the student of each row."""
  record = helpers.run(_config(_rows(folder)), folder)
  return {student['row']: student for student in record['students']}


def test_labeled_and_unlabeled_examples_are_counted(students):
  labeled = 10 * LABELED
  counts = {
    row: (sum(s['by_class']['trained_on']), s.get('unlabeled', 0))
    for row, s in students.items()
  }
  assert counts == {
    'labels': (labeled, 0),
    'rest': (labeled, NUM_TRAIN - labeled),
    'teacher_alone': (NUM_TRAIN, 0),
    'none': (0, NUM_TRAIN),
    'more': (labeled, NUM_TRAIN),
    'ratio': (NUM_TRAIN // 4, NUM_TRAIN),
  }
  epochs = students['ratio']['epochs']
  assert students['ratio']['steps'] == epochs * -(-5 * NUM_TRAIN // 4 // 32)


def test_labels_that_are_hidden_teach_nothing(students):
  alone, none = (students[row] for row in ('teacher_alone', 'none'))
  # The same images in the same order; labels weigh 0 in the one, and there are
  # none in the other.
  assert none['test']['nll'] == pytest.approx(alone['test']['nll'], rel=1e-4)
  assert none['test']['accuracy'] == alone['test']['accuracy']


def test_images_without_labels_make_students_better(students):
  accuracy = {row: s['test']['accuracy'] for row, s in students.items()}
  assert min(accuracy['rest'], accuracy['more'], accuracy['none']) > 0.6
  assert accuracy['labels'] + 0.1 < min(accuracy['rest'], accuracy['more'])


def test_the_logged_accuracy_is_that_of_labeled_examples(folder, students):
  del students
  log = run_records.MetricsLog(folder / 'run' / 'metrics.jsonl')
  last = {line['row']: line for line in log.read()}
  assert last['none']['train/accuracy'] == 0.0
  assert last['ratio']['train/accuracy'] > 0.9


def test_outputs_for_them_are_stored_once(folder, students, caplog):
  del students
  stores = {path.name for path in folder.glob('teachers/*/outputs-*')}
  (added,) = stores - {'outputs-unit'}
  assert added.startswith('outputs-unit-unlabeled-')
  (store,) = folder.glob(f'teachers/*/{added}')
  assert np.load(store / 'unlabeled.npy').shape == (NUM_TRAIN, 10)
  with caplog.at_level('INFO'):
    helpers.run(_config({'more': _rows(folder)['more']}), folder, 'again')
  assert f'read from {store}' in caplog.text
  assert 'outputs: computed' not in caplog.text


def test_a_folder_that_stays_on_disk_teaches_as_from_memory(
  folder, students, tmp_path, monkeypatch
):
  monkeypatch.setattr(decoded_files, 'LEAST_BYTES', 0)
  images = np.load(folder / 'more.npz')['images']
  (tmp_path / 'images').mkdir()
  for i, image in enumerate(images):
    Image.fromarray(image[..., 0]).save(tmp_path / 'images' / f'{i:03}.png')
  row = _rows(folder)['more'] | {'train.unlabeled': str(tmp_path / 'images')}
  config = _config({'more': row}, **{'data.memory_gib': 0.0})
  (student,) = helpers.run(config, tmp_path, data_dir=tmp_path / 'data')[
    'students'
  ]
  assert list(tmp_path.glob('data/.kd_jax/*.u8'))
  assert list(tmp_path.glob('teachers/*/outputs-unit-train-unlabeled-*'))
  assert student['unlabeled'] == NUM_TRAIN
  expected = students['more']['test']
  assert student['test']['nll'] == pytest.approx(expected['nll'], rel=1e-3)
  assert student['test']['accuracy'] == expected['accuracy']


@pytest.mark.slow
def test_features_views_and_other_rows_can_teach_by_them(folder, tmp_path):
  more = _rows(folder)['more']
  hint = {'distill.method': 'kl+hint'}
  rows = {
    'more': more,
    'hint': more | hint,
    'hint_rest': _rows(folder)['rest'] | hint,
    'hint_ratio': _rows(folder)['ratio'] | hint,
    'jitter': more | {'train.augmentation': 'jitter'},
    'mixup': more | {'train.mixup_alpha': 0.2},
    'live': more | {'teacher.live': True},
    'peer': more | {'distill.method': 'mutual'},
    'by_more': more | {'teacher.rows': ('more',)},
    'alone': more | {'train.subset': 'none'},
  }
  config = _config(rows, **{'train.epochs': 2})
  students = helpers.run(config, tmp_path)['students']
  assert [student['row'] for student in students] == list(rows)
  assert all(student['unlabeled'] >= 570 for student in students)
  live = next(s for s in students if s['row'] == 'live')
  stored = next(s for s in students if s['row'] == 'more')
  assert live['test']['nll'] == pytest.approx(stored['test']['nll'], rel=1e-3)


@pytest.mark.slow
def test_an_identity_depends_on_the_images_and_not_on_their_place(
  folder, students, tmp_path
):
  del students
  images = np.load(folder / 'more.npz')['images']
  identity = files.read_json(
    folder / 'run' / 'students' / 'more' / 'seed-0' / 'identity.json'
  )
  assert identity['unlabeled'].startswith('unlabeled-')
  assert 'unlabeled' not in identity['train']
  np.savez(tmp_path / 'copy.npz', images=images)
  np.savez(tmp_path / 'other.npz', images=images[:-32])
  for name, is_same in (('copy', True), ('other', False)):
    fields = {'train.unlabeled': str(tmp_path / f'{name}.npz')}
    row = _rows(folder)['more'] | fields | {'train.epochs': 1}
    helpers.run(_config({'more': row}), tmp_path, name)
    (path,) = (tmp_path / name).glob('students/more/seed-0/identity.json')
    made = files.read_json(path)
    assert (made['unlabeled'] == identity['unlabeled']) == is_same


def test_logits_in_a_file_can_include_theirs(folder, students, tmp_path):
  (added,) = folder.glob('teachers/*/outputs-unit-unlabeled-*')
  logits = {
    split: np.load(added.parent / 'outputs-unit' / f'{split}.npy')
    for split in data.SPLITS
  }
  unlabeled = np.load(added / 'unlabeled.npy')
  row = _rows(folder)['more']
  path = tmp_path / 'logits.npz'
  config = lambda: _config({'more': row}, **{'teacher.logits': str(path)})
  np.savez(path, **logits)
  with pytest.raises(errors.UserError, match='there are none for the 600'):
    helpers.run(config(), tmp_path, 'none')
  np.savez(path, **logits, unlabeled=unlabeled[1:])
  with pytest.raises(errors.UserError, match='there are 599 for the 600'):
    helpers.run(config(), tmp_path, 'few')
  np.savez(path, **logits, unlabeled=unlabeled)
  (student,) = helpers.run(config(), tmp_path)['students']
  assert student['weights'] == students['more']['weights']


@pytest.mark.parametrize(
  'fields, message',
  [
    (
      {'distill.kd_weight': 0.0, 'distill.ce_weight': 1.0},
      'every row learns from labels alone',
    ),
    ({'distill.method': 'dkd'}, 'the method dkd, which takes labels'),
    ({'train.transfer_set': 'noise'}, "'' with train.unlabeled"),
    ({'teacher.train.unlabeled': 'rest'}, 'the teacher learns from labels'),
    ({'train.unlabeled_ratio': -1.0}, 'at least 0'),
    ({'train.unlabeled': '', 'train.subset': 'none'}, 'without labels'),
    ({'train.unlabeled': '', 'train.unlabeled_ratio': 2.0}, 'expected 0'),
    ({'eval.bias_classes': (3,)}, r'\(\) with train.unlabeled'),
  ],
)
def test_mistakes_are_found_before_any_work(fields, message):
  config = helpers.tiny_mnist(
    fields={
      'train.unlabeled': 'rest',
      'train.subset': 'first5',
      'train.holdout_fraction': 0.1,
    }
    | fields
  )
  with pytest.raises(errors.UserError, match=message):
    run_checks.close_and_check(config)


def test_a_subset_that_leaves_no_rest_is_refused(tmp_path):
  config = helpers.tiny_mnist(fields={'train.unlabeled': 'rest'})
  with pytest.raises(errors.UserError, match="subset='all' leaves out no"):
    helpers.run(config, tmp_path)


def test_the_recipe_for_the_users_data_takes_them(tmp_path):
  rng = np.random.default_rng(0)
  draw = lambda count: rng.integers(256, size=(count, 6, 6), dtype=np.uint8)
  np.savez(
    tmp_path / 'own.npz',
    train_images=draw(32),
    train_labels=np.arange(32) % 2,
    test_images=draw(8),
    test_labels=np.arange(8) % 2,
  )
  np.savez(tmp_path / 'more.npz', images=draw(40))
  config = user_data.get_config(
    f'distill,data={tmp_path}/own.npz,unlabeled={tmp_path}/more.npz'
  )
  assert config.name == 'distill-own-unlabeled_more'
  rows = {row: config_lib.close_row(config, row) for row in config.rows}
  assert rows['distilled'].train.unlabeled == f'{tmp_path}/more.npz'
  assert rows['labels'].train.unlabeled == ''
