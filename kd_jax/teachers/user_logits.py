"""Logits from a file that the user has made, and the mean of several."""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kd_jax.data.dataset import SPLITS, Dataset, Origin
from kd_jax.data.user_data import npz_files
from kd_jax.runtime import errors, local_paths
from kd_jax.teachers import logit_checks
from kd_jax.teachers.logit_checks import Logits

# The array of a file, and the name of the logits, of images without labels.
UNLABELED_SPLIT = 'unlabeled'


def file_names(logits: str) -> list[str]:
  """Returns the files that `teacher.logits` names: one, or several by commas.

  The name of one file, or of its folder, may have a comma, too.
  """
  if local_paths.expand(logits, 'config.teacher.logits').exists():
    return [logits]
  return logits.split(',')


def load_outputs(path: str | os.PathLike, dataset: Dataset) -> Logits:
  """Returns logits that any other program has made.

  A file holds the logits of each example of a split, in the order of the data's
  files; the function picks those of the examples that are in use. For built-in
  data, the file may also hold the logits of those examples alone.

  Args:
    path: a .npy file of the training split's logits, or a .npz file with
      arrays 'train'; 'test', for metrics that compare with the teacher; and
      'unlabeled', for the images of `train.unlabeled`.
    dataset: the part of a data set that the config uses.
  Returns:
    float32 logits [N, K] by split: 'train', and the others if the file has
    them.
  Raises:
    UserError: if the file cannot be read or does not fit the data.
  """
  path = local_paths.expand(path, 'config.teacher.logits')
  arrays = _load(path)
  if 'train' not in arrays or not arrays.keys() <= {*SPLITS, UNLABELED_SPLIT}:
    raise errors.UserError(
      f'config.teacher.logits: {path} holds {sorted(arrays)}; expected '
      f"'train' and perhaps 'test' and '{UNLABELED_SPLIT}'"
    )
  logits = {}
  if UNLABELED_SPLIT in arrays:
    given = arrays[UNLABELED_SPLIT]
    name = f'config.teacher.logits: the {UNLABELED_SPLIT} logits of {path}'
    if given.ndim != 2 or given.shape[1] != dataset.num_classes:
      raise errors.UserError(
        f'{name} have shape {given.shape}; expected the logits of each image '
        f'of config.train.unlabeled, for {dataset.num_classes} classes'
      )
    logits[UNLABELED_SPLIT] = logit_checks.as_logits(given, name)
  for split in SPLITS:
    array = _choose_examples(arrays, split, dataset, path)
    if array is not None:
      name = f'config.teacher.logits: {split} logits of {path}'
      logits[split] = logit_checks.as_logits(array, name)
  return logits


def _choose_examples(
  arrays: Mapping[str, np.ndarray],
  split: str,
  dataset: Dataset,
  path: pathlib.Path,
) -> np.ndarray | None:
  """Returns the logits of a split's examples, or None if there are none.

  Args:
    arrays: the arrays of the file by split.
    split: the name of the split.
    dataset: the part of a data set that the config uses.
    path: the file, for error messages.
  Raises:
    UserError: if an array does not have the logits of each example.
  """
  part = getattr(dataset, split)
  count = len(part.labels)
  origin = part.origin or Origin(split, np.arange(count), count)
  # Held-out images come from the training split.
  whole = arrays.get(origin.split)
  if whole is not None and whole.shape == (origin.size, dataset.num_classes):
    return whole[origin.positions]
  needed = split
  size = count
  order = ''
  if dataset.is_users:
    needed, size = origin.split, origin.size
    order = ', for the examples in the order of the files'
  given = arrays.get(needed)
  if given is None:
    return None
  if given.shape != (size, dataset.num_classes):
    raise errors.UserError(
      f'config.teacher.logits: {needed} logits of {path} have shape '
      f'{given.shape}; the {needed} split needs '
      f'{(size, dataset.num_classes)}{order}'
    )
  return given


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the arrays of a .npy or .npz file by split."""
  with npz_files.open_arrays(
    path,
    'config.teacher.logits',
    'FILE.npy or FILE.npz with numbers',
    unnamed='train',
  ) as content:
    return {name: npz_files.array_of(content, name) for name in content}


def _mean_logits(logits: np.ndarray) -> np.ndarray:
  return np.mean(logits, axis=0)


def _log_mean_probabilities(logits: np.ndarray) -> np.ndarray:
  log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
  return np.logaddexp.reduce(log_p, axis=0) - np.log(len(logits))


# From the logits [T, N, K] of T teachers to logits [N, K].
AVERAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'logits': _mean_logits,
  'probabilities': _log_mean_probabilities,
}


def average(teachers: Sequence[Logits], how: str) -> Logits:
  """Returns the logits of an ensemble, for the splits that all teachers have.

  Args:
    teachers: the logits [N, K] by split of each teacher.
    how: a name in AVERAGES.
  """
  splits = set.intersection(*(set(teacher) for teacher in teachers))
  return {
    split: AVERAGES[how](
      np.stack([np.asarray(teacher[split]) for teacher in teachers])
    ).astype(np.float32)
    for split in sorted(splits)
  }
