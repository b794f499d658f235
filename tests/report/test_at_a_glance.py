"""The comparison at the top of README.md.

Also tests `kd_jax/report/at_a_glance_plot.py`.
"""

import pytest

from kd_jax.report import at_a_glance, at_a_glance_plot
from kd_jax.runtime import errors

_SAMPLES = {
  'labels': [50.0, 52.0],
  'kl': [55.0, 57.0],
  'review': [60.0, 61.0],
}


def _student(row, seed, accuracy, **more):
  return {
    'row': row,
    'seed': seed,
    'bytes': 4e6,
    'test': {'accuracy': accuracy / 100},
  } | more


def _timing(ms_by_row):
  return {
    'network_of': {row: row for row in ms_by_row},
    'networks': {
      row: {'batches': {'1': {'call_s': {'median': ms / 1e3}}}}
      for row, ms in ms_by_row.items()
    },
  }


def _results():
  """Returns toy records of the three runs that the comparison reads."""
  students = [
    _student(row, seed, value)
    for row, values in _SAMPLES.items()
    for seed, value in enumerate(values)
  ]
  small = {'accuracy': 0.59, 'bytes': 1e6}
  ms = {'teacher': 9.0, 'labels': 2.0, 'kl': 2.0, 'review': 2.0}
  return {
    'cifar-methods-as_coded': {
      'students': students,
      'teacher': _student('teacher', 0, 90.0),
      'benchmark': _timing(ms),
    },
    'cifar-methods-as_coded-int8': {
      'students': [_student('kl', 0, 60.0, packed=small)]
    },
    'cifar-quantized-as_coded': {
      'benchmark': _timing({'float': 4.0, 'int8': 6.0})
    },
  }


def test_every_row_has_its_accuracy_size_and_latency():
  lines = at_a_glance.table(_results()).splitlines()[2:]
  cells = [[cell.strip() for cell in line.split('|')[2:-1]] for line in lines]
  assert cells == [
    ['90.0', '1', '4.0', '9.0'],
    ['51.0 ± 1.4', '2', '4.0', '2.0'],
    ['56.0 ± 1.4', '2', '4.0', '2.0'],
    ['60.5 ± 0.7', '2', '4.0', '2.0'],
    # As stored, at the float's time and the other run's ratio.
    ['59.0', '1', '1.0', '3.0'],
  ]


def test_a_missing_record_is_named():
  results = _results()
  del results['cifar-methods-as_coded-int8']
  with pytest.raises(errors.UserError, match='cifar-methods-as_coded-int8'):
    at_a_glance.table(results)


def test_the_title_of_the_plot_says_by_how_much_the_teacher_helps():
  students = at_a_glance.rows(_results())[1:]
  assert at_a_glance_plot.title(students).endswith(
    ' plain KD adds 5 points, and the method with the best mean 10'
  )


def test_the_plot_is_written_if_all_its_records_are_there(tmp_path):
  path = tmp_path / 'at_a_glance.png'
  at_a_glance_plot.write(tmp_path, {})
  assert not path.exists()
  at_a_glance_plot.write(tmp_path, _results())
  assert path.read_bytes().startswith(b'\x89PNG')
