"""A whole run in this process: golden numbers, reuse and damage.

Also tests `kd_jax/experiments/run_checks.py`.
"""

import shutil

import jax
import pytest

from kd_jax.runtime import errors, files, json_records, run_records
from kd_jax.training import training_folder
from tests import helpers

# Measured with jax 0.10 on an x86-64 CPU; other processors and versions need
# the tolerance. The numbers may change if the data order, the initialization,
# the optimizer or the generated data set changes on purpose. Then note the
# change in CHANGELOG.md and BUILD_NOTES.md, and update the numbers here.
GOLDEN = {'teacher_nll': 1.607, 'student_nll': 1.527, 'student_kl': 0.0825}
# The KL is small, and every difference adds to it.
TOLERANCE = {'teacher_nll': 0.05, 'student_nll': 0.05, 'student_kl': 0.25}


FIELDS = {
  'teacher.model.hidden': (32, 32),
  'teacher.model.temperature': 1.0,
  'teacher.train.epochs': 3,
  'train.epochs': 2,
}


def _config(fields=None):
  return helpers.tiny_mnist(fields=FIELDS | (fields or {}))


def _run(folder):
  return helpers.run(_config(), folder)


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('experiment')
  _run(folder)
  return folder


@pytest.mark.parametrize(
  'fields, message',
  [
    (
      {'train.holdout_fraction': 0.999, 'data.train_examples': 64},
      r'config\.train: 0 examples make no step',
    ),
    (
      {'teacher.train.batch_size': 5000, 'teacher.train.drop_remainder': True},
      r'config\.teacher\.train: 1600 examples make no step',
    ),
    (
      {'train.epochs': 10**6, 'train.batch_size': 1, 'train.folds': 2},
      r'config\.train: 4,000,000,000 steps are more',
    ),
  ],
)
def test_phases_without_a_step_or_with_too_many_are_refused(
  folder, tmp_path, fields, message
):
  with pytest.raises(errors.UserError, match=message):
    helpers.run(_config(fields), tmp_path, teachers=folder / 'teachers')


@pytest.mark.parametrize(
  'fields, message',
  [
    (
      {'train.batch_size': 5000, 'train.drop_remainder': True},
      r'config\.train: 1333 examples make no step',
    ),
    ({'train.subset': 'first500'}, r'first500 needs 500 examples'),
    ({'train.transfer_set': 'generated_rgb'}, r'generated_rgb'),
    (
      {
        'distill.method': 'kl+quantized',
        'teacher.features_gib': 0.0,
        'teacher.feature_bits': 4,
      },
      r'config\.teacher\.feature_bits=4',
    ),
  ],
)
def test_mistakes_are_refused_before_a_teacher_is_trained(
  tmp_path, fields, message
):
  with pytest.raises(errors.UserError, match=message):
    helpers.run(_config(fields), tmp_path, teachers=tmp_path)
  assert not list(tmp_path.glob('generated-*'))


def test_a_run_gives_the_golden_numbers(folder):
  record = files.read_json(folder / 'run' / 'run.json')
  (student,) = record['students']
  values = {
    'teacher_nll': record['teacher']['test']['nll'],
    'student_nll': student['test']['nll'],
    'student_kl': student['test']['teacher_kl'],
  }
  for name, value in values.items():
    assert value == pytest.approx(GOLDEN[name], rel=TOLERANCE[name]), name


def test_the_student_learns_the_teacher(folder):
  (student,) = files.read_json(folder / 'run' / 'run.json')['students']
  lines = run_records.MetricsLog(folder / 'run' / 'metrics.jsonl').read()
  kl = [line['eval/teacher_kl'] for line in lines]
  assert len(kl) == 8
  assert kl[-1] < 0.5 * kl[0]
  assert set(student['test_accuracy_after']) == {
    'fold0', 'fold1', 'fold2', 'fit',
  }  # fmt: skip


