"""The folder of one training: weights, record, checkpoints, identity.

identity.json   what determines the training
checkpoints/    the last epochs, while it trains
within_epoch/   the mid-epoch checkpoint of a long epoch, while it trains
weights/        the variables, once it is done
packed/         the quantized variables for use, of a quantized network
decisions.npy   the class that the network predicts for each test image
result.json     the record, written last: with it the training is done
"""

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from kd_jax.data import ImageTask
from kd_jax.models import from_config
from kd_jax.runtime import (
  errors,
  files,
  json_records,
  mesh,
  processes,
  run_records,
)
from kd_jax.training import checkpoint
from kd_jax.training.epoch import EpochTotals
from kd_jax.training.epoch_loop import EpochPosition
from kd_jax.training.step import TrainState
from kd_jax.training.training_record import TrainingResult

PyTree = Any

MID_EPOCH = 'within_epoch'
_PREDICTED_CLASSES = 'decisions.npy'
# The field of result.json with the digest of that file.
_PREDICTED_DIGEST = 'predicted_classes'


def make_or_replace(folder: pathlib.Path, identity: dict[str, Any]) -> None:
  """Makes a folder for a training, in place of one of another identity."""
  stored = _read_identity(folder)
  if stored is not None and stored != identity:
    changed = ', '.join(files.differences(identity, stored, 'identity'))
    logging.warning('%s is trained again: %s', folder, changed)
  if stored != identity:
    files.remove(folder)
    files.write_json(folder / 'identity.json', identity)


def is_of(folder: pathlib.Path, identity: dict[str, Any]) -> bool:
  """Returns whether a folder is that of an identity's training."""
  return _read_identity(folder) == identity


def is_done(folder: pathlib.Path, identity: dict[str, Any], seed: int) -> bool:
  """Returns whether a folder holds the finished training of an identity.

  Args:
    folder: the training's folder.
    identity: what determines the training.
    seed: the seed of the training; a student's identity does not hold it.
  """
  if not is_of(folder, identity):
    return False
  result = read_result(folder)
  if result is None or result['seed'] != seed:
    return False
  if not processes.from_first((folder / 'weights').is_dir):
    logging.warning('%s has no weights: it is trained again', folder)
    return False
  return True


def read_result(folder: pathlib.Path) -> dict[str, Any] | None:
  """Returns the record of a finished training, or None."""
  return json_records.read(
    folder / 'result.json', json_records.RESULT, needs_checksum=True
  )


def _read_identity(folder: pathlib.Path) -> dict[str, Any] | None:
  return json_records.read(folder / 'identity.json', json_records.IDENTITY)


def finish(
  trained: TrainingResult, folder: pathlib.Path, identity: dict[str, Any]
) -> dict[str, Any]:
  """Keeps the weights and the record of a training; removes its checkpoints.

  Returns:
    The record as it is kept.
  """
  make_or_replace(folder, identity)
  record = dict(trained.record)
  record['bytes'] = _save(folder / 'weights', trained.variables)
  if trained.quantized is not None:
    size = _save(folder / run_records.QUANTIZED, trained.quantized)
    record[run_records.QUANTIZED] = record[run_records.QUANTIZED] | {
      'bytes': size
    }
  if trained.predicted_classes is not None:
    content = files.npy_content(trained.predicted_classes.astype(np.uint32))
    files.write_bytes(folder / _PREDICTED_CLASSES, content)
    record[_PREDICTED_DIGEST] = hashlib.sha256(content).hexdigest()[:16]
  json_records.write(folder / 'result.json', record)
  files.remove(folder / 'checkpoints')
  files.remove(folder / MID_EPOCH)
  return record


def read_predicted_classes(folder: pathlib.Path) -> np.ndarray | None:
  """Returns the class that a finished network predicts for each test image.

  A line names a file that is there and is not used.

  Args:
    folder: the training's folder.
  Returns:
    int [N]; None if the file is damaged or not that of the training's record.
  """
  result = read_result(folder)
  if result is None or _PREDICTED_DIGEST not in result:
    return None  # A network of the user's arrays, or of an older version.
  path = folder / _PREDICTED_CLASSES
  if files.file_digest(path)[:16] != result[_PREDICTED_DIGEST]:
    logging.warning(
      '%s is damaged or missing, and its mistakes are not shown: remove %s, '
      'and the same command trains this network again',
      *(path, folder),
    )
    return None
  return np.load(path, allow_pickle=False).astype(int)


def _save(folder: pathlib.Path, variables: PyTree) -> int:
  """Saves variables, and returns the bytes that they take on disk."""
  files.remove(folder)
  checkpoints = checkpoint.Checkpoints(folder, keep=1)
  checkpoints.save(0, variables)
  checkpoints.close()
  return processes.from_first(
    lambda: sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())
  )


