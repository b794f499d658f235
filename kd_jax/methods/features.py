"""Methods that learn the teacher's features, layer by layer.

Each is a loss for each example, `[B]` float32, summed over pairs of layers.
Where channels differ, a map from the student's to the teacher's is learned with
the student and thrown away after; where heights and widths differ, the larger
map is averaged down.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.methods.method import Method
from kd_jax.methods.vectors import TINY, flatten, match_sizes, pool, unit
from kd_jax.models import convolution

Features = tuple[jax.Array, ...]


def _mean(values: jax.Array) -> jax.Array:
  """[B, ...] -> [B]."""
  return jnp.mean(flatten(values), axis=-1)


def _linear(x: jax.Array, layer) -> jax.Array:
  """A dense layer over channels, which on maps is a 1x1 convolution."""
  y = jnp.matmul(x, layer['kernel'])
  return y + layer['bias'].reshape((1,) * (y.ndim - 1) + (-1,))


def _init_linear(key: jax.Array, channels: int, to: int):
  return {
    'kernel': jax.random.normal(key, (channels, to)) * channels**-0.5,
    'bias': jnp.zeros(to),
  }


def _init_norm(channels: int):
  return {'scale': jnp.ones(channels), 'bias': jnp.zeros(channels)}


def _normalize(x: jax.Array, norm, mask: jax.Array) -> jax.Array:
  """Batch norm by the batch alone: adapters serve only in training."""
  axes = tuple(range(x.ndim - 1))
  weights = mask.reshape(-1, *(1,) * (x.ndim - 1))
  count = jnp.maximum(jnp.sum(mask), 1) * (x.size // (len(mask) * x.shape[-1]))
  mean = jnp.sum(x * weights, axes, keepdims=True) / count
  variance = (
    jnp.sum(jnp.square(x - mean) * weights, axes, keepdims=True) / count
  )
  shape = (1,) * (x.ndim - 1) + (-1,)
  y = (x - mean) * jax.lax.rsqrt(variance + 1e-5)
  return y * norm['scale'].reshape(shape) + norm['bias'].reshape(shape)


def init_hint(key: jax.Array, student_shapes, teacher_shapes):
  """Returns `hint`'s adapters: of each layer, a map of channels and a norm."""
  return [
    {
      'map': _init_linear(jax.random.fold_in(key, i), own[-1], other[-1]),
      'norm': _init_norm(other[-1]),
    }
    for i, (own, other) in enumerate(
      zip(student_shapes, teacher_shapes, strict=True)
    )
  ]


def hint(
  student_features: Features,
  teacher_features: Features,
  mask: jax.Array,
  adapters,
) -> jax.Array:
  """FitNets' hints: the teacher's features from the student's.

  L = sum over layers of the mean of (n(W s + b) - t)^2 over positions, channels

  with W a matrix of channels and n a batch norm: without one, the weight that
  is usual for this loss is beyond what a usual learning rate bears.

  Args:
    student_features: of each layer [B, H, W, C] or [B, C]; differentiated.
    teacher_features: likewise; constant.
    mask: [B], 0 for padding.
    adapters: from `init_hint`: the map and the norm of each layer.
  Returns:
    [B] float32.
  Raises:
    ValueError: at trace time, if features do not fit, see `match_sizes`.
  Reference: Romero et al. 2015, arXiv:1412.6550, equation 3, here beside the
    cross-entropy rather than before it; norm and weight are of Tian et al.
    2020, arXiv:1910.10699, and their code.
  """
  loss = 0.0
  for s, t, own in zip(
    student_features, teacher_features, adapters, strict=True
  ):
    s, t = match_sizes(s, t)
    y = _normalize(_linear(s, own['map']), own['norm'], mask)
    loss += _mean(jnp.square(y - t))
  return loss


