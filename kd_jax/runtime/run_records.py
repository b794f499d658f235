"""The two records of a run folder: run.json's students and metrics.jsonl."""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

from kd_jax.runtime import files, processes

# The key of a student's quantized weights in run.json.
QUANTIZED = 'packed'  # The name since the first version.


def by_row(record: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
  """Returns the students of a run by row.

  Args:
    record: the content of run.json.
  Returns:
    The students' results of each row, in the run's order.
  """
  rows: dict[str, list[dict[str, Any]]] = {}
  for student in record.get('students', []):
    rows.setdefault(student['row'], []).append(student)
  return rows


class MetricsLog:
  """A file of JSON lines, one line per epoch and seed.

  A resumed run continues the file.

  In a run of several processes, all processes call the same methods, and the
  first process reads and writes.
  """

  def __init__(self, path: os.PathLike):
    self.path = pathlib.Path(path)

  def read(self) -> list[dict[str, Any]]:
    """Returns the records, without a line that a kill cut short."""
    return processes.from_first(self._read)

  def _read(self) -> list[dict[str, Any]]:
    if not self.path.exists():
      return []
    records = []
    for line in self.path.read_text(encoding='utf-8').splitlines():
      try:
        records.append(json.loads(line))
      except json.JSONDecodeError:
        continue
    return records

  def append(self, record: dict[str, Any]) -> None:
    """Adds a record as the last line."""
    if not processes.is_first():
      return
    with (
      files.locked_by_process(self.path, wait=True),
      open(self.path, 'a', encoding='utf-8') as file,
    ):
      file.write(json.dumps(record) + '\n')

  def drop(self, unwanted: Callable[[dict[str, Any]], bool]) -> None:
    """Removes records of epochs that will be trained again.

    Args:
      unwanted: a function that returns whether to remove a record.
    """
    with files.locked(self.path, wait=True):
      kept = [record for record in self.read() if not unwanted(record)]
      files.write_text(self.path, ''.join(json.dumps(r) + '\n' for r in kept))
