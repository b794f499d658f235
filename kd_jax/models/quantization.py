"""Quantized networks: quantization-aware training, storage and inference.

A network's `quantization` is the name of a scheme. The scheme says to what
values layers round their kernels and, for 'int8' and 'int4', also their inputs.
Training computes with the rounded values as floats, and passes their gradients
on to the unrounded values: quantization-aware training with the straight-
through estimator (Bengio et al. 2013, arXiv:1308.3432). `quantize_weights`
turns trained kernels into integers of few bits for storage. `deploy` makes an
inference network of the stored kernels.
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
  # Functions import qwix where they use it: the import takes a second, and few
  # runs need it.
  import qwix

PyTree = Any

# Number of weights in a bucket; the weights of a bucket share one range.
BUCKET = 256


class Scheme(NamedTuple):
  """A quantization scheme: how layers round and compute.

  Attributes:
    bits: bits of a stored kernel element; 0 if kernels stay floats.
    in_buckets: whether only kernels are rounded, see `to_buckets`. If False,
      both kernels and the inputs of layers are rounded to integers times a
      scale. A kernel has one scale for each output channel; an input has one
      for each example.
    conv_general_dilated: convolution for Flax's Conv; None for Flax's default.
    dot_general: product for Flax's Dense; None for Flax's default.
  """

  bits: int
  in_buckets: bool
  conv_general_dilated: Callable[..., jax.Array] | None
  dot_general: Callable[..., jax.Array] | None

  @property
  def uses_flax_layers(self) -> bool:
    """Whether convolutions and pools are Flax's, instead of our CPU forms."""
    return self.conv_general_dilated is None


def straight_through(x: jax.Array, rounded: jax.Array) -> jax.Array:
  """Returns `rounded`, with the gradient of `x`."""
  return x + lax.stop_gradient(rounded - x)


# --- Kernels in buckets. ---


class Buckets(NamedTuple):
  """The elements of an array in rows of BUCKET; the last row is padded.

  Attributes:
    codes: [n, BUCKET] float, integers from 0 to 2^bits - 1.
    lowest: [n, 1] float, value of code 0.
    step: [n, 1] float, difference of the values of neighboring codes.
  """

  codes: jax.Array | np.ndarray
  lowest: jax.Array
  step: jax.Array


def to_buckets(x: jax.Array, bits: int) -> Buckets:
  """Rounds each bucket of an array to 2^bits even levels over its range.

  Args:
    x: array of any shape.
    bits: bits of a code.
  Reference: Polino, Pascanu and Alistarh 2018, arXiv:1802.05668, section 2,
    which also has buckets of 256.
  """
  rows = jnp.pad(x.reshape(-1), (0, -x.size % BUCKET), mode='edge')
  rows = rows.reshape(-1, BUCKET)
  lowest = jnp.min(rows, axis=1, keepdims=True)
  step = (jnp.max(rows, axis=1, keepdims=True) - lowest) / (2**bits - 1)
  codes = jnp.round((rows - lowest) / jnp.where(step > 0, step, 1))
  return Buckets(codes, lowest, step)


def from_buckets(buckets: Buckets, shape: tuple[int, ...]) -> jax.Array:
  """Returns the rounded array of a shape that buckets represent."""
  rows = buckets.lowest + buckets.codes * buckets.step
  return rows.reshape(-1)[: int(np.prod(shape))].reshape(shape)


def _bucket_scheme(bits: int) -> Scheme:
  def round_kernel(kernel):
    rounded = from_buckets(to_buckets(kernel, bits), kernel.shape)
    return straight_through(kernel, rounded)

  def convolve(lhs, rhs, *args, **kwargs):
    return convolution.conv_general_dilated(
      lhs, round_kernel(rhs), *args, **kwargs
    )

  def dot(lhs, rhs, *args, **kwargs):
    return lax.dot_general(lhs, round_kernel(rhs), *args, **kwargs)

  return Scheme(bits, True, convolve, dot)


# --- Integers. ---


