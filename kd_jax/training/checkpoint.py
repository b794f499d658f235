"""Orbax checkpoints that hold the digest of their arrays."""

import contextlib
import hashlib
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from kd_jax.runtime import (
  errors,
  files,
  json_records,
  local_paths,
  mesh,
  processes,
)

PyTree = Any

# The largest share of the time that may go into saves of epochs.
_SHARE_OF_SAVES = 0.1
# The seconds that the first save is expected to take, as one of a small network
# does.
_FIRST_SAVE_S = 0.1
# Bytes that a checkpoint may take beside its arrays.
_ROOM = 2**20


def tree_digest(tree: PyTree) -> str:
  """Returns the SHA-256 (hex) of a tree of arrays: paths, types and bytes."""
  sha = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = np.ascontiguousarray(leaf)
    name = jax.tree_util.keystr(path)
    sha.update(f'{name}:{array.dtype}:{array.shape};'.encode())
    sha.update(array.tobytes())
  return sha.hexdigest()


def _description(tree: PyTree) -> dict[str, str]:
  """Returns the type and shape of each array of a tree, by path."""
  return {
    jax.tree_util.keystr(path): f'{leaf.dtype}{list(leaf.shape)}'
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
  sharding = getattr(leaf, 'sharding', None) or mesh.replicated_sharding()
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


class _OtherNetworkError(Exception):
  """A checkpoint describes other arrays than those that are asked for.

  Attributes:
    is_certain: whether a checksum shows that the description is sound.
  """

  def __init__(
    self,
    path: str,
    saved: dict[str, str],
    asked: dict[str, str],
    *,
    is_certain: bool,
  ):
    """Describes the first array that differs.

    Args:
      path: the checkpoint.
      saved: the type and shape of each of its arrays, by path.
      asked: those of the network's arrays.
      is_certain: see the attribute.
    """
    name = min(saved.items() ^ asked.items())[0]
    super().__init__(
      f'{path} is of another network, or of another version of kd_jax: it has '
      f'{name} {saved.get(name, "not at all")}, and this network has '
      f'{asked.get(name, "not at all")}; name another folder (--workdir), or '
      'remove that one'
    )
    self.is_certain = is_certain


def _remove_damaged_metadata(directory: pathlib.Path) -> None:
  """Removes files in which Orbax keeps the times of its saves, if damaged.

  Orbax reads those of all checkpoints when it opens their folder, and a single
  wrong value would end that. Without the file it takes the time of the folder.
  A digest shows whether the arrays are sound.

  Args:
    directory: the folder of the checkpoints, which may not exist.
  """
  for step in ocp.path.step.standard_name_format().find_all(directory):
    path = pathlib.Path(step.path) / '_CHECKPOINT_METADATA'
    kind = local_paths.irregular_kind(path)
    try:
      if kind is not None:
        raise ValueError(f'it is {kind}; expected a file')
      _ = step.commit_timestamp  # Reads and checks the file.
    except Exception as error:  # Orbax raises many kinds.
      logging.warning(
        '%s is damaged (%s: %s): removed; the checkpoint does without it',
        path,
        type(error).__name__,
        str(error)[:160],
      )
      files.remove(path)


class Checkpoints:
  """The newest checkpoints of one training, each with a number.

  The number is usually that of epochs done. A save is complete or does not
  exist: Orbax renames it into place. A checkpoint whose arrays do not have the
  digest that was saved with them is damaged: `restore` uses the one before it,
  and the next save of the same number replaces the damaged one.
  """

  def __init__(self, directory: os.PathLike, *, keep: int = 2):
    """Opens the folder of a training's checkpoints.

    Args:
      directory: the folder; made on the first save.
      keep: how many checkpoints are kept.
    """
    self._directory = pathlib.Path(directory).absolute()
    processes.from_first(lambda: _remove_damaged_metadata(self._directory))
    # Saves are synchronous: a small network takes 40 ms, and the next epoch
    # takes the buffers.
    self._manager = ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep, enable_async_checkpointing=False
      ),
    )
    self._saved_at = time.perf_counter()
    self._save_s = _FIRST_SAVE_S

  def is_due(self) -> bool:
    """Returns whether a save now keeps all saves below a tenth of the time.

    Epochs of a small network on few images are shorter than their saves.
    """
    return processes.from_first(
      lambda: (
        time.perf_counter() - self._saved_at >= self._save_s / _SHARE_OF_SAVES
      )
    )

  def save(self, number: int, state: PyTree) -> None:
    """Saves a state.

    Args:
      number: the number of the checkpoint, such as the number of epochs done.
      state: a tree of arrays.
    Raises:
      UserError: if the disk is full, or a write fails.
    """
    began = time.perf_counter()
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _ROOM
    # On a full disk Orbax's threads would leave half a checkpoint, and print a
    # traceback each.
    processes.from_first(
      lambda: files.check_disk_space(self._directory, needed, 'a checkpoint')
    )
    description = json_records.with_checksum(
      {'sha256': tree_digest(state), 'arrays': _description(state)}
    )
    with self._one_line_errors(number):
      for damaged in self._manager.all_steps():
        if damaged >= number:  # Orbax refuses numbers below its newest.
          self._manager.delete(damaged)
      self._manager.save(
        number,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          digest=ocp.args.JsonSave(description),
        ),
      )
    self._saved_at = time.perf_counter()
    self._save_s = self._saved_at - began

  @contextlib.contextmanager
  def _one_line_errors(self, number: int) -> Iterator[None]:
    """Turns an error of a save into one line.

    The arrays are on the host and have their digest by then, so that the disk
    is what is left to fail. Orbax and tensorstore raise many types for it, and
    some have the words of exhausted memory.

    Raises:
      UserError: instead of any error.
    """
    try:
      yield
    except Exception as error:
      reason = ' '.join(str(error).split())[:300] or 'no reason given'
      raise errors.UserError(
        f'{self._directory}/{number} cannot be saved ({type(error).__name__}: '
        f'{reason}): free some space, or repair the disk, and start the same '
        'command again, which resumes the run'
      ) from error

  def restore(self, like: PyTree) -> tuple[int, PyTree] | None:
    """Returns (number, state) of the newest sound checkpoint, or None.

    Args:
      like: a tree of arrays, or of shapes, of the same structure. The restored
        arrays get its shardings, or `mesh.replicated_sharding` if it has none:
        one set of devices may restore what another set saved.
    Raises:
      UserError: if no checkpoint is sound, and one is of another network.
    """
    abstract = jax.tree.map(_abstract, like)
    other_network = None
    for number in sorted(self._manager.all_steps(), reverse=True):
      try:
        return number, self._restore_sound(number, abstract)
      except _OtherNetworkError as error:
        # Without a checksum, the description may be what is damaged.
        if error.is_certain:
          raise errors.UserError(str(error)) from None
        other_network = other_network or error
        problem = str(error)
      except Exception as error:  # Orbax and tensorstore raise many kinds.
        problem = f'{type(error).__name__}: {str(error)[:160]}'
      logging.warning(
        'checkpoint %s/%d is damaged (%s): passed over',
        self._directory,
        number,
        problem,
      )
    if other_network is not None:
      raise errors.UserError(str(other_network))
    return None

  def _restore_sound(self, number: int, abstract: PyTree) -> PyTree:
    """Returns the state of a checkpoint.

    Raises:
      _OtherNetworkError: if the checkpoint is of another network.
      Exception: of any type, if the checkpoint is damaged.
    """
    self._check_files(number)
    content = self._read(number, digest=ocp.args.JsonRestore()).digest
    is_checked = json_records.CHECKSUM in content
    saved, problem = json_records.check(content, json_records.CHECKPOINT)
    if problem is not None:
      raise ValueError(f'its description: {problem}')
    # The first checkpoints did not hold 'arrays'.
    arrays = saved.get('arrays')
    asked = _description(abstract)
    if arrays is not None and arrays != asked:
      raise _OtherNetworkError(
        f'{self._directory}/{number}', arrays, asked, is_certain=is_checked
      )
    state = self._read(number, state=ocp.args.StandardRestore(abstract)).state
    if tree_digest(state) != saved['sha256']:
      raise ValueError('its arrays do not have their digest')
    return state

  def _check_files(self, number: int) -> None:
    """Raises ValueError if a checkpoint holds a pipe, which has no end.

    The folder may be a copy of somebody else's run.
    """
    for path in (self._directory / str(number)).rglob('*'):
      kind = local_paths.irregular_kind(path)
      if kind not in (None, 'a folder'):
        raise ValueError(f'{path} is {kind}; expected a file')

  def _read(self, number: int, **items: Any) -> Any:
    return self._manager.restore(number, args=ocp.args.Composite(**items))

  def close(self) -> None:
    """Releases Orbax's threads."""
    self._manager.close()
