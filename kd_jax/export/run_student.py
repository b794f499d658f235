"""The student of a run that is exported, found and checked.

A run folder may come from somebody else. Its records are checked before they
become paths, and its config imports no code unless the user allows that.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import models
from kd_jax.config_checks import model_checks
from kd_jax.config_checks.checking import check_one_of
from kd_jax.data import preprocessing
from kd_jax.runtime import errors, files, json_records
from kd_jax.training import training_folder

# The shape of what an export needs of a config apart from the network.
_NEEDED = {
  'data': {'scaling': str},
  'eval': {'batch_size': int},
  'student': {'kind': str},
}


class RunStudent(NamedTuple):
  """A student of a run.

  Attributes:
    record: the content of run.json.
    config: the closed config of the student's row.
    entry: the student's entry in run.json.
    folder: the folder of the student's weights.
  """

  record: dict[str, Any]
  config: ConfigDict
  entry: dict[str, Any]
  folder: pathlib.Path


def find(
  run_dir: pathlib.Path,
  row: str | None,
  seed: int | None,
  *,
  allow_code: bool,
) -> RunStudent:
  """Returns the first student of a run that matches.

  Args:
    run_dir: the run's folder.
    row: the student's row; None for the only row of the run.
    seed: the student's seed; None for any seed.
    allow_code: whether a module that run.json names may be imported.
  Raises:
    UserError: if no student matches, the run's records contradict each other,
      or the student needs code that is not allowed.
  """
  path = run_dir / 'run.json'
  record, problem = json_records.find(path, json_records.RUN)
  if problem is not None:
    raise errors.UserError(
      f'{path} is not used: {problem}. The launch.py command of the run writes '
      'it anew'
    )
  if record is None or not record.get('students'):
    raise errors.UserError(
      f'{run_dir} holds no run with students: expected a folder that launch.py '
      'wrote, such as runs/NAME'
    )
  entry = _find_entry(run_dir, record, row, seed)
  # Rows with the same training share the folder of the first of them.
  trained_row = entry.get('same_as', entry['row'])
  for name in (entry['row'], trained_row):
    files.check_name(name, f'{path}: the row')
  if entry['row'] not in record['config'].get('rows', {}):
    raise errors.UserError(
      f'{path} has no row {entry["row"]!r} in its config, though it has a '
      'student of that row'
    )
  with _explained(path):
    config = config_lib.close_row(
      config_lib.from_json(record['config']), entry['row']
    )
    _check_sections(config)
    kind = str(config.student.kind)
  if not models.user.is_function_name(kind):
    with _explained(path):
      model_checks.check_model('student', config.student)
  elif not allow_code:
    raise errors.UserError(
      f'{path} names {kind}, whose code this command would import and run. If '
      'you trust the run and that code, add --allow-code'
    )
  folder = run_dir / 'students' / trained_row / f'seed-{entry["seed"]}'
  _check_weights(path, folder, entry)
  return RunStudent(record, config, entry, folder)


@contextlib.contextmanager
def _explained(path: pathlib.Path) -> Iterator[None]:
  """Names the file if a value in its config is of another type or range."""
  try:
    yield
  except errors.BAD_VALUES as error:
    raise errors.UserError(
      f'{path}: its config is none that this version of kd_jax reads '
      f'({type(error).__name__}: {error})'
    ) from error
  except errors.UserError as error:
    raise errors.UserError(f'{path}: {error}') from error


def _check_sections(config: ConfigDict) -> None:
  """Checks what an export needs of a config apart from the network."""
  problem = json_records.mismatch(config.to_dict(), _NEEDED, 'config')
  if problem is not None:
    raise errors.UserError(problem)
  check_one_of('data.scaling', config.data.scaling, preprocessing.SCALINGS)


def _find_entry(
  run_dir: pathlib.Path,
  record: dict[str, Any],
  row: str | None,
  seed: int | None,
) -> dict[str, Any]:
  """Returns the first entry of run.json that matches."""
  rows = list(dict.fromkeys(student['row'] for student in record['students']))
  if row is None and len(rows) > 1:
    raise errors.UserError(
      f'{run_dir} holds students of {len(rows)} rows: choose one by --row=ROW; '
      f'the rows are: {", ".join(map(str, rows))}'
    )
  for student in record['students']:
    if row in (None, student['row']) and seed in (None, student['seed']):
      return student
  students = ', '.join(
    f'{student["row"]} {student["seed"]}' for student in record['students']
  )
  raise errors.UserError(
    f'{run_dir} holds no student --row={row} --seed={seed}: expected one of '
    f'(row seed) {students}'
  )


def _check_weights(
  path: pathlib.Path, folder: pathlib.Path, entry: dict[str, Any]
) -> None:
  """Checks that run.json describes the weights in the student's folder."""
  result = training_folder.read_result(folder)
  if result is None:
    return  # Its weights are refused where they are read.
  trained, described = result.get('weights'), entry.get('weights')
  if trained != described:
    raise errors.UserError(
      f'{folder} holds other weights ({str(trained)[:12]}) than {path} '
      f'describes ({str(described)[:12]}): the launch.py command of the run '
      'writes run.json anew'
    )
