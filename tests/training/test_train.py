"""One training: made from a config, run, logged, stopped and resumed.

Also tests `kd_jax/training/example_source.py`.
"""

import jax
import numpy as np
import pytest

from kd_jax import config as config_lib
from kd_jax.runtime import run_records
from kd_jax.training import (
  checkpoint,
  context,
  plan,
  train,
  training_folder,
)
from kd_jax.training.example_source import TeacherInputs
from tests import helpers

EPOCHS = 3
_FIELDS = {
  'student.hidden': (6,),
  'teacher.model.hidden': (6,),
  'train.epochs': EPOCHS,
  'train.folds': 0,
  'train.batch_size': 64,
  'data.train_examples': 128,
  'data.test_examples': 50,
  'eval.batch_size': 50,
}


def _closed(**fields):
  config = helpers.tiny_mnist(fields=_FIELDS | fields)
  return config_lib.close_row(config, 'h50')


@pytest.fixture(name='run_context', scope='module')
def _run_context(generated):
  return context.make_context(_closed(), lambda name: generated)


@pytest.fixture(name='teacher', scope='module')
def _teacher(run_context):
  """Returns a teacher that knows the labels."""
  dataset = run_context.dataset
  return TeacherInputs(
    {
      name: 4 * jax.nn.one_hot(split.labels, 10)
      for name, split in (('train', dataset.train), ('test', dataset.test))
    }
  )


def _make(run_context, folder, *, seeds=(0,), **fields):
  config = _closed(**fields)
  return train.make_training(
    config,
    run_context,
    config_lib.student_sections(config),
    plan.make_plan(config.train, run_context.dataset),
    train.TrainingInfo(
      'h50', seeds, folder / 'training', {'fields': repr(fields)}
    ),
  )


def _log(folder):
  return run_records.MetricsLog(folder / 'metrics.jsonl')


def _run(student_training, teacher, folder, log=None):
  return train.run_training(student_training, teacher, log or _log(folder))


# --- A training is made. ---


def test_trainings_that_differ_in_traced_numbers_share_compiled_functions(
  run_context, tmp_path
):
  first = _make(run_context, tmp_path)
  traced = _make(run_context, tmp_path, **{'optim.learning_rate': 0.5})
  static = _make(run_context, tmp_path, **{'student.hidden': (7,)})
  assert traced.functions is first.functions
  assert static.functions is not first.functions
  assert traced.hyperparameters_of_epoch(0).learning_rate == 0.5
  assert first.plan.num_steps == EPOCHS * 2


def test_a_teacher_has_its_sections_and_no_biased_classes(
  run_context, tmp_path
):
  config = _closed(
    **{'eval.bias_classes': (3,), 'teacher.optim.learning_rate': 0.25}
  )
  info = train.TrainingInfo('teacher', (0,), tmp_path, {})
  student, teacher = (
    train.make_training(
      config,
      run_context,
      sections,
      plan.make_plan(sections.train, run_context.dataset),
      info,
    )
    for sections in (
      config_lib.student_sections(config),
      config_lib.teacher_sections(config),
    )
  )
  assert (student.bias_classes, teacher.bias_classes) == ((3,), ())
  assert teacher.hyperparameters_of_epoch(0).learning_rate == 0.25
  assert sum(phase.epochs for phase in teacher.plan.phases) == 1


# --- A training is run. ---


def test_a_training_is_logged_by_epoch_and_described(
  run_context, teacher, tmp_path
):
  student_training = _make(run_context, tmp_path)
  (trained,) = _run(student_training, teacher, tmp_path)
  lines = _log(tmp_path).read()
  assert [(line['row'], line['seed'], line['epoch']) for line in lines] == [
    ('h50', 0, epoch) for epoch in range(EPOCHS)
  ]
  assert lines[-1]['train/loss'] < lines[0]['train/loss']
  record = trained.record
  assert record['steps'] == EPOCHS * 2 and record['epochs'] == EPOCHS
  assert record['parameters'] == 784 * 6 + 6 + 6 * 10 + 10
  assert (
    record['by_class']['trained_on']
    == np.bincount(run_context.dataset.train.labels, minlength=10).tolist()
  )
  # The teacher knows the labels.
  assert record['test']['teacher_agreement'] == record['test']['accuracy']
  assert record['test']['accuracy'] == lines[-1]['eval/accuracy']


class _StoppingLog(run_records.MetricsLog):
  """A log that stops the training in an epoch."""

  def append(self, record):
    """Adds a record; stops at the record of the second epoch."""
    if record['epoch'] == 1:
      raise KeyboardInterrupt
    super().append(record)


