"""Systems of a benchmark that have failed, in the lines of its tables.

A record holds the reason of each failure under 'failures', by system. A system
that has failed before its first measurement has a line without numbers. One
that has failed later has its numbers, and fewer rounds than the others.
"""

from collections.abc import Iterable

from kd_jax.report import markdown
from kd_jax.report.fields import Record


def about(record: Record, system: str) -> str:
  """Returns a system's description, with the reason if it has failed."""
  description = record['about'].get(system, system)
  reason = record.get('failures', {}).get(system)  # Older records have none.
  return f'{description} ({reason})' if reason else description


def lines(
  record: Record,
  headers: Iterable[str],
  measurements: Iterable[Iterable[str]],
  *,
  column: str = 'system',
) -> list[dict[str, str]]:
  """Returns a line for each system that has no measurement.

  Args:
    record: the record.
    headers: the headers of the table.
    measurements: the systems of each case that has measurements.
    column: the header of the column that describes the system.
  """
  measured = {system for systems in measurements for system in systems}
  return [
    dict.fromkeys(headers, markdown.NONE) | {column: about(record, system)}
    for system in record.get('failures', {})
    if system not in measured
  ]
