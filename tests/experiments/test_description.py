"""A look at a run's data before training: tables, a picture, row order.

Also tests `kd_jax/experiments/training_forecast.py` and
`kd_jax/report/data_plots.py`.
"""

import csv

import numpy as np
import pytest
from PIL import Image

from kd_jax.benchmark import training_steps
from kd_jax.experiments import description
from kd_jax.teachers import provider, teacher
from tests import helpers

NAMES = ('1', '10', '2')  # In the order of their labels.


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  """A folder of three classes, with names that sort as text."""
  folder = tmp_path_factory.mktemp('own')
  rng = np.random.default_rng(0)
  for split, count in (('train', 10), ('test', 4)):
    for name in NAMES:
      (folder / split / name).mkdir(parents=True)
      for i in range(count):
        image = rng.integers(256, size=(6, 6), dtype=np.uint8)
        Image.fromarray(image).save(folder / split / name / f'{i}.png')
  return folder


@pytest.fixture(name='seconds', autouse=True)
def _seconds(monkeypatch):
  """Replaces the timing of steps, most of which is compilation.

  Returns:
    The networks that were timed, as their kinds.
  """
  timed = []

  def seconds_per_step(config, dataset, teacher, *, budget_s):
    del dataset, budget_s
    assert teacher.variables is None
    timed.append(config.student.kind)
    return 60.0

  monkeypatch.setattr(training_steps, 'seconds_per_step', seconds_per_step)
  return timed


def _describe(folder, runs, *args, recipe='h50'):
  result = helpers.launch_here(
    f'--config=configs/mnist.py:{recipe}',
    '--describe',
    f'--config.data.name={folder}',
    f'--workdir={runs / "run"}',
    f'--runs_dir={runs}',
    *args,
  )
  assert result.returncode == 0, result.stderr
  return result.stdout


def _order(runs, split):
  with open(runs / 'run' / 'data' / f'{split}-order.csv') as file:
    return list(csv.DictReader(file))


def test_the_data_and_the_trainings_are_described(folder, tmp_path, seconds):
  text = _describe(
    folder, tmp_path, '--config.data.train_examples=24', '--minutes'
  )
  cells = [
    [cell.strip() for cell in line.split('|')[1:-1]]
    for line in text.splitlines()
  ]
  for label, name in enumerate(NAMES):
    assert [name, str(label), '8', '4', '2'] in cells
  assert ['all', '', '24', '12', '6'] in cells
  # A fifth of the examples is held out from the teacher.
  (trained,) = (row for row in cells if row and row[0] == 'teacher')
  assert trained[1] == 'conv_net' and trained[4:6] == ['19', '5']
  (student,) = (row for row in cells if row and row[0] == 'h50')
  # 36 pixels, 50 units, 3 classes; four phases of three epochs.
  assert student[2:4] == ['2,003', '1,950'] and student[6] == '3 x 4 phases'
  # A step takes a minute.
  assert seconds == ['conv_net', 'mlp']
  for row in (trained, student):
    assert float(row[9]) == int(row[8])
  # All that tells h300 from h300_t1 and h300_t10.
  assert (student[-2], student[-1]) == ('1 soft_cross_entropy (T 1)', '3.5')
  assert next(row for row in cells if row[:1] == ['network'])[-1] == (
    'T of its logits'
  )
  assert 'Images of 6 x 6 pixels x 1 channels' in text
  description = tmp_path / 'run' / 'data' / 'description.md'
  assert description.read_text() in text
  with Image.open(tmp_path / 'run' / 'data' / 'examples.png') as picture:
    assert picture.width > 100
  # Nothing is trained, and the folder is free for the run.
  assert {path.name for path in (tmp_path / 'run').iterdir()} == {'data'}
  assert not (tmp_path / 'teachers').exists()


