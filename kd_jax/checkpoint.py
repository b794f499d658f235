"""Orbax checkpoints that know their own digest."""

import hashlib
import os
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from kd_jax import mesh

PyTree = Any


def tree_digest(tree: PyTree) -> str:
  """Returns the SHA-256 (hex) of a tree of arrays: paths, types and bytes."""
  sha = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = np.ascontiguousarray(leaf)
    name = jax.tree_util.keystr(path)
    sha.update(f'{name}:{array.dtype}:{array.shape};'.encode())
    sha.update(array.tobytes())
  return sha.hexdigest()


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
  sharding = getattr(leaf, 'sharding', None) or mesh.everywhere()
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


class Checkpoints:
  """The newest checkpoints of one training, by number of epochs done.

  A save is whole or not at all (Orbax renames it into place). A checkpoint
  whose arrays do not have the digest that was saved with them is passed over,
  and the one before it is used.
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

  def save(self, epoch: int, state: PyTree) -> None:
    """Saves the state after `epoch` epochs."""
    self._manager.save(
      epoch,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        digest=ocp.args.JsonSave({'sha256': tree_digest(state)}),
      ),
    )

  def restore(self, like: PyTree) -> tuple[int, PyTree] | None:
    """Returns (epochs done, state) of the newest sound checkpoint, or None.

    Args:
      like: a tree of arrays, or of shapes, of the same structure; its
        shardings are where the arrays go, `mesh.everywhere` if it has none, so
        that what some devices saved others restore.
    """
    abstract = jax.tree.map(_abstract, like)
    for epoch in sorted(self._manager.all_steps(), reverse=True):
      try:
        restored = self._manager.restore(
          epoch,
          args=ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract),
            digest=ocp.args.JsonRestore(),
          ),
        )
      except Exception as error:  # Orbax and tensorstore raise many kinds.
        problem = f'{type(error).__name__}: {str(error)[:160]}'
      else:
        if tree_digest(restored.state) == restored.digest['sha256']:
          return epoch, restored.state
        problem = 'its arrays do not have their digest'
      logging.warning(
        'checkpoint %s/%d is damaged (%s): passed over and removed',
        self._directory,
        epoch,
        problem,
      )
      self._manager.delete(epoch)
    return None

  def close(self) -> None:
    """Releases Orbax's threads."""
    self._manager.close()