def attention(
  student_features: Features, teacher_features: Features, *, power: int = 2
) -> jax.Array:
  """Attention transfer: the same places are active.

  L = sum over layers of the mean of (a(s) - a(t))^2 over positions,
  a = the mean of |f|^power over channels, over positions of length 1

  Args:
    student_features: of each layer [B, H, W, C]; differentiated.
    teacher_features: likewise, of any C; constant.
    power: above 1; of the program, as a power that is traced costs a logarithm
      and an exponential of every element.
  Returns:
    [B] float32.
  Raises:
    ValueError: at trace time, for features that have no places.
  Reference: Zagoruyko and Komodakis 2017, arXiv:1612.03928, equations 1 and 2;
    the mean, and the weight, are of Tian et al. 2020, arXiv:1910.10699.
  """

  def places(features):
    activity = jnp.mean((jnp.square(features) + TINY) ** (power / 2), axis=-1)
    return unit(flatten(activity))

  loss = 0.0
  for s, t in zip(student_features, teacher_features, strict=True):
    if s.ndim != 4 or t.ndim != 4:
      raise ValueError(
        f'attention needs maps, [B, H, W, C], and has {s.shape} of the '
        f'student, {t.shape} of the teacher: choose other layers'
      )
    s, t = match_sizes(s, t)
    loss += _mean(jnp.square(places(s) - places(t)))
  return loss


# What a variance of `vid` starts at, and its least value.
_FIRST_VARIANCE, _LEAST_VARIANCE = 5.0, 1e-5


def init_vid(key: jax.Array, student_shapes, teacher_shapes):
  """Returns `vid`'s adapters: of each layer, a network and variances."""
  adapters = []
  for i, (own, other) in enumerate(
    zip(student_shapes, teacher_shapes, strict=True)
  ):
    keys = jax.random.split(jax.random.fold_in(key, i), 3)
    widths = (own[-1], other[-1], other[-1], other[-1])
    adapters.append(
      {
        'layers': [
          _init_linear(k, a, b)
          for k, a, b in zip(keys, widths[:-1], widths[1:], strict=True)
        ],
        'rho': jnp.full(
          other[-1], jnp.log(jnp.expm1(_FIRST_VARIANCE - _LEAST_VARIANCE))
        ),
      }
    )
  return adapters


def vid(
  student_features: Features, teacher_features: Features, adapters
) -> jax.Array:
  """Variational information: the student's features tell the teacher's.

  L = sum over layers of the mean of log v_c + (t - m(s))^2 / v_c, halved, over
  positions and channels c: a Gaussian's negative logarithm less a constant,
  with a variance v_c = softplus(rho_c) + 1e-5 of each channel of the teacher,
  and m three layers of 1x1 convolutions with ReLU between.

  Args:
    student_features: of each layer [B, H, W, C] or [B, C]; differentiated.
    teacher_features: likewise; constant.
    adapters: from `init_vid`: m and rho of each layer.
  Returns:
    [B] float32, nats.
  Raises:
    ValueError: at trace time, if features do not fit, see `match_sizes`.
  Reference: Ahn et al. 2019, arXiv:1904.05835, equations 6 and 7.
  """
  loss = 0.0
  for s, t, own in zip(
    student_features, teacher_features, adapters, strict=True
  ):
    x, t = match_sizes(s, t)
    first, *rest = own['layers']
    x = _linear(x, first)
    for layer in rest:
      x = _linear(jax.nn.relu(x), layer)
    variance = jax.nn.softplus(own['rho']) + _LEAST_VARIANCE
    variance = variance.reshape((1,) * (t.ndim - 1) + (-1,))
    loss += 0.5 * _mean(jnp.log(variance) + jnp.square(t - x) / variance)
  return loss


