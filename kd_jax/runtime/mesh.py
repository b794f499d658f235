"""Data parallelism: a batch's examples are divided among the devices.

Inside the context `use`, jitted functions that call `shard` compute each
device's part of a batch, and XLA adds up the gradients, the batch statistics
and the totals over the devices. Every device holds all parameters. On one
device, or outside the context, the functions of this module change nothing.
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
  """Returns a context in which jitted functions use `size` devices.

  Args:
    size: the number of devices; 0 means one device in a run of one process,
      and all devices in a run of several processes.
  Raises:
    UserError: if fewer devices exist, or if a run of several processes would
      leave some of its devices unused.
  """
  devices = jax.devices()
  has_several_processes = jax.process_count() > 1
  size = size or (len(devices) if has_several_processes else 1)
  if has_several_processes and size != len(devices):
    raise errors.UserError(
      f'config.mesh.data={size}: a run of {jax.process_count()} processes uses '
      f'all of its {len(devices)} devices; expected {len(devices)} or 0'
    )
  if size > len(devices):
    raise errors.UserError(
      f'config.mesh.data={size}: expected at most {len(devices)}, the number '
      f'of devices here ({devices[0].device_kind})'
    )
  if size == 1:
    return contextlib.nullcontext()
  # `process_share` needs the devices in the order of their processes.
  # `jax.make_mesh` may arrange them in another order, and it raises an error
  # for GPUs of several hosts.
  devices = sorted(
    devices, key=lambda device: (device.process_index, device.id)
  )
  return jax.set_mesh(
    Mesh(np.asarray(devices[:size]), (AXIS,), axis_types=(AxisType.Auto,))
  )


def is_used() -> bool:
  """Returns whether jitted functions use several devices."""
  return _size() > 1


def _size() -> int:
  """Returns the number of devices that jitted functions use."""
  return dict(jax.sharding.get_abstract_mesh().shape).get(AXIS, 1)


def shard(batch: PyTree) -> PyTree:
  """Divides arrays among the devices; for use inside a jitted function.

  Args:
    batch: arrays [B, ...]; B need not be a multiple of the number of devices.
  Returns:
    The same arrays, divided along B.
  """
  return _constrain(batch, P(AXIS))


def replicate(tree: PyTree) -> PyTree:
  """Puts whole arrays on every device; for use inside a jitted function."""
  return _constrain(tree, P())


def _constrain(tree: PyTree, spec: P) -> PyTree:
  if _size() == 1:
    return tree
  return jax.tree.map(
    lambda leaf: jax.lax.with_sharding_constraint(leaf, spec), tree
  )


def put_sharded(arrays: PyTree) -> PyTree:
  """Divides arrays among the devices' memories.

  Args:
    arrays: arrays [N, ...] on the host.
  Returns:
    Arrays [M, ...], with M = N rounded up to a multiple of the number of
    devices. Zeros fill the entries from N to M.
  """
  size = _size()
  if size == 1:
    return arrays

  sharding = NamedSharding(jax.sharding.get_mesh(), P(AXIS))

  def put(array):
    array = np.asarray(array)
    pad = [(0, -len(array) % size)] + [(0, 0)] * (array.ndim - 1)
    array = np.pad(array, pad) if pad[0][1] else array
    # Each process copies only the entries of its devices.
    return jax.make_array_from_callback(
      array.shape, sharding, lambda index: array[index]
    )

  return jax.tree.map(put, arrays)


def put_examples(array, start: int, size: int) -> jax.Array | np.ndarray:
  """Divides consecutive examples among the devices.

  If the number of devices does not divide `size`, the last example is repeated
  until it does. A process reads only the examples of its devices.

  Args:
    array: an array [N, ...] on the host, or an object that reads examples from
      disk when it is indexed.
    start: the index of the first example.
    size: the number of examples.
  Returns:
    An array [size, ...] on one device, or [M, ...] on several devices, with
    M = `size` rounded up to a multiple of the number of devices.
  """
  devices = _size()
  if devices == 1:
    return array[start : start + size]

  def read(index):
    entries = np.arange(size + -size % devices)[index[0]]
    return array[start + np.minimum(entries, size - 1)]

  return jax.make_array_from_callback(
    (size + -size % devices, *array.shape[1:]),
    NamedSharding(jax.sharding.get_mesh(), P(AXIS)),
    read,
  )


def process_share(indices: np.ndarray, start: int, size: int) -> np.ndarray:
  """Returns this process's part of a batch of indices.

  Args:
    indices: int [M]; the example indices of all batches, in order.
    start: the number of examples that this process took from earlier batches.
    size: the number of examples that each process takes from this batch.
  Returns:
    int [size], or fewer at the end of `indices`.
  """
  first = start * jax.process_count() + size * jax.process_index()
  return indices[first : first + size]


def put_batch(batch: PyTree) -> PyTree:
  """Puts a batch on the devices.

  Args:
    batch: arrays [B, ...] on the host. In a run of several processes, each
      process passes its part of the batch.
  Returns:
    The whole batch, divided among the devices if their number divides the
    number of examples, as it does in a run of several processes; otherwise
    every device holds the whole batch.
  """
  size = _size()
  if size == 1:
    return batch
  sharding = NamedSharding(jax.sharding.get_mesh(), P(AXIS))
  examples = len(jax.tree.leaves(batch)[0]) * jax.process_count()
  if examples % size == 0:
    return jax.tree.map(
      lambda array: jax.make_array_from_process_local_data(sharding, array),
      batch,
    )
  return put_replicated(batch)


def put_replicated(tree: PyTree) -> PyTree:
  """Puts whole arrays on every device."""
  return tree if _size() == 1 else jax.device_put(tree, replicated_sharding())


def replicated_sharding() -> Sharding:
  """Returns the sharding of arrays that every device holds whole."""
  if _size() == 1:
    return SingleDeviceSharding(jax.devices()[0])
  return NamedSharding(jax.sharding.get_mesh(), P())
