"""A student's forward pass as one function, and its StableHLO."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
from jax import lax

from kd_jax.models.apply import make_apply

PLATFORMS = ('cpu', 'cuda', 'tpu')

# Maps images uint8 [B, H, W, C] to probabilities float32 [B, K].
ForwardFn = Callable[[jax.Array], jax.Array]


def make_forward(
  network: nn.Module,
  variables: dict[str, Any],
  preprocess: Callable[[jax.Array], jax.Array],
) -> ForwardFn:
  """Returns a function from stored images to class probabilities.

  Args:
    network: a Flax module. If it has a `cpu_batch`, as networks from
      `from_config.deploy` may have, a CPU computes larger batches in parts of
      that size.
    variables: the network's parameters and batch statistics.
    preprocess: maps images uint8 [B, H, W, C] to the network's input.
  Returns:
    A function from images uint8 [B, H, W, C] to probabilities float32 [B, K].
  """
  apply = make_apply(network)

  def forward(images):
    logits, *_ = apply(variables, preprocess(images), train=False, key=None)
    return jax.nn.softmax(logits)

  part_size = getattr(network, 'cpu_batch', None)
  return forward if part_size is None else _split_on_cpu(forward, part_size)


def _split_on_cpu(forward: ForwardFn, part_size: int) -> ForwardFn:
  """Returns a `forward` that splits large batches into parts on a CPU."""
  forward_in_parts = _split(forward, part_size)

  def forward_by_platform(images):
    batch_size = images.shape[0]
    # An exported network has a symbolic batch size, which is not an int.
    if isinstance(batch_size, int) and batch_size <= part_size:
      return forward(images)
    return lax.platform_dependent(images, cpu=forward_in_parts, default=forward)

  return forward_by_platform


def _split(forward: ForwardFn, part_size: int) -> ForwardFn:
  """Returns a `forward` that loops over parts of `part_size` images.

  The batch size may be symbolic.
  """

  def forward_in_parts(images):
    batch_size = images.shape[0]
    num_parts = batch_size // part_size
    rest = forward(images[num_parts * part_size :])
    # The padding makes room for one part: a dynamic slice may not be larger
    # than its array, even in a loop that runs zero times.
    padding = [(0, part_size), *[(0, 0)] * (images.ndim - 1)]
    padded = jnp.pad(images, padding)
    outputs = jnp.zeros((batch_size + part_size, *rest.shape[1:]), rest.dtype)

    def compute_part(i, outputs):
      start = i * part_size
      part = forward(lax.dynamic_slice_in_dim(padded, start, part_size))
      return lax.dynamic_update_slice_in_dim(outputs, part, start, axis=0)

    outputs = lax.fori_loop(0, num_parts, compute_part, outputs)
    outputs = lax.dynamic_update_slice_in_dim(
      outputs, rest, num_parts * part_size, axis=0
    )
    return outputs[:batch_size]

  return forward_in_parts


def serialize(forward: ForwardFn, image_shape: tuple[int, ...]) -> bytes:
  """Exports a forward pass as StableHLO for all of PLATFORMS.

  Args:
    forward: a function from `make_forward`.
    image_shape: [H, W, C].
  Returns:
    A file's content for `jax.export.deserialize`. Its batch size is symbolic,
    so that it accepts batches of any size.
  """
  (batch_size,) = jax.export.symbolic_shape('batch')
  images = jax.ShapeDtypeStruct((batch_size, *image_shape), jnp.uint8)
  exported = jax.export.export(jax.jit(forward), platforms=PLATFORMS)(images)
  return bytes(exported.serialize())
