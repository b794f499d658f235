"""The time that it took to compute a record."""

from kd_jax.report.fields import Record
from kd_jax.runtime import run_records


def training_minutes(record: Record) -> float:
  """Returns the minutes of a run's trainings, each counted once.

  Trainings that ran side by side count each. The time of a teacher that was
  trained before the run does not count.

  Args:
    record: a run, a teacher trained alone, or results of theory.
  """
  if 'seconds' in record:
    return record['seconds'] / 60
  trained = [
    student
    for row, students in run_records.by_row(record).items()
    for student in students
    if student.get('same_as', row) == row
  ]
  config = record['config'].get('teacher', {})
  is_stored = (
    config.get('pretrained')
    or config.get('shipped')
    or 'source' in record['teacher']  # Pretrained outputs.
  )
  # A record without students is a teacher's. A teacher of the user's, such as
  # a file of logits, was not trained here and has no time.
  if not (trained and is_stored) and 'time' in record['teacher']:
    trained.append(record['teacher'])
  return sum(network['time']['train_s'] for network in trained) / 60
