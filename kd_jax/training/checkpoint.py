"""Orbax checkpoints that know their own digest."""

import hashlib
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from kd_jax.runtime import errors, files, mesh, processes

PyTree = Any

_MOST_OF_THE_TIME = 0.1  # that goes into saves of epochs
_ROOM = 2**20  # bytes that a checkpoint may take beside its arrays


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
  """Returns type and shape of each array of a tree, by path."""
  return {
    jax.tree_util.keystr(path): f'{leaf.dtype}{list(leaf.shape)}'
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
  sharding = getattr(leaf, 'sharding', None) or mesh.replicated_sharding()
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


class Checkpoints:
  """The newest checkpoints of one training, by a number, as of epochs done.

  A save is whole or not at all (Orbax renames it into place). A checkpoint
  whose arrays do not have the digest that was saved with them is passed over,
  and the one before it is used; it is removed when what it was is saved again.
  """

  def __init__(self, directory: os.PathLike, *, keep: int = 2):
    self._directory = pathlib.Path(directory).absolute()
    # Synchronous: a save of a small network takes 40 ms, and the buffers are
    # donated to the next epoch.
    self._manager = ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep, enable_async_checkpointing=False
      ),
    )
    self._saved_at = time.perf_counter()
    self._save_s = 0.0

  def is_due(self) -> bool:
    """Whether a save now would take no more than a tenth of the time.

    Epochs of a small network on few images are shorter than their saves.
    """
    return processes.from_first(
      lambda: (
        time.perf_counter() - self._saved_at >= self._save_s / _MOST_OF_THE_TIME
      )
    )

  def save(self, epoch: int, state: PyTree) -> None:
    """Saves the state after `epoch` epochs.

    Raises:
      UserError: the disk is full.
    """
    began = time.perf_counter()
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _ROOM
    # Orbax's threads, each with a traceback, would leave half of it there.
    processes.from_first(
      lambda: files.check_disk_space(self._directory, needed, 'a checkpoint')
    )
    for passed_over in self._manager.all_steps():
      if passed_over >= epoch:  # Orbax saves nothing before what it has.
        self._manager.delete(passed_over)
    self._manager.save(
      epoch,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        digest=ocp.args.JsonSave(
          {'sha256': tree_digest(state), 'arrays': _description(state)}
        ),
      ),
    )
    self._saved_at = time.perf_counter()
    self._save_s = self._saved_at - began

  def restore(self, like: PyTree) -> tuple[int, PyTree] | None:
    """Returns (epochs done, state) of the newest sound checkpoint, or None.

    Args:
      like: a tree of arrays, or of shapes, of the same structure; its
        shardings are where the arrays go, `mesh.replicated_sharding` if it has
        none, so that what some devices saved others restore.
    Raises:
      UserError: if the newest is of another network.
    """
    abstract = jax.tree.map(_abstract, like)
    for epoch in sorted(self._manager.all_steps(), reverse=True):
      try:
        saved = self._restore(epoch, digest=ocp.args.JsonRestore()).digest
        # Not there in what was saved before it was written.
        self._check_network(epoch, saved.get('arrays'), _description(abstract))
        state = self._restore(
          epoch, state=ocp.args.StandardRestore(abstract)
        ).state
      except errors.UserError:
        raise
      except Exception as error:  # Orbax and tensorstore raise many kinds.
        problem = f'{type(error).__name__}: {str(error)[:160]}'
      else:
        if tree_digest(state) == saved['sha256']:
          return epoch, state
        problem = 'its arrays do not have their digest'
      logging.warning(
        'checkpoint %s/%d is damaged (%s): passed over',
        self._directory,
        epoch,
        problem,
      )
    return None

  def _restore(self, epoch: int, **items: Any) -> Any:
    return self._manager.restore(epoch, args=ocp.args.Composite(**items))

  def _check_network(
    self, epoch: int, saved: dict[str, str] | None, own: dict[str, str]
  ) -> None:
    """Refuses what is sound, and of another network than is asked for."""
    if saved is None or saved == own:
      return
    path = min(saved.items() ^ own.items())[0]
    raise errors.UserError(
      f'{self._directory}/{epoch} is of another network: it has '
      f'{path} {saved.get(path, "not at all")}, and this one '
      f'{own.get(path, "not at all")}; for this one, name another folder '
      '(--workdir), or remove that one'
    )

  def close(self) -> None:
    """Releases Orbax's threads."""
    self._manager.close()
