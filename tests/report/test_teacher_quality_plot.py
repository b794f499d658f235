"""The plot of a teacher's accuracy against its students'."""

import copy

import pytest

from kd_jax.report import teacher_quality_plot
from tests.report import example_records


def _run(record, teacher_accuracy, accuracies):
  """Returns a run as coded: students 'ideal' of a ResNet-50."""
  run = copy.deepcopy(example_records.as_cifar_run(record))
  run['config']['data'] = {'name': 'cifar10', 'scaling': 'symmetric'}
  run['config']['teacher']['model']['block'] = 'bottleneck'
  run['config'] |= {
    'train': {'epochs': 10, 'batch_size': 100, 'subset': 'all'},
    'optim': {'learning_rate': 0.1, 'schedule': 'constant'},
    'distill': {'method': 'kl', 'temperature': 4.0, 'kd_warmup_epochs': 10},
    'student': {},
  }
  run['teacher']['test'] = {'accuracy': teacher_accuracy}
  run['students'] = [
    {'row': 'ideal', 'seed': seed, 'test': {'accuracy': accuracy}}
    for seed, accuracy in enumerate(accuracies)
  ]
  return run


def test_the_run_with_the_most_students_counts_for_a_teacher(record):
  runs = [
    _run(record, 0.7374, [0.8]),
    _run(record, 0.7374, [0.75, 0.77]),
    _run(record, 0.939, [0.81]),
  ]
  found = teacher_quality_plot.students_by_teacher(runs, 'the full set')
  assert list(found) == [73.74, 93.9]
  assert found[73.74].kd == pytest.approx([75, 77])
  assert found[93.9].kd == pytest.approx([81])
  assert not teacher_quality_plot.students_by_teacher(runs, 'the reduced set')


def _add(run, row, accuracies):
  run['students'] += [
    {'row': row, 'seed': seed, 'test': {'accuracy': accuracy}}
    for seed, accuracy in enumerate(accuracies)
  ]


def test_the_title_compares_students_with_labels_alone_in_their_run(record):
  runs = [
    _run(record, 0.7374, [0.75, 0.77]),
    _run(record, 0.85, [0.80, 0.82]),
    _run(record, 0.939, [0.90]),  # One student is no evidence.
  ]
  assert 'by its teacher' in teacher_quality_plot.title(runs)
  _add(runs[1], 'ideal_no_kd', [0.74, 0.74, 0.74])
  assert teacher_quality_plot.title(runs) == (
    'KD against labels alone, by teacher: +2.0 to +7.0 points on the full set '
    '(n = 2 to 3)'
  )
  # A run's own control comes before that of another run.
  _add(runs[0], 'ideal_no_kd', [0.75, 0.75])
  assert '+1.0 to +7.0 points' in teacher_quality_plot.title(runs)


def test_each_reduced_set_has_its_own_students(record):
  run = _run(record, 0.7374, [0.8])
  for row, subset in (
    ('first500', 'first500'),
    ('block5000', 'block5000'),
    ('ideal_reduced', None),
  ):
    run['config'].setdefault('rows', {})[row] = {'train': {'subset': subset}}
    _add(run, row, [0.6] if subset else [0.5])
  run['config']['train']['subset'] = 'first500'
  by_teacher = teacher_quality_plot.students_by_teacher
  (blocks,) = by_teacher([run], 'the reduced set').values()
  (firsts,) = by_teacher([run], 'the first 500 of each class').values()
  assert blocks.kd == pytest.approx([60])
  assert firsts.kd == pytest.approx([50])


def test_runs_of_another_recipe_are_left_out(record, tmp_path):
  longer = _run(record, 0.9, [0.9, 0.91])
  longer['config']['train']['epochs'] = 60
  teacher_quality_plot.write(tmp_path, {'longer': longer})
  assert not list(tmp_path.iterdir())
  teacher_quality_plot.write(tmp_path, {'run': _run(record, 0.9, [0.8, 0.82])})
  assert (tmp_path / 'teacher_quality.png').exists()
