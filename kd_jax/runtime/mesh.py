"""Devices along one axis, over which the examples of a batch are shared out.

Within `use`, programs that call `shard` compute each device's share of a batch,
and XLA adds up what belongs together: gradients, batch norm's statistics,
totals. Parameters are on every device. Without it, nothing here does anything.
"""

import contextlib
from typing import Any

import jax
import numpy as np
from jax.sharding import (
  AxisType,
  Mesh,
  NamedSharding,
  Sharding,
  SingleDeviceSharding,
)
from jax.sharding import PartitionSpec as P

from kd_jax.runtime import errors

PyTree = Any
AXIS = 'data'


def use(size: int) -> contextlib.AbstractContextManager:
  """Returns a context in which programs use so many devices.

  Args:
    size: 0 for one, or of several processes for all that they have.
  Raises:
    UserError: if there are not so many, or if several processes leave some out.
  """
  devices = jax.devices()
  several = jax.process_count() > 1
  size = size or (len(devices) if several else 1)
  if several and size != len(devices):
    raise errors.UserError(
      f'config.mesh.data={size}: {jax.process_count()} processes share all of '
      f'their {len(devices)} devices; expected that, or 0'
    )
  if size > len(devices):
    raise errors.UserError(
      f'config.mesh.data={size}: there are {len(devices)} devices '
      f'({devices[0].device_kind})'
    )
  if size == 1:
    return contextlib.nullcontext()
  # By process, as `own_share` has it: how `jax.make_mesh` arranges them may not
  # be, and over several hosts' GPUs it refuses.
  devices = sorted(devices, key=lambda own: (own.process_index, own.id))
  return jax.set_mesh(
    Mesh(np.asarray(devices[:size]), (AXIS,), axis_types=(AxisType.Auto,))
  )


def is_used() -> bool:
  """Whether programs use several devices."""
  return _size() > 1


def _size() -> int:
  return dict(jax.sharding.get_abstract_mesh().shape).get(AXIS, 1)


def shard(batch: PyTree) -> PyTree:
  """In a program: shares arrays [B, ...] out along B, which may be uneven."""
  return _constrain(batch, P(AXIS))


def replicate(tree: PyTree) -> PyTree:
  """In a program: has arrays whole on every device."""
  return _constrain(tree, P())


def _constrain(tree: PyTree, spec: P) -> PyTree:
  if _size() == 1:
    return tree
  return jax.tree.map(
    lambda leaf: jax.lax.with_sharding_constraint(leaf, spec), tree
  )


def put_sharded(arrays: PyTree) -> PyTree:
  """Shares arrays [N, ...] out over the devices' memories.

  They come back with zeros behind them if N is no multiple of the devices.
  """
  size = _size()
  if size == 1:
    return arrays

  sharding = NamedSharding(jax.sharding.get_mesh(), P(AXIS))

  def put(array):
    array = np.asarray(array)
    pad = [(0, -len(array) % size)] + [(0, 0)] * (array.ndim - 1)
    array = np.pad(array, pad) if pad[0][1] else array
    # A process puts what its own devices keep, and no more.
    return jax.make_array_from_callback(
      array.shape, sharding, lambda index: array[index]
    )

  return jax.tree.map(put, arrays)


def put_examples(array, start: int, size: int) -> jax.Array | np.ndarray:
  """Puts examples of an array on the host, or of what reads them from disk.

  Shared out over several devices, the last example comes again until they
  divide how many there are; a process reads what its own devices are given.

  Args:
    array: [N, ...].
    start: the first of them.
    size: so many from there on.
  """
  devices = _size()
  if devices == 1:
    return array[start : start + size]

  def own(index):
    rows = np.arange(size + -size % devices)[index[0]]
    return array[start + np.minimum(rows, size - 1)]

  return jax.make_array_from_callback(
    (size + -size % devices, *array.shape[1:]),
    NamedSharding(jax.sharding.get_mesh(), P(AXIS)),
    own,
  )


def own_share(indices: np.ndarray, start: int, size: int) -> np.ndarray:
  """Returns this process's part of a batch of indices.

  Args:
    indices: [M], of all batches.
    start: of the batch's shares before this one, in examples of a share.
    size: of a share.
  """
  processes, own = jax.process_count(), jax.process_index()
  first = start * processes + own * size
  return indices[first : first + size]


def put_batch(batch: PyTree) -> PyTree:
  """Puts a batch's arrays [B, ...], of several processes their own shares.

  They are shared out over the devices if these divide B; of several processes
  they do.
  """
  size = _size()
  if size == 1:
    return batch
  sharding = NamedSharding(jax.sharding.get_mesh(), P(AXIS))
  rows = len(jax.tree.leaves(batch)[0]) * jax.process_count()
  if rows % size == 0:
    return jax.tree.map(
      lambda array: jax.make_array_from_process_local_data(sharding, array),
      batch,
    )
  return put_replicated(batch)


def put_replicated(tree: PyTree) -> PyTree:
  """Puts arrays whole onto every device."""
  return tree if _size() == 1 else jax.device_put(tree, everywhere())


def everywhere() -> Sharding:
  """Returns where arrays are that are whole on every device."""
  if _size() == 1:
    return SingleDeviceSharding(jax.devices()[0])
  return NamedSharding(jax.sharding.get_mesh(), P())
