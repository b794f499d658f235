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
    'train': {'epochs': 10, 'batch_size': 100},
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
  assert found[73.74] == pytest.approx([75, 77])
  assert found[93.9] == pytest.approx([81])
  assert not teacher_quality_plot.students_by_teacher(runs, 'the reduced set')


def test_the_title_compares_each_teacher_with_labels_alone(record):
  runs = [
    _run(record, 0.7374, [0.75, 0.77]),
    _run(record, 0.939, [0.81]),
  ]
  assert 'by its teacher' in teacher_quality_plot.title(runs)
  runs[1]['students'].append(
    {'row': 'ideal_no_kd', 'seed': 0, 'test': {'accuracy': 0.74}}
  )
  assert teacher_quality_plot.title(runs) == (
    'KD against labels alone, by teacher: +2.0 to +7.0 points on the full set '
    '(n = 1 to 2)'
  )


def test_runs_of_another_recipe_are_left_out(record, tmp_path):
  longer = _run(record, 0.9, [0.9, 0.91])
  longer['config']['train']['epochs'] = 60
  teacher_quality_plot.write(tmp_path, {'longer': longer})
  assert not list(tmp_path.iterdir())
  teacher_quality_plot.write(tmp_path, {'run': _run(record, 0.9, [0.8, 0.82])})
  assert (tmp_path / 'teacher_quality.png').exists()