def test_a_stopped_training_resumes_to_the_same_network(
  run_context, teacher, tmp_path, caplog, monkeypatch
):
  monkeypatch.setattr(checkpoint.Checkpoints, 'is_due', lambda self: True)
  weights = []
  for folder, log in (
    (tmp_path / 'whole', None),
    (tmp_path / 'stopped', _StoppingLog(tmp_path / 'stopped/metrics.jsonl')),
  ):
    student_training = _make(run_context, folder)
    if log is not None:
      with pytest.raises(KeyboardInterrupt):
        _run(student_training, teacher, folder, log)
      # A line of an epoch that no checkpoint holds.
      _log(folder).append({'row': 'h50', 'seed': 0, 'epoch': 1})
    with caplog.at_level('INFO'):
      (trained,) = _run(student_training, teacher, folder)
    assert ('resumed after epoch 1' in caplog.text) == (log is not None)
    weights.append(trained.record['weights'])
    assert trained.record['steps'] == EPOCHS * 2
    assert [line['epoch'] for line in _log(folder).read()] == [0, 1, 2]
  assert weights[0] == weights[1]


def test_a_training_that_was_stopped_after_its_last_epoch_is_described_again(
  run_context, teacher, tmp_path
):
  student_training = _make(run_context, tmp_path)
  (first,) = _run(student_training, teacher, tmp_path)
  lines = _log(tmp_path).read()
  (again,) = _run(student_training, teacher, tmp_path)
  assert _log(tmp_path).read() == lines
  assert again.record['weights'] == first.record['weights']
  assert again.record['time'] == first.record['time']
  # The folder has not been finished: that is up to the caller.
  info = student_training.info
  assert not training_folder.is_done(info.folder, info.identity, 0)


@pytest.mark.faults
def test_a_training_whose_log_is_damaged_is_trained_again(
  run_context, teacher, tmp_path, caplog
):
  """A damaged log of a finished training: it is trained again."""
  student_training = _make(run_context, tmp_path)
  (first,) = _run(student_training, teacher, tmp_path)
  # The first byte of the first line.
  helpers.flip_byte(tmp_path / 'metrics.jsonl', 0)
  (again,) = _run(student_training, teacher, tmp_path)
  assert 'trained again from the start' in caplog.text
  assert again.record['weights'] == first.record['weights']
  history = 'test_accuracy_by_epoch'
  assert again.record[history] == first.record[history]
  assert again.record['epochs'] == EPOCHS


def test_seeds_of_one_function_are_described_one_by_one(
  run_context, teacher, tmp_path
):
  alone = _make(run_context, tmp_path / 'alone', seeds=(5,))
  (expected,) = _run(alone, teacher, tmp_path / 'alone')
  together = _make(run_context, tmp_path, seeds=(4, 5))
  trained = _run(together, teacher, tmp_path)
  assert [student.record['seed'] for student in trained] == [4, 5]
  first, second = (student.variables['params'] for student in trained)
  assert (first['logits']['kernel'] != second['logits']['kernel']).any()
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    second,
    expected.variables['params'],
  )
  lines = _log(tmp_path).read()
  assert len(lines) == 2 * EPOCHS
  # The two share the time of their function equally.
  assert lines[0]['time/train_s'] == lines[1]['time/train_s']


def test_a_training_without_a_teacher_is_not_compared_with_one(
  run_context, tmp_path
):
  student_training = _make(
    run_context,
    tmp_path,
    **{'distill.kd_weight': 0.0, 'distill.ce_weight': 1.0, 'train.epochs': 1},
  )
  (trained,) = _run(student_training, TeacherInputs(), tmp_path)
  assert 'teacher_agreement' not in trained.record['test']
  assert 'train/kl' not in _log(tmp_path).read()[0]


def test_attacks_and_biases_are_described_if_they_are_asked_for(
  run_context, teacher, tmp_path
):
  fields = {
    'train.epochs': 1,
    'train.holdout_fraction': 0.5,
    'eval.attacked_examples': 20,
    'eval.bias_classes': (3,),
  }
  student_training = _make(run_context, tmp_path, **fields)
  (trained,) = _run(student_training, teacher, tmp_path)
  assert trained.record['robust']['examples'] == 20
  assert trained.record['bias']['classes'] == [3]
  assert trained.record['bias']['by'].keys() == {'labels', 'teacher'}
  assert sum(trained.record['by_class']['trained_on']) == 64