def test_logits_in_the_order_of_the_row_files_fit_the_data(folder, tmp_path):
  _describe(folder, tmp_path, '--config.data.train_examples=24')
  logits = {}
  for split in ('train', 'test'):
    rows = _order(tmp_path, split)
    assert [int(row['position']) for row in rows] == [*range(len(rows))]
    for row in rows:
      assert row['file'].startswith(f'{folder}/{split}/{row["class"]}/')
      assert NAMES[int(row['label'])] == row['class']
    logits[split] = 5.0 * np.eye(3)[[int(row['label']) for row in rows]]
  used = [row['used_as'] for row in _order(tmp_path, 'train')]
  assert used.count('train') == 24 and used.count('') == 6
  np.savez(tmp_path / 'logits.npz', **logits)
  flag = f'--config.teacher.logits={tmp_path / "logits.npz"}'
  text = _describe(folder, tmp_path, flag)
  assert 'accuracy of 100.00 % on train, 100.00 % on test' in text
  assert [row[-1] for row in _cells(text)[:4]] == ['100.0'] * 4
  assert '## Warnings' not in text
  # Another program may list the classes in the order of their numbers.
  other = {split: array[:, [0, 2, 1]] for split, array in logits.items()}
  np.savez(tmp_path / 'logits.npz', **other)
  warnings = _describe(folder, tmp_path, flag).partition('## Warnings')[2]
  assert 'takes 10 as 2, 2 as 10: its classes seem' in warnings
  assert 'expected 1, 10, 2' in warnings
  assert [row[-1] for row in _cells(_describe(folder, tmp_path, flag))[:4]] == [
    *('100.0', '0.0', '0.0'),
    '33.3',
  ]


def test_nothing_is_timed_unless_minutes_are_asked_for(
  folder, tmp_path, seconds
):
  text = _describe(folder, tmp_path)
  assert seconds == []
  assert ' steps ' in text and ' minutes ' not in text.partition('With --')[0]


def _cells(text):
  """Returns the cells of the table of classes."""
  table = text.partition('teacher agrees')[2].splitlines()[2:]
  return [[cell.strip() for cell in row.split('|')[1:-1]] for row in table]


def test_other_rows_are_scaled_by_their_work(folder, tmp_path, seconds):
  text = _describe(folder, tmp_path, '--minutes', recipe='table1,seeds=2')
  assert seconds == ['conv_net', 'mlp']
  rows = {
    row[0]: row
    for row in (line.split('|')[1:-1] for line in text.splitlines())
    if len(row) == 14
  }
  rows = {name.strip(): [c.strip() for c in row] for name, row in rows.items()}
  number = lambda row, i: float(rows[row][i].replace(',', ''))
  ratio = number('h300', 3) / number('h50', 3)
  # Batches of 32 in both; two seeds of a step that takes a minute.
  assert number('h50', 9) == 2 * number('h50', 8)
  assert number('h300', 9) == pytest.approx(2 * number('h300', 8) * ratio, 0.01)


def test_examples_that_are_held_out_say_so(folder, tmp_path):
  _describe(folder, tmp_path, '--config.data.holdout_examples=6')
  used = [row['used_as'] for row in _order(tmp_path, 'train')]
  assert used.count('train') == 24 and used.count('test') == 6
  assert {row['used_as'] for row in _order(tmp_path, 'test')} == {''}


def test_a_teacher_that_is_trained_already_is_described(
  folder, tmp_path, monkeypatch
):
  assert 'The teacher is trained by this run.' in _describe(folder, tmp_path)
  record = {'train': {'accuracy': 0.75}, 'test': {'accuracy': 0.5}}
  logits = {'test': np.zeros((12, 3))}
  ready = teacher.Teacher(logits, record, warnings=['the teacher overfits'])
  monkeypatch.setattr(provider, 'is_ready', lambda *_: True)
  monkeypatch.setattr(provider, 'get_teacher', lambda *_: ready)
  text = _describe(folder, tmp_path)
  assert 'already trained, has an accuracy of 75.00 % on train, 50.00 %' in text
  assert text.index('- the teacher overfits.') > text.index('## Warnings')


def test_images_that_are_trained_on_are_in_the_warnings(tmp_path):
  images = np.random.default_rng(0).integers(0, 256, (12, 6, 6), np.uint8)
  labels = np.arange(12) % 3
  arrays = {'train_images': images, 'train_labels': labels}
  arrays |= {'test_images': images[:6], 'test_labels': labels[:6]}
  np.savez(tmp_path / 'data.npz', **arrays)
  warnings = _describe(tmp_path / 'data.npz', tmp_path).partition('## Warn')[2]
  assert '- 6 of the 6 test images are also training images' in warnings


def test_an_experiment_without_data_has_no_description():
  result = helpers.launch_here(
    '--config=configs/theory.py:lemma1', '--describe'
  )
  assert result.returncode == 1
  assert 'error: --describe: theory-lemma1 has no data' in result.stderr


def test_a_name_of_a_class_is_one_cell_whatever_is_in_it():
  name = description._printable('a\n\x1b[31m|b')
  assert name == r'a\n\x1b[31m\|b'
