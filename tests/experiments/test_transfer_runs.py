"""Runs whose students see other images or classes, or a wrong teacher."""

import os

import numpy as np
import pytest

from configs import tables, theory
from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.config_checks import field_checks
from kd_jax.report import accuracy_plots, figures, plots, study_tables
from kd_jax.runtime import errors, files, run_records
from tests import helpers

EPOCHS = 10


def _config(rows):
  """Returns a table of tiny students on generated digits."""
  config = theory.get_config('missing_digit,smoke')
  config.rows = {}
  config.data.update(name='generated', test_examples=0)
  config.train.update(
    holdout_fraction=0.2, subset='all', epochs=EPOCHS, batch_size=32
  )
  config.eval.bias_classes = ()
  config.distill.update(ce_weight=1.0, kd_weight=1.0, temperature=4.0)
  config.student.hidden = (32,)
  config.teacher.model.dropout_rate = 0.0
  config.teacher.train.update(epochs=15, augmentation='none', batch_size=32)
  config = tables.make_table(config, rows)
  config.paper = {'without_3': {'accuracy': 97.94, 'errors': '206 (133)'}}
  config.lock()
  return config


ROWS = {
  'all': {},
  'without_3': {
    'distill.ce_weight': 0.0,
    'train.subset': 'without3',
    'eval.bias_classes': (3,),
  },
  'kd': {'distill.ce_weight': 0.0},
  'shifted_kd': {'distill.ce_weight': 0.0, 'teacher.class_shift': 1},
  'noise_kd': {'distill.ce_weight': 0.0, 'train.transfer_set': 'noise'},
  'by_all': {'teacher.rows': ('all',), 'train.transfer_set': 'noise'},
  'noise_labels': {'distill.kd_weight': 0.0, 'train.transfer_set': 'noise'},
  'noise_both': {'train.transfer_set': 'noise'},
  'noise_more': {'train.transfer_set': 'noise', 'distill.kd_weight': 3.0},
}


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  """Returns a folder with a run of all rows."""
  folder = tmp_path_factory.mktemp('transfer')
  helpers.run(_config(ROWS), folder)
  return folder


@pytest.fixture(name='students', scope='module')
def _students(folder):
  """Returns the student of each row."""
  record = files.read_json(folder / 'run' / 'run.json')
  return {student['row']: student for student in record['students']}


