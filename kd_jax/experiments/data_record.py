"""Describes a run's data for its record, and checks today's data against it."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kd_jax import data
from kd_jax.runtime import errors, json_records, processes


def describe(dataset: data.Dataset) -> dict[str, Any]:
  """Returns what identifies a run's data, as JSON values.

  An export reads the classes from here, even if the data has gone away.

  Args:
    dataset: the part of the data set that the config uses.
  """
  by_class = {
    split: np.bincount(
      np.asarray(getattr(dataset, split).labels),
      minlength=dataset.num_classes,
    ).tolist()
    for split in data.SPLITS
  }
  return {
    'name': dataset.name,
    'digest': dataset.digest,
    'image_shape': list(dataset.task.image_shape),
    'num_classes': dataset.num_classes,
    'class_names': list(dataset.class_names),
    'examples': {split: sum(counts) for split, counts in by_class.items()},
    'examples_by_class': by_class,
  }


def check_same(
  record: Mapping[str, Any], workdir: pathlib.Path, dataset: data.Dataset
) -> None:
  """Checks that a continued run has the data that it was started with.

  Args:
    record: the run's record.
    workdir: the run's folder.
    dataset: today's data.
  Raises:
    UserError: names both digests.
  """
  started_with = {record.get('data', {}).get('digest')}
  # Older records do not have the digest; their students do.
  started_with |= set(processes.from_first(lambda: _student_digests(workdir)))
  others = started_with - {None, '', dataset.digest}
  if not others:
    return
  reason = f'the files of {dataset.name} have changed'
  if others == {dataset.files_digest}:
    reason = (
      f'an older version took parts of {dataset.name} by position, which left '
      'out whole classes of sorted files'
    )
  raise errors.UserError(
    f'{workdir} holds a run of other data (digest '
    f'{", ".join(digest[:12] for digest in sorted(others))}, today '
    f'{dataset.digest[:12]}): {reason}. Choose another folder with --workdir, '
    'or remove this one'
  )


def _student_digests(workdir: pathlib.Path) -> list[str]:
  """Returns the digest of the data of each student in a run's folder."""
  identities = [
    json_records.read(path, json_records.IDENTITY)
    for path in (workdir / 'students').glob('*/seed-*/identity.json')
  ]
  return sorted(
    {str(i.get('data_digest', '')) for i in identities if i is not None}
  )
