"""The two records of a run folder: run.json's students and metrics.jsonl."""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging

from kd_jax.runtime import (
  errors,
  files,
  json_records,
  local_paths,
  locks,
  processes,
)

# The key of a student's quantized weights in run.json.
QUANTIZED = 'packed'  # The name since the first version.


# Lines of a log that cannot be used and are named one by one.
_MOST_PROBLEMS = 3


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
  """A file of JSON lines, one line per epoch and seed, each with a checksum.

  A resumed run continues the file. A kill can cut the last line short; its
  epoch is trained again. Any other line that cannot be read is damage, which a
  line of the program's log names; `holds_epochs` tells whether an epoch is
  missing.

  In a run of several processes, all processes call the same methods, and the
  first process reads and writes.
  """

  def __init__(
    self,
    path: os.PathLike,
    on_append: Callable[[dict[str, Any]], None] | None = None,
  ):
    """Opens a log; the file is made with the first line.

    Args:
      path: the file.
      on_append: called with each new record, in the first process.
    """
    self.path = pathlib.Path(path)
    self._on_append = on_append
    self._is_written = False

  def read(self) -> list[dict[str, Any]]:
    """Returns the records of the lines that are sound."""
    return processes.from_first(self._read)

  def _read(self) -> list[dict[str, Any]]:
    if not self.path.exists():
      return []
    local_paths.check_regular(self.path, 'the log of a run')
    *lines, last = self.path.read_bytes().split(b'\n')
    records, problems = [], []
    for number, line in enumerate(lines, start=1):
      record, problem = _parse(line)
      if problem is None:
        records.append(record)
      else:
        problems.append(f'{self.path}:{number} is left out: {problem}')
    for problem in problems[:_MOST_PROBLEMS]:
      logging.warning('%s', problem)
    if len(problems) > _MOST_PROBLEMS:
      others = len(problems) - _MOST_PROBLEMS
      logging.warning('%s: %d other lines are left out', self.path, others)
    if last:  # Without a line break: a kill cut it short.
      record, problem = _parse(last)
      if problem is None:
        records.append(record)
    return records

  def holds_epochs(self, row: str, seeds: Sequence[int], epochs: int) -> bool:
    """Returns whether the log holds the first epochs of trainings, each once.

    Args:
      row: the trainings' row in the log.
      seeds: the seed of each training.
      epochs: the number of epochs.
    """
    found: dict[int, list[int]] = {seed: [] for seed in seeds}
    for record in self.read():
      if record['row'] == row and record['seed'] in found:
        found[record['seed']].append(record['epoch'])
    return all(
      [epoch for epoch in logged if epoch < epochs] == list(range(epochs))
      for logged in found.values()
    )

  def append(self, record: dict[str, Any]) -> None:
    """Adds a record as the last line.

    Raises:
      UserError: if the log was there before, and is not any more.
    """
    if not processes.is_first():
      return
    if self._is_written:
      files.check_in_place(self.path)
    with (
      files.locked_by_process(self.path, wait=True, limit_s=locks.BRIEF_S),
      errors.name_file(self.path),
      open(self.path, 'ab+') as file,
    ):
      # A kill may have cut the last line short; the record starts a new line.
      size = file.seek(0, os.SEEK_END)
      if size and os.pread(file.fileno(), 1, size - 1) != b'\n':
        file.write(b'\n')
      file.write(_line(record).encode())
    self._is_written = True
    if self._on_append is not None:
      self._on_append(record)

  def sync(self) -> None:
    """Makes the lines outlast a power failure, as a checkpoint does.

    Raises:
      UserError: if the log was there before, and is not any more.
    """
    if self._is_written:
      files.check_in_place(self.path)
    if processes.is_first() and self.path.exists():
      with open(self.path, 'rb') as file:
        os.fsync(file.fileno())

  def drop_epochs(self, row: str, seeds: Sequence[int], first: int) -> None:
    """Removes records of epochs that will be trained again.

    Args:
      row: the trainings' row in the log.
      seeds: the seed of each training.
      first: the first epoch that will be trained again.
    """
    self.drop(
      lambda record: (
        record['row'] == row
        and record['seed'] in seeds
        and record['epoch'] >= first
      )
    )

  def drop(self, unwanted: Callable[[dict[str, Any]], bool]) -> None:
    """Removes records.

    Args:
      unwanted: a function that returns whether to remove a record.
    """
    with files.locked(self.path, wait=True, limit_s=locks.BRIEF_S):
      kept = [record for record in self.read() if not unwanted(record)]
      files.write_text(self.path, ''.join(map(_line, kept)))
    self._is_written = True


# Before the checksum of a line, which is that of all the text before it. A log
# is read for each training, and has thousands of lines.
_MARK = ', "checksum": "'


def _line(record: dict[str, Any]) -> str:
  text = json.dumps(record)[:-1]
  return f'{text}{_MARK}{_checksum(text)}"}}\n'


def _checksum(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _parse(line: bytes) -> tuple[Any, str | None]:
  """Returns the record of a line, and what is wrong with it, or None."""
  try:
    text, mark, end = line.decode().rpartition(_MARK)
    if not mark:
      json.loads(line)
      return None, json_records.WITHOUT_CHECKSUM
    if end != f'{_checksum(text)}"}}':
      return None, 'it does not match its checksum'
    record = json.loads(f'{text}}}')
  except (ValueError, RecursionError) as error:
    return None, f'it is no JSON ({error})'
  return record, json_records.mismatch(record, json_records.METRICS)