def _calibration(bits: int) -> str:
  """Returns qwix's method to turn the largest magnitude into a scale.

  The largest magnitude becomes the last level. By default, qwix puts it half a
  level beyond. The rounding there depends on the last bit of a division, which
  differs from program to program.
  """
  last = 2 ** (bits - 1) - 1
  return f'absmax,{(last + 0.5) / last}'


def _quantize(x: jax.Array, bits: int, axis: int) -> 'qwix.QArray':
  """Rounds x to integers, with one scale for each index of an axis."""
  import qwix

  return qwix.quantize(
    x,
    f'int{bits}',
    channelwise_axes=(axis,),
    calibration_method=_calibration(bits),
  )


def _integer_scheme(bits: int) -> Scheme:
  def round_to_integers(x, axis):
    import qwix

    return straight_through(x, qwix.dequantize(_quantize(x, bits, axis)))

  def convolve(lhs, rhs, *args, **kwargs):
    return convolution.conv_general_dilated(
      round_to_integers(lhs, 0),
      round_to_integers(rhs, rhs.ndim - 1),
      *args,
      **kwargs,
    )

  def dot(lhs, rhs, *args, **kwargs):
    return lax.dot_general(
      round_to_integers(lhs, 0),
      round_to_integers(rhs, rhs.ndim - 1),
      *args,
      **kwargs,
    )

  return Scheme(bits, False, convolve, dot)


SCHEMES = {
  'float': Scheme(0, False, convolution.conv_general_dilated, None),
  # No quantization: floats in Flax's default layers on every backend. It is a
  # scheme because a scheme decides which functions compute the layers.
  'flax': Scheme(0, False, None, None),
  'int8': _integer_scheme(8),
  'int4': _integer_scheme(4),
  'buckets8': _bucket_scheme(8),
  'buckets4': _bucket_scheme(4),
  'buckets2': _bucket_scheme(2),
}


# --- Storage. ---


def to_bytes(codes: np.ndarray, bits: int) -> np.ndarray:
  """Packs codes of few bits into bytes.

  Args:
    codes: uint8, any shape, below 2^bits.
    bits: bits of a code, 1 to 8.
  Returns:
    uint8 [ceil(size * bits / 8)].
  """
  code_bits = np.unpackbits(codes.reshape(-1, 1), axis=1)[:, -bits:]
  return np.packbits(code_bits)


def from_bytes(content: np.ndarray, bits: int, count: int) -> np.ndarray:
  """Inverts `to_bytes`: uint8 bytes -> uint8 [count] codes."""
  code_bits = np.unpackbits(content, count=bits * count).reshape(count, bits)
  padded = np.pad(code_bits, ((0, 0), (8 - bits, 0)))
  return np.packbits(padded, axis=1).reshape(-1)


def quantize_weights(params: PyTree, quantization: str) -> PyTree:
  """Returns parameters whose kernels are integers of few bits.

  A kernel becomes a dict: 'codes' are uint8 bytes that hold `bits` bits for
  each element; the float32 scales are 'scale' for integers, and 'lowest' and
  'step' for buckets. Other parameters, such as biases, do not change.

  Args:
    params: parameters of a network that was trained with the scheme.
    quantization: a name in SCHEMES whose kernels are stored in bits.
  """
  scheme = SCHEMES[quantization]
  quantized = {}
  for path, leaf in flax.traverse_util.flatten_dict(params).items():
    if path[-1] != 'kernel':
      quantized[path] = leaf
      continue
    stored = _quantize_kernel(leaf, scheme)
    quantized |= {(*path, name): array for name, array in stored.items()}
  return flax.traverse_util.unflatten_dict(quantized)


def _quantize_kernel(kernel: jax.Array, scheme: Scheme) -> dict[str, Any]:
  """Returns a kernel's 'codes' as bytes, and its scales."""
  if scheme.in_buckets:
    codes, lowest, step = jax.device_get(to_buckets(kernel, scheme.bits))
    codes = codes.reshape(-1)[: kernel.size].astype(np.uint8)
    scales = {'lowest': lowest, 'step': step}
  else:
    array = jax.device_get(_quantize(kernel, scheme.bits, kernel.ndim - 1))
    codes = array.qvalue.astype(np.int16) + 2 ** (scheme.bits - 1)
    scales = {'scale': array.scale}
  return {'codes': to_bytes(codes.astype(np.uint8), scheme.bits), **scales}