def test_held_out_examples_and_left_out_classes_are_not_trained_on(students):
  labels = np.array(students['all']['by_class']['trained_on'])
  assert labels.sum() == round(1024 * 0.8)
  without = np.array(students['without_3']['by_class']['trained_on'])
  expected = np.where(np.arange(10) == 3, 0, labels)
  np.testing.assert_array_equal(without, expected)
  per_epoch = -(-expected.sum() // 32)
  assert students['without_3']['steps'] == EPOCHS * per_epoch


def test_errors_by_class_add_up(students):
  for student in students.values():
    assert sum(student['by_class']['errors']) == student['test']['errors']
    assert sum(student['by_class']['examples']) == 500


def test_a_bias_brings_the_missing_class_back(students):
  student = students['without_3']
  errors_of_3 = lambda part: part['by_class']['errors'][3]
  assert errors_of_3(student) > 0.5 * student['by_class']['examples'][3]
  assert student['bias']['classes'] == [3]
  for biased in student['bias']['by'].values():
    assert biased['bias'] > 0
    assert errors_of_3(biased) < errors_of_3(student)
    assert biased['test']['errors'] < student['test']['errors']
    assert sum(biased['by_class']['errors']) == biased['test']['errors']
  assert 'bias' not in students['all']


def test_a_student_learns_its_teachers_wrong_classes(students):
  right, wrong = students['kd']['test'], students['shifted_kd']['test']
  # The shifted teacher makes the same decisions, but names the next class.
  assert wrong['teacher_agreement'] == pytest.approx(
    right['teacher_agreement'], abs=0.1
  )
  assert right['accuracy'] > 0.5 > 0.2 > wrong['accuracy']


def test_noise_teaches_less_than_the_digits(students):
  noise, digits = students['noise_kd']['test'], students['kd']['test']
  assert noise['teacher_kl'] > digits['teacher_kl']
  assert noise['accuracy'] < digits['accuracy']
  # The labels of noise images carry no information.
  assert students['noise_labels']['test']['accuracy'] < 0.25


def test_outputs_of_each_transfer_set_are_stored_and_reused(folder, caplog):
  (teacher,) = (folder / 'teachers').glob('generated-mlp-*')
  stores = {path.name for path in teacher.glob('outputs-*')}
  assert stores == {'outputs-unit', 'outputs-unit-noise'}
  student = folder / 'run' / 'students' / 'all' / 'seed-0'
  assert (student / 'outputs-noise' / 'manifest.json').exists()
  rows = ('all', 'noise_kd', 'by_all')
  config = _config({row: ROWS[row] for row in rows})
  config.seeds = 2
  config.train.epochs = 1
  with caplog.at_level('INFO'):
    record = helpers.run(config, folder, 'two_seeds')
  # Each seed of the row `all` computes its outputs.
  assert caplog.text.count('outputs: computed') == 2
  assert f'read from {teacher / "outputs-unit-noise"}' in caplog.text
  assert f'those in {teacher}' not in caplog.text
  assert len(record['students']) == 2 * len(rows)


def test_the_report_shows_the_errors_of_missing_classes(folder):
  record = files.read_json(folder / 'run' / 'run.json')
  table = study_tables.missing_classes_table(record)
  line = next(x for x in table.splitlines() if x.startswith('| without_3'))
  student = next(s for s in record['students'] if s['row'] == 'without_3')
  cells = [cell.strip() for cell in line.strip('|').split('|')]
  assert cells[2] == str(sum(student['by_class']['trained_on']))
  assert cells[3] == str(student['by_class']['examples'][3])
  assert cells[-1] == '–'  # The paper's figures are not of generated digits.
  of_mnist = record | {'config': record['config'] | {'data': {'name': 'mnist'}}}
  assert '206 (133)' in study_tables.missing_classes_table(of_mnist)
  assert '(' in cells[4] and '(' in cells[6]
  line_of_all = next(x for x in table.splitlines() if x.startswith('| all'))
  assert '(' not in line_of_all
  names = plots.names(record)
  assert {'errors_bias', 'accuracy_kd_share'} <= set(names)
  assert 'accuracy_temperature' not in names
  plot, path = plots.PLOTS['errors_bias'], folder / 'errors_bias.png'
  with figures.canvas(path, plot.inches(record)) as figure:
    plot.draw(figure, record)
  assert path.stat().st_size > 5_000


def test_a_pretrained_network_computes_outputs_of_other_images(
  folder, tmp_path
):
  """Students of a published teacher equal those of the trained teacher."""
  trained = _config({'row': {}})
  trained.unlock()
  trained.rows = {}
  trained.teacher.publish_weights = True
  record = helpers.run(trained, folder, 'teacher')
  rows = {row: ROWS[row] for row in ('kd', 'noise_kd')}
  config = _config(rows)
  config.teacher.pretrained = str(folder / 'teacher' / 'outputs')
  assert not config_lib.close_row(config, 'kd').teacher.retrain
  with_pretrained = helpers.run(config, tmp_path)
  # Published outputs are rounded to half floats, like the weights.
  for split in ('train', 'test'):
    for metric, value in record['teacher'][split].items():
      assert with_pretrained['teacher'][split][metric] == pytest.approx(
        value, rel=1e-3, abs=1e-4
      )
  before = run_records.by_row(files.read_json(folder / 'run' / 'run.json'))
  for row, (student,) in run_records.by_row(with_pretrained).items():
    # Published weights are rounded to half floats.
    assert student['test']['accuracy'] == pytest.approx(
      before[row][0]['test']['accuracy'], abs=0.05
    )
  (teacher,) = filter(os.path.isdir, (tmp_path / 'teachers').iterdir())
  # The outputs for the data set come from the published folder.
  stored = {path.name for path in teacher.glob('outputs-*')}
  assert stored == {'outputs-unit-noise'}


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'train.transfer_set': 'nois'}, "'nois'.*noise, shuffled_pixels"),
    ({'teacher.train.transfer_set': 'noise'}, 'the teacher learns its data'),
    (
      {'train.transfer_set': 'noise', 'teacher.logits': 'x.npy'},
      'a teacher that is trained here',
    ),
    ({'teacher.class_shift': 1, 'teacher.live': True}, 'class_shift=1'),
    (
      {'eval.bias_classes': (3,), 'train.holdout_fraction': 0.0},
      'to choose a bias on',
    ),
    ({'train.subset': 'without'}, 'withoutA_B'),
  ],
)
def test_mistakes_are_named_before_any_work(fields, message):
  config = _config({'row': fields})
  with pytest.raises(errors.UserError, match=message):
    field_checks.check_fields(config_lib.close_row(config, 'row'))


def test_a_line_of_a_plot_joins_rows_that_differ_in_one_field(folder):
  record = files.read_json(folder / 'run' / 'run.json')
  (line,) = accuracy_plots.kd_share_lines(record).items()
  name, points = line
  assert name == 'noise'
  assert [x for x, _ in points] == [0, 0.5, 0.75, 1]


def test_rows_that_differ_only_in_their_bias_have_a_record_each():
  config = _config({'without': {}, 'with': {'eval.bias_classes': (3,)}})
  run = helpers.make_rows(config, data.load('generated'))
  assert run.by_name['with'].same_training_as == 'with'