def test_nothing_is_left_to_do_where_seeds_train_as_one_program(
  folder, monkeypatch
):
  """On a GPU, one program trains all seeds that are missing; here none is."""
  before = files.read_json(folder / 'run' / 'run.json')['students']
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert _run(folder)['students'] == before


def test_a_damaged_result_is_made_again(folder, caplog):
  before = files.read_json(folder / 'run' / 'run.json')
  result = folder / 'run' / 'students' / 'h50' / 'seed-0' / 'result.json'
  result.write_text(result.read_text()[:50])
  after = _run(folder)
  assert after['students'][0]['weights'] == before['students'][0]['weights']


@pytest.mark.faults
def test_a_result_without_a_checksum_is_made_again(folder, caplog):
  """A student's record has no checksum: the student is trained again."""
  before = files.read_json(folder / 'run' / 'run.json')
  path = folder / 'run' / 'students' / 'h50' / 'seed-0' / 'result.json'
  result = files.read_json(path)
  del result[json_records.CHECKSUM]
  result['test']['accuracy'] = 0.99
  files.write_json(path, result)
  after = _run(folder)
  assert after['students'][0]['test'] == before['students'][0]['test']
  assert 'result.json is not used: it has no checksum' in caplog.text


@pytest.mark.faults
def test_a_student_without_weights_is_trained_again(folder, caplog):
  """The weights of a student are gone: it is trained again, to equal ones."""
  before = files.read_json(folder / 'run' / 'run.json')
  seed = folder / 'run' / 'students' / 'h50' / 'seed-0'
  shutil.rmtree(seed / 'weights')
  after = _run(folder)
  assert after['students'][0]['weights'] == before['students'][0]['weights']
  assert (seed / 'weights').is_dir()
  assert 'seed-0 has no weights: it is trained again' in caplog.text


def test_damaged_weights_are_named_with_the_fix(folder):
  weights = folder / 'run' / 'students' / 'h50' / 'seed-0' / 'weights'
  shutil.copytree(weights, folder / 'sound')
  for path in weights.rglob('d/*'):
    helpers.flip_middle_byte(path)
  config = _config({'benchmark.enabled': True})
  with pytest.raises(errors.UserError, match='seed-0.*is damaged: remove'):
    helpers.run(config, folder)
  shutil.rmtree(weights)
  (folder / 'sound').rename(weights)


def test_students_of_other_teacher_outputs_are_trained_again(folder, caplog):
  """A student's identity includes the teacher's outputs."""
  identity = folder / 'run' / 'students' / 'h50' / 'seed-0' / 'identity.json'
  content = files.read_json(identity)
  content['teacher_outputs'] = 'of another teacher'
  files.write_json(identity, content)
  with caplog.at_level('WARNING'):
    _run(folder)
  assert 'is trained again: identity.teacher_outputs' in caplog.text
  assert files.read_json(identity)['teacher_outputs'] != 'of another teacher'


@pytest.mark.slow
def test_seeds_of_one_program_resume_together(folder, tmp_path, monkeypatch):
  def run(name):
    config = _config({'seeds': 2, 'seeds_per_program': 2})
    record = helpers.run(config, tmp_path, name, teachers=folder / 'teachers')
    lines = (tmp_path / name / 'metrics.jsonl').read_text()
    return [student['weights'] for student in record['students']], lines

  expected, _ = run('whole')
  finish, finished = training_folder.finish, []

  def finish_one(trained, *args):
    if finished:
      raise KeyboardInterrupt
    finished.append(finish(trained, *args))
    return finished[-1]

  with monkeypatch.context() as patch:
    patch.setattr(training_folder, 'finish', finish_one)
    with pytest.raises(KeyboardInterrupt):
      run('stopped')
  lines = (tmp_path / 'stopped' / 'metrics.jsonl').read_text()
  weights, lines_after = run('stopped')
  assert weights == expected
  # No epoch was trained again.
  assert lines_after == lines
  students = (tmp_path / 'stopped' / 'students' / 'h50').glob('[!.]*')
  assert {student.name for student in students} == {'seed-0', 'seed-1'}