def has_quantized_weights(params: PyTree) -> bool:
  """Returns whether parameters are from `quantize_weights`."""
  paths = flax.traverse_util.flatten_dict(params)
  return any(path[-1] == 'codes' for path in paths)


# --- Inference. ---


def _widen(array: 'qwix.QArray') -> 'qwix.QArray':
  """Returns integers of 4 or 8 bits as int8.

  On a CPU, XLA has no products of int4.
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
  """Computes qwix's convolution in the form that suits the backend.

  The result equals qwix's bit for bit: each example and each output channel
  has one scale, and the sums are integers.
  """
  del out_sharding
  # mypy takes *args to reach the keyword arguments.
  sums = convolution.conv_general_dilated(  # type: ignore[misc]
    _widen(lhs).qvalue,
    _widen(rhs).qvalue,
    *args,
    preferred_element_type=jnp.int32,
    **kwargs,
  )
  return sums * lhs.scale * rhs.scale


def deploy(
  module: nn.Module, quantized: PyTree, image_shape: tuple[int, ...]
) -> tuple[nn.Module, PyTree]:
  """Returns the inference network of quantized weights, and its parameters.

  For an integer scheme, the network computes its convolutions and products
  with integers. For buckets, it is a network of floats.

  Args:
    module: the network as it was trained.
    quantized: parameters from `quantize_weights` with the module's scheme.
    image_shape: [H, W, C] of the network's input.
  """
  scheme = SCHEMES[module.quantization]
  if scheme.in_buckets:
    network = module.clone(quantization='float')
  else:
    network = _integer_network(module, scheme.bits)
  shapes = jax.eval_shape(
    lambda key: network.init(key, jnp.zeros((1, *image_shape)), train=False),
    jax.random.key(0),
  )['params']
  stored = flax.traverse_util.flatten_dict(quantized)
  params = {}
  for path, like in flax.traverse_util.flatten_dict(shapes).items():
    if path in stored:
      params[path] = jnp.asarray(stored[path])
      continue
    kernel = {
      key[-1]: array for key, array in stored.items() if key[:-1] == path
    }
    params[path] = _restore_kernel(kernel, like, scheme)
  return network, flax.traverse_util.unflatten_dict(params)


def _integer_network(module: nn.Module, bits: int) -> nn.Module:
  """Returns a network whose products are of integers, by qwix."""
  import qwix

  rule = qwix.QuantizationRule(
    weight_qtype=f'int{bits}',
    act_qtype=f'int{bits}',
    weight_calibration_method=_calibration(bits),
    act_calibration_method=_calibration(bits),
  )
  provider = qwix.PtqProvider(
    [rule],
    _conv_general_dilated_fn=_convolve_integers,
    _dot_general_fn=_dot_integers,
  )
  return qwix.quantize_model(module.clone(quantization='flax'), provider)


def _restore_kernel(stored: dict[str, Any], like, scheme: Scheme):
  """Inverts `_quantize_kernel` for a parameter of the inference network.

  Args:
    stored: 'codes' and scales.
    like: the parameter's shape; for integers, in the form that qwix expects.
    scheme: the scheme of the stored kernel.
  """
  size = int(np.prod(like.shape))
  codes = from_bytes(np.asarray(stored['codes']), scheme.bits, size)
  if scheme.in_buckets:
    rows = np.pad(codes.astype(np.float32), (0, -size % BUCKET))
    buckets = Buckets(
      rows.reshape(-1, BUCKET), stored['lowest'], stored['step']
    )
    return from_buckets(buckets, like.shape)
  import qwix

  values = codes.astype(np.int16) - 2 ** (scheme.bits - 1)
  array = qwix.QArray(
    jnp.asarray(values.reshape(like.shape), f'int{scheme.bits}'),
    jnp.asarray(stored['scale']),
  )
  return like.replace(array=array)
