"""Arithmetic of few bits: networks trained for it, and what they are stored as.

A network's `arithmetic` is what its kernels, and with 'int8' and 'int4' the
inputs of its layers, are rounded to. Training computes with the rounded values
as floats, and passes their gradients on to the unrounded ones: quantization-
aware training with the straight-through estimator (Bengio et al. 2013,
arXiv:1308.3432). `pack` turns the kernels into whole numbers, and `deploy`
makes a network of these.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kd_jax.models import convolution

if TYPE_CHECKING:
  import qwix  # Elsewhere where it is used: it takes a second, and few need it.

PyTree = Any

# Weights of a bucket share a range, and buckets are of so many.
BUCKET = 256


class Arithmetic(NamedTuple):
  """How layers compute.

  Attributes:
    bits: of a stored kernel's elements; 0 where they stay floats.
    in_buckets: whether kernels alone are rounded, see `to_buckets`; if not,
      the inputs of layers are, too, and both to whole numbers times a scale:
      of each output channel of a kernel, of each example of an input.
    conv_general_dilated, dot_general: for Flax's Conv and Dense; None for
      their own.
  """

  bits: int
  in_buckets: bool
  conv_general_dilated: Callable[..., jax.Array] | None
  dot_general: Callable[..., jax.Array] | None


def straight_through(x: jax.Array, rounded: jax.Array) -> jax.Array:
  """Returns `rounded`, with the gradient of `x`."""
  return x + lax.stop_gradient(rounded - x)


# --- Weights in buckets. ---


class Buckets(NamedTuple):
  """An array's elements in rows of BUCKET, the last one padded.

  Attributes:
    codes: [n, BUCKET] float, whole numbers from 0 to 2^bits - 1.
    lowest: [n, 1], what code 0 stands for.
    step: [n, 1], between neighbouring codes.
  """

  codes: jax.Array
  lowest: jax.Array
  step: jax.Array


def to_buckets(x: jax.Array, bits: int) -> Buckets:
  """Rounds each bucket of an array to 2^bits levels, evenly over its range.

  Reference: Polino, Pascanu and Alistarh 2018, arXiv:1802.05668, section 2,
    with buckets of 256 as there.
  """
  rows = jnp.pad(x.reshape(-1), (0, -x.size % BUCKET), mode='edge')
  rows = rows.reshape(-1, BUCKET)
  lowest = jnp.min(rows, axis=1, keepdims=True)
  step = (jnp.max(rows, axis=1, keepdims=True) - lowest) / (2**bits - 1)
  codes = jnp.round((rows - lowest) / jnp.where(step > 0, step, 1))
  return Buckets(codes, lowest, step)


def from_buckets(buckets: Buckets, shape: tuple[int, ...]) -> jax.Array:
  """Returns the array that buckets stand for."""
  rows = buckets.lowest + buckets.codes * buckets.step
  return rows.reshape(-1)[: int(np.prod(shape))].reshape(shape)


def _in_buckets(bits: int) -> Arithmetic:
  def round_kernel(kernel):
    rounded = from_buckets(to_buckets(kernel, bits), kernel.shape)
    return straight_through(kernel, rounded)

  def convolve(lhs, rhs, *args, **kwargs):
    return convolution.conv_general_dilated(
      lhs, round_kernel(rhs), *args, **kwargs
    )

  def dot(lhs, rhs, *args, **kwargs):
    return lax.dot_general(lhs, round_kernel(rhs), *args, **kwargs)

  return Arithmetic(bits, True, convolve, dot)


# --- Whole numbers. ---


def _calibration(bits: int) -> str:
  """How the largest magnitude becomes a scale, as qwix has it.

  It is to be the last level. By itself, qwix puts it half way to the next one,
  where the last bit of a division decides: another one in each program.
  """
  last = 2 ** (bits - 1) - 1
  return f'absmax,{(last + 0.5) / last}'


def _quantize(x: jax.Array, bits: int, axis: int) -> 'qwix.QArray':
  import qwix

  return qwix.quantize(
    x,
    f'int{bits}',
    channelwise_axes=(axis,),
    calibration_method=_calibration(bits),
  )


def _integers(bits: int) -> Arithmetic:
  def rounded(x, axis):
    import qwix

    return straight_through(x, qwix.dequantize(_quantize(x, bits, axis)))

  def convolve(lhs, rhs, *args, **kwargs):
    return convolution.conv_general_dilated(
      rounded(lhs, 0), rounded(rhs, rhs.ndim - 1), *args, **kwargs
    )

  def dot(lhs, rhs, *args, **kwargs):
    return lax.dot_general(
      rounded(lhs, 0), rounded(rhs, rhs.ndim - 1), *args, **kwargs
    )

  return Arithmetic(bits, False, convolve, dot)


ARITHMETICS = {
  'float': Arithmetic(0, False, convolution.conv_general_dilated, None),
  # Floats with Flax's own convolutions, whatever the backend.
  'flax': Arithmetic(0, False, None, None),
  'int8': _integers(8),
  'int4': _integers(4),
  'buckets8': _in_buckets(8),
  'buckets4': _in_buckets(4),
  'buckets2': _in_buckets(2),
}


# --- What is stored, and used. ---


def _pack_bits(codes: np.ndarray, bits: int) -> np.ndarray:
  """uint8 codes below 2^bits -> uint8 bytes [ceil(size * bits / 8)]."""
  each = np.unpackbits(codes.reshape(-1, 1), axis=1)[:, -bits:]
  return np.packbits(each)


def _unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
  each = np.unpackbits(packed, count=bits * count).reshape(count, bits)
  return np.packbits(np.pad(each, ((0, 0), (8 - bits, 0))), axis=1).reshape(-1)


def pack(params: PyTree, arithmetic: str) -> PyTree:
  """Returns parameters with their kernels as whole numbers of few bits.

  A kernel becomes a dict of 'codes', uint8 bytes that hold `bits` for each
  element, and float32 scales. All else, such as biases, stays as it is.

  Args:
    params: of a network trained for an arithmetic.
    arithmetic: a name in ARITHMETICS, of whole numbers or buckets.
  """
  own = ARITHMETICS[arithmetic]
  packed = {}
  for path, leaf in flax.traverse_util.flatten_dict(params).items():
    if path[-1] != 'kernel':
      packed[path] = leaf
    elif own.in_buckets:
      codes, lowest, step = jax.device_get(to_buckets(leaf, own.bits))
      codes = codes.reshape(-1)[: leaf.size].astype(np.uint8)
      packed[*path, 'codes'] = _pack_bits(codes, own.bits)
      packed[*path, 'lowest'], packed[*path, 'step'] = lowest, step
    else:
      array = jax.device_get(_quantize(leaf, own.bits, leaf.ndim - 1))
      codes = array.qvalue.astype(np.int16) + 2 ** (own.bits - 1)
      packed[*path, 'codes'] = _pack_bits(codes.astype(np.uint8), own.bits)
      packed[*path, 'scale'] = array.scale
  return flax.traverse_util.unflatten_dict(packed)


def is_packed(params: PyTree) -> bool:
  """Whether parameters are from `pack`."""
  paths = flax.traverse_util.flatten_dict(params)
  return any(path[-1] == 'codes' for path in paths)


def _widen(array: 'qwix.QArray') -> 'qwix.QArray':
  """Returns whole numbers of 4 bits as of 8: XLA has no products of 4 on a CPU.

  Those of 8 bits are left as they are.
  """
  return array.replace(qvalue=array.qvalue.astype(jnp.int8))


def _dot_integers(lhs: 'qwix.QArray', rhs: 'qwix.QArray', *args, **kwargs):
  import qwix

  return qwix.dot_general(_widen(lhs), _widen(rhs), *args, **kwargs)


def _convolve_integers(
  lhs: 'qwix.QArray',
  rhs: 'qwix.QArray',
  *args,
  out_sharding: None = None,
  **kwargs,
) -> jax.Array:
  """qwix's convolution, in the form that suits the backend.

  To the bit the same: scales are of an example and of an output channel, and
  sums are whole.
  """
  del out_sharding
  sums = convolution.conv_general_dilated(
    _widen(lhs).qvalue,
    _widen(rhs).qvalue,
    *args,
    preferred_element_type=jnp.int32,
    **kwargs,
  )
  return sums * lhs.scale * rhs.scale


def deploy(
  module: nn.Module, packed: PyTree, image_shape: tuple[int, ...]
) -> tuple[nn.Module, PyTree]:
  """Returns the network of what `pack` gave, and its parameters.

  Of whole numbers, its convolutions and products are of whole numbers, too; of
  buckets, it is a network of floats.

  Args:
    module: as it was trained.
    packed: from `pack` with its arithmetic.
    image_shape: [H, W, C] of its input.
  """
  import qwix

  own = ARITHMETICS[module.arithmetic]
  init = lambda net: jax.eval_shape(
    lambda key: net.init(key, jnp.zeros((1, *image_shape)), train=False),
    jax.random.key(0),
  )['params']
  flat = flax.traverse_util.flatten_dict(packed)
  if own.in_buckets:
    network = module.clone(arithmetic='float')
  else:
    qtype = f'int{own.bits}'
    rule = qwix.QuantizationRule(
      weight_qtype=qtype,
      act_qtype=qtype,
      weight_calibration_method=_calibration(own.bits),
      act_calibration_method=_calibration(own.bits),
    )
    provider = qwix.PtqProvider(
      [rule],
      _conv_general_dilated_fn=_convolve_integers,
      _dot_general_fn=_dot_integers,
    )
    network = qwix.quantize_model(module.clone(arithmetic='flax'), provider)
  params = {}
  for path, like in flax.traverse_util.flatten_dict(init(network)).items():
    if path in flat:
      params[path] = jnp.asarray(flat[path])
      continue
    size = int(np.prod(like.shape))
    codes = _unpack_bits(np.asarray(flat[*path, 'codes']), own.bits, size)
    if own.in_buckets:
      rows = np.pad(codes.astype(np.float32), (0, -size % BUCKET))
      buckets = Buckets(
        rows.reshape(-1, BUCKET), flat[*path, 'lowest'], flat[*path, 'step']
      )
      params[path] = from_buckets(buckets, like.shape)
    else:
      values = codes.astype(np.int16) - 2 ** (own.bits - 1)
      array = qwix.QArray(
        jnp.asarray(values.reshape(like.shape), qtype),
        jnp.asarray(flat[*path, 'scale']),
      )
      params[path] = like.replace(array=array)
  return network, flax.traverse_util.unflatten_dict(params)
