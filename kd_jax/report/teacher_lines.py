"""The line below a table that says how accurate the students' teacher is."""

from collections.abc import Mapping

from kd_jax.report import fields
from kd_jax.report.fields import Record


def lines(record: Record, results: Mapping[str, Record]) -> list[str]:
  """Returns the teacher's accuracy as trained and as fed, for a run's tables.

  A teacher is fed other inputs than in its training if the run scales inputs in
  another way, as the authors' code does.

  Args:
    record: a run or any other record.
    results: all records, with the manifests of the stored teachers.
  Returns:
    One line; none if the record has no students or no teacher with test
    metrics.
  """
  if not record.get('students') or 'test' not in record['teacher']:
    return []
  (fed,) = fields.accuracies_percent([record['teacher']])
  fed_scaling = record['config'].get('teacher', {}).get('outputs_scaling')
  stored = _stored(record, results)
  if stored is None:
    return [f"The teacher's test accuracy is {fed:.2f} %."]
  name, manifest = stored
  scaling = manifest['teacher']['scaling']
  (trained,) = fields.accuracies_percent([manifest['accuracy'][scaling]])
  if scaling == fed_scaling:
    return [f'The teacher is `{name}`; its test accuracy is {trained:.2f} %.']
  return [
    f'The teacher is `{name}`. Its test accuracy is {trained:.2f} % in the '
    f'input scaling of its training (`{scaling}`), and {fed:.2f} % in the '
    f'scaling that it was fed here (`{fed_scaling}`).'
  ]


def _stored(
  record: Record, results: Mapping[str, Record]
) -> tuple[str, Record] | None:
  """Returns the stored teacher whose weights taught a run, with its name."""
  weights = record['teacher'].get('weights')
  for name, manifest in results.items():
    training = manifest.get('training')
    if isinstance(training, dict) and training.get('weights') == weights:
      return name, manifest
  return None
