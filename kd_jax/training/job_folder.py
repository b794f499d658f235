"""The folder of one training: weights, record, checkpoints, identity.

identity.json   what determines the training
checkpoints/    the last epochs, while it trains
within_epoch/   a checkpoint within a long epoch, while it trains
weights/        the variables, once it is done
packed/         the quantized variables for use, of a quantized network
result.json     the record, written last: with it the training is done
"""

import pathlib
from typing import Any

from absl import logging

from kd_jax.runtime import files, processes
from kd_jax.training import checkpoint
from kd_jax.training.outcome import Trained

PyTree = Any

PARTIAL = 'within_epoch'


def claim(folder: pathlib.Path, identity: dict[str, Any]) -> None:
  """Makes a folder for a training; removes one of another identity."""
  stored = files.read_json(folder / 'identity.json')
  if stored is not None and stored != identity:
    changed = ', '.join(files.differences(identity, stored, 'identity'))
    logging.warning('%s is trained again: %s', folder, changed)
  if stored != identity:
    files.remove(folder)
    files.write_json(folder / 'identity.json', identity)


def is_done(folder: pathlib.Path, identity: dict[str, Any]) -> bool:
  """Whether a folder holds the finished training of an identity."""
  return (
    files.read_json(folder / 'identity.json') == identity
    and files.read_json(folder / 'result.json') is not None
  )


def read_result(folder: pathlib.Path) -> dict[str, Any] | None:
  """Returns the record of a finished training, or None."""
  return files.read_json(folder / 'result.json')


def finish(
  trained: Trained, folder: pathlib.Path, identity: dict[str, Any]
) -> dict[str, Any]:
  """Keeps the weights and the record of a training; removes its checkpoints.

  Returns:
    The record as it is kept.
  """
  claim(folder, identity)
  record = dict(trained.record)
  record['bytes'] = _save(folder / 'weights', trained.variables)
  if trained.quantized is not None:
    size = _save(folder / 'packed', trained.quantized)
    record['packed'] = record['packed'] | {'bytes': size}
  files.write_json(folder / 'result.json', record)
  files.remove(folder / 'checkpoints')
  files.remove(folder / PARTIAL)
  return record


def _save(folder: pathlib.Path, variables: PyTree) -> int:
  """Saves variables, and returns the bytes that they take on disk."""
  files.remove(folder)
  weights = checkpoint.Checkpoints(folder, keep=1)
  weights.save(0, variables)
  weights.close()
  return processes.from_first(
    lambda: sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())
  )


def restore(folder: pathlib.Path, like: PyTree) -> PyTree | None:
  """Returns the variables that `finish` kept, or None if they are damaged.

  Args:
    folder: of the training.
    like: a tree of arrays, or of shapes, of the same structure.
  """
  return _load(folder / 'weights', like)


def restore_quantized(folder: pathlib.Path, like: PyTree) -> PyTree | None:
  """Returns the quantized variables that `finish` kept, or None if damaged.

  Args:
    folder: of the training.
    like: a tree of arrays of the same structure.
  """
  return _load(folder / 'packed', like)


def _load(folder: pathlib.Path, like: PyTree) -> PyTree | None:
  weights = checkpoint.Checkpoints(folder, keep=1)
  restored = weights.restore(like)
  weights.close()
  return None if restored is None else restored[1]