def init_review(key: jax.Array, student_shapes, teacher_shapes):
  """Returns `review`'s adapters: of each layer, what fuses and what maps."""
  middle = min(512, student_shapes[-1][-1])
  adapters = []
  for i, (own, other) in enumerate(
    zip(student_shapes, teacher_shapes, strict=True)
  ):
    keys = jax.random.split(jax.random.fold_in(key, i), 3)
    fan_in = 9 * middle
    adapters.append(
      {
        'in': _init_linear(keys[0], own[-1], middle),
        'in_norm': _init_norm(middle),
        'fuse': _init_linear(keys[1], 2 * middle, 2),
        'out': jax.random.normal(keys[2], (3, 3, middle, other[-1]))
        * fan_in**-0.5,
        'out_norm': _init_norm(other[-1]),
      }
    )
  return adapters


def review(
  student_features: Features,
  teacher_features: Features,
  mask: jax.Array,
  adapters,
) -> jax.Array:
  """Knowledge review: deeper layers of the student help its earlier ones.

  From the last layer back, the student's map goes through a 1x1 convolution,
  is fused with what the layer behind it gave (enlarged to its size; two learned
  weights at each position), and goes through a 3x3 convolution to what is held
  against the teacher's map: the mean of squares at full size, and of averages
  over 4x4, 2x2 and 1x1 parts of it, with weights 1, 1/2, 1/4, 1/8 over their
  sum.

  Args:
    student_features: of each layer [B, H, W, C], the last one last;
      differentiated.
    teacher_features: likewise; constant.
    mask: [B], 0 for padding.
    adapters: from `init_review`.
  Returns:
    [B] float32.
  Raises:
    ValueError: at trace time, for features that are no maps.
  Reference: Chen et al. 2021, arXiv:2104.09044, section 3, equations 6 to 8;
    the pyramid of the hierarchical loss and the weight, which is theirs for
    most pairs of networks on CIFAR-100, are of their code.
  """
  loss, behind = 0.0, None
  for s, t, own in reversed(
    list(zip(student_features, teacher_features, adapters, strict=True))
  ):
    if s.ndim != 4 or t.ndim != 4:
      raise ValueError(
        f'review needs maps, [B, H, W, C], and has {s.shape} of the student, '
        f'{t.shape} of the teacher: choose other layers'
      )
    x = _normalize(_linear(s, own['in']), own['in_norm'], mask)
    if behind is not None:
      y = _enlarge(behind, x.shape)
      share = jax.nn.sigmoid(_linear(jnp.concatenate([x, y], -1), own['fuse']))
      x = x * share[..., :1] + y * share[..., 1:]
    behind = x
    y = convolution.conv_general_dilated(
      x, own['out'], (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    y = _normalize(y, own['out_norm'], mask)
    loss += _pyramid(*match_sizes(y, t))
  return loss


def _enlarge(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Repeats [B, h, w, C] to the height and width of a shape.

  Where these are no multiples, some places more often than others.
  """
  for axis in (1, 2):
    own, size = x.shape[axis], shape[axis]
    if size % own:
      x = jnp.take(x, np.arange(size) * own // size, axis=axis)
    else:  # The same, without an index, whose gradient is slow.
      x = jnp.repeat(x, size // own, axis=axis)
  return x


def _pyramid(student: jax.Array, teacher: jax.Array) -> jax.Array:
  """Squared differences at several sizes: [B, H, W, C] twice -> [B]."""
  loss, weight, total = _mean(jnp.square(student - teacher)), 1.0, 1.0
  for size in (4, 2, 1):
    if size >= student.shape[1]:
      continue
    coarse = (pool(pool(x, 1, size), 2, size) for x in (student, teacher))
    weight /= 2
    loss += weight * _mean(jnp.square(next(coarse) - next(coarse)))
    total += weight
  return loss / total


METHODS = {
  'hint': Method(hint, weight=100.0, layers='middle', init=init_hint),
  'attention': Method(attention, weight=1000.0, layers='maps'),
  'vid': Method(vid, layers='maps', init=init_vid),
  'review': Method(review, weight=5.0, layers='maps', init=init_review),
}
