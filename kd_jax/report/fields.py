"""The fields of run.json that tables and plots read."""

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from kd_jax.runtime import run_records

# A JSON object: a whole run.json, or one of its students.
Record = dict[str, Any]
# The data set of the figures of each file of recipes, by the start of a run's
# name.
_PAPER_DATASETS = {'mnist': 'mnist', 'cifar': 'cifar10', 'theory': 'mnist'}
# Fields of `data` that make a run's data a part of the paper's.
_PARTS = ('train_examples', 'test_examples', 'holdout_examples')
# Images of the call whose time a summary shows, if the run has timed it.
_SHOWN_BATCH_SIZE = 100
# In a command: overrides that make students others than the paper's. The recipe
# ideal_best trains as long as it takes.
_OTHER_STUDENTS = re.compile(
  r'--?(?:no)?config\.(?:student|train|optim|distill|data)\.|,method=(?!response\b)'
  r'|:(?!ideal_best)\w+,(?:\S*,)?epochs='
)


def networks(record: Record) -> dict[str, list[Record]]:
  """Returns the records by network: 'teacher', then each row's students.

  A run with `teacher.logits=none` has no teacher.
  """
  students = run_records.by_row(record)
  if record['teacher'].get('source') == 'none':
    return students
  return {'teacher': [record['teacher']], **students}


def evaluated_on(section: Mapping[str, Any]) -> str:
  """Returns the images that test metrics are of.

  Args:
    section: the `data` section of a config; older ones lack fields.
  """
  held_out = section.get('holdout_examples', 0)
  if held_out:
    return f'{held_out:,} held-out training images'
  if section.get('test_examples', 0):
    return 'a part of the test split'
  return 'the whole test split'


def values(
  students: Sequence[Record], section: str, field: str
) -> list[float | None]:
  """Returns one field of each student; None where a student lacks it."""
  return [student.get(section, {}).get(field) for student in students]


def test_metric(students: Sequence[Record], metric: str) -> list[float | None]:
  """Returns one test metric of each student; None where it is missing."""
  return values(students, 'test', metric)


def accuracies(students: Sequence[Record]) -> list[float]:
  """Returns the test accuracy, in [0, 1], of each student."""
  return [student['test']['accuracy'] for student in students]


def accuracies_percent(students: Sequence[Record]) -> list[float]:
  """Returns the test accuracy (%) of each student."""
  return [100 * accuracy for accuracy in accuracies(students)]


def paper_value(record: Record, row: str, field: str) -> float | None:
  """Returns a number that the paper reports for a row, or None."""
  return (paper_values(record).get(row) or {}).get(field)


def paper_values(record: Record) -> Record:
  """Returns the paper's figures by row, or {} if they are of something else.

  They are if the run has other data than its recipe, a part of the data, a
  teacher or a student of the user, or students that the command changes.
  """
  config = record['config']
  section, teacher = config['data'], config.get('teacher', {})
  recipes = record['name'].partition('-')[0]
  is_papers = (
    _PAPER_DATASETS.get(recipes) == section['name']
    and not any(section.get(field) for field in _PARTS)
    and not teacher.get('logits')
    and not teacher.get('module')
    and ':' not in str(config.get('student', {}).get('kind', ''))
    and _OTHER_STUDENTS.search(record.get('command', '')) is None
  )
  return config['paper'] if is_papers else {}


def benchmark(record: Record) -> Record:
  """Returns a run's timings; an empty dict for a run without timings."""
  return record.get('benchmark') or {}


def network_name(record: Record, row: str) -> str | None:
  """Returns the name under which a row's network was timed, or None.

  Rows whose networks cost the same share one timing.
  """
  names = {'teacher': 'teacher'} | benchmark(record).get('network_of', {})
  return names.get(row)


def network_timing(record: Record, row: str) -> Record:
  """Returns the timings of a row's network; an empty dict without timings."""
  timed = benchmark(record).get('networks', {})
  return timed.get(network_name(record, row), {})


def batch_sizes(record: Record) -> list[int]:
  """Returns the batch sizes that a run timed, in rising order."""
  timed = benchmark(record).get('networks', {}).values()
  return sorted({int(size) for network in timed for size in network['batches']})


def shown_batch_size(record: Record) -> int:
  """Returns the batch size whose ratios a summary shows.

  All runs of one kind show the same size, whatever else they time.

  Args:
    record: a run with timings.
  """
  sizes = batch_sizes(record)
  return _SHOWN_BATCH_SIZE if _SHOWN_BATCH_SIZE in sizes else sizes[-1]


def row_value(record: Record, row: str, section: str, field: str) -> Any:
  """Returns a field of a row's config: the row's override, or the default."""
  config = record['config']
  overrides = config.get('rows', {}).get(row, {})
  value = overrides.get(section, {}).get(field)
  return config.get(section, {}).get(field) if value is None else value


def learns_from(record: Record, row: str) -> str | None:
  """Returns 'labels', 'teacher' or 'both'; None if a record does not say."""
  if row == 'teacher':
    return None
  labels, teacher = (
    row_value(record, row, 'distill', f'{loss}_weight') for loss in ('ce', 'kd')
  )
  if teacher == 0:
    return 'labels'
  if labels is None or teacher is None:
    return None
  return 'both' if labels else 'teacher'


def has_several_seeds(record: Record) -> bool:
  """Returns whether a row of a run has more than one seed."""
  rows = run_records.by_row(record).values()
  return any(len(students) > 1 for students in rows)


def training_examples(record: Record, row: str, student: Record) -> int | None:
  """Returns the training examples of one epoch; None if unrecorded."""
  batch_size = row_value(record, row, 'train', 'batch_size')
  if batch_size is None or not {'epochs', 'steps'} <= student.keys():
    return None
  return student['steps'] // student['epochs'] * batch_size


def reference_row(record: Record) -> str | None:
  """Returns the row that a run compares its other rows with.

  Returns:
    `config.benchmark.steps_against`; None if the run has no students of the
    row, or the config names no row.
  """
  row = record['config'].get('benchmark', {}).get('steps_against')
  return row if row in run_records.by_row(record) else None


def standard_deviation(sample: Sequence[float]) -> float:
  """Returns the standard deviation of a sample; 0 for a sample of one."""
  return statistics.stdev(sample) if len(sample) > 1 else 0
