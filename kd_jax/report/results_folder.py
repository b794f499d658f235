"""The places of published records: below results/, by experiment.

A record's name starts with its data set (or kind) and its experiment. Both are
folders, so that mnist-table1-as_coded lies in results/mnist/table1/. The file's
name is the record's name, and names are unique in all of results/.
"""

import pathlib
from collections.abc import Mapping

from kd_jax.runtime import errors


def folder(results_dir: pathlib.Path, name: str) -> pathlib.Path:
  """Returns the folder of a record, its report and its plots.

  Args:
    results_dir: the folder results/.
    name: the record's name. A record with a name of one word lies in results/.
  """
  parts = name.split('-')[:2]
  return results_dir.joinpath(*parts) if len(parts) > 1 else results_dir


def path(results_dir: pathlib.Path, name: str) -> pathlib.Path:
  """Returns the path of a record.

  Args:
    results_dir: the folder results/.
    name: the record's name.
  """
  return folder(results_dir, name) / f'{name}.json'


def find(results_dir: pathlib.Path) -> Mapping[str, pathlib.Path]:
  """Returns the paths of all records below results/, sorted by file name.

  Args:
    results_dir: the folder results/.
  Raises:
    UserError: if a record does not lie in the folder that its name says.
  """
  found = sorted(results_dir.rglob('*.json'), key=lambda file: file.name)
  for file in found:
    expected = path(results_dir, file.stem)
    if file != expected:
      raise errors.UserError(
        f'{file}: a record of this name lies in {expected}; move the file there'
      )
  return {file.stem: file for file in found}