def restore(folder: pathlib.Path, like: PyTree) -> PyTree | None:
  """Returns the variables that `finish` kept, or None if they are damaged.

  Args:
    folder: the training's folder.
    like: a tree of arrays, or of shapes, of the same structure.
  """
  variables = _load(folder / 'weights', like)
  result = read_result(folder)
  # Not every record of an older version has the digest.
  if variables is None or result is None or 'weights' not in result:
    return variables
  if checkpoint.tree_digest(variables) == result['weights']:
    return variables
  logging.warning(
    '%s/weights is not used: result.json was written for other weights', folder
  )
  return None


def restore_quantized(folder: pathlib.Path, like: PyTree) -> PyTree | None:
  """Returns the quantized variables that `finish` kept, or None if damaged.

  Args:
    folder: the training's folder.
    like: a tree of arrays of the same structure.
  """
  return _load(folder / run_records.QUANTIZED, like)


def restore_trained(
  folder: pathlib.Path, model: ConfigDict, task: ImageTask
) -> PyTree:
  """Returns the variables of a finished training.

  Args:
    folder: the training's folder.
    model: the network's section.
    task: the shapes that the network fits.
  Raises:
    UserError: if the weights are damaged.
  """
  variables = restore(folder, from_config.variables_like(model, task))
  if variables is None:
    raise _damaged(folder / 'weights')
  return variables


def restore_deployed(
  folder: pathlib.Path, model: ConfigDict, task: ImageTask
) -> PyTree:
  """Returns the variables that a network is deployed with.

  They are those of `restore_trained`, or the quantized ones of a quantized
  network: see `from_config.deploy`.

  Raises:
    UserError: if the weights are damaged.
  """
  variables = restore_trained(folder, model, task)
  if not from_config.is_quantized(model):
    return variables
  like = from_config.quantize_weights(model, variables)
  variables = restore_quantized(folder, like)
  if variables is None:
    raise _damaged(folder / run_records.QUANTIZED)
  return variables


def _damaged(folder: pathlib.Path) -> errors.UserError:
  return errors.UserError(
    f'{folder} is damaged: remove {folder.parent}, and the launch.py command '
    'of the run trains this network again'
  )


def _load(folder: pathlib.Path, like: PyTree) -> PyTree | None:
  checkpoints = checkpoint.Checkpoints(folder, keep=1)
  restored = checkpoints.restore(like)
  checkpoints.close()
  return None if restored is None else restored[1]


def save_mid_epoch(folder: pathlib.Path, position: EpochPosition) -> None:
  """Saves a mid-epoch checkpoint; it replaces the one before."""
  saved = checkpoint.Checkpoints(folder / MID_EPOCH, keep=1)
  saved.save(
    # Steps over all epochs; equal for all seeds of one compiled function.
    int(np.max(position.state.step)),
    {
      'epoch': jnp.int32(position.epoch),
      'step': jnp.int32(position.step_in_epoch),
      'state': position.state,
      'sums': _as_stored(position.totals),
      'train_s': jnp.float32(position.train_s),
    },
  )
  saved.close()


def restore_mid_epoch(
  folder: pathlib.Path,
  state: TrainState,
  zero_totals: Callable[[], EpochTotals],
  done_epochs: int,
) -> EpochPosition | None:
  """Returns the mid-epoch checkpoint, if its epoch is not done.

  Args:
    folder: the training's folder.
    state: a state of the same structure.
    zero_totals: returns totals of the same structure.
    done_epochs: how many epochs are done.
  """
  folder = folder / MID_EPOCH
  if not processes.from_first(folder.exists):
    return None
  saved = checkpoint.Checkpoints(folder, keep=1)
  whole_number = jax.ShapeDtypeStruct((), jnp.int32)
  like = {
    'epoch': whole_number,
    'step': whole_number,
    'state': state,
    'sums': _as_stored(jax.eval_shape(zero_totals)),
    'train_s': jax.ShapeDtypeStruct((), jnp.float32),
  }
  found = saved.restore(like)
  saved.close()
  if found is None:
    return None
  _, tree = found
  if tree['epoch'] < done_epochs:
    return None
  state, sums = mesh.put_replicated((tree['state'], tree['sums']))
  nonfinite_step = sums.pop('nonfinite_step')
  totals = EpochTotals(sums, nonfinite_step)
  return EpochPosition(
    int(tree['epoch']), int(tree['step']), state, totals, float(tree['train_s'])
  )


def _as_stored(totals: EpochTotals) -> dict[str, jax.Array]:
  """Returns totals as the arrays of a mid-epoch checkpoint."""
  return totals.sums | {'nonfinite_step': totals.nonfinite_step}
