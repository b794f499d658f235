"""Knowledge review: the student's layers are fused, and then compared."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.methods.adapters import init_adapter, init_norm, normalize
from kd_jax.methods.linear_layers import linear
from kd_jax.methods.method import Method
from kd_jax.methods.vectors import (
  Features,
  match_sizes,
  mean_per_example,
  pool,
  without_padding,
)
from kd_jax.models import convolution


def init_review(key: jax.Array, student_shapes, teacher_shapes):
  """Returns the adapters of `review`, a dict of parameters for each layer.

  M is the number of common channels: those of the student's last layer, at most
  512.

  Args:
    key: random key.
    student_shapes: shapes (H, W, C) of the student's features.
    teacher_shapes: shapes (H, W, C) of the teacher's features.
  Returns:
    A list with an entry for each layer:
    'in', 'in_norm': the 1x1 convolution from the student's channels to M.
    'fuse': the 1x1 convolution from the layer's map and the next deeper one,
      2 M channels, to the weights with which the two are added.
    'out', 'out_norm': the 3x3 convolution from M to the teacher's channels.

  Example:
    >>> (params,) = init_review(jax.random.key(0), ((4, 4, 3),), ((8, 8, 5),))
    >>> params['in']['kernel'].shape, params['out'].shape
    ((3, 3), (3, 3, 3, 5))
  """
  common = min(512, student_shapes[-1][-1])
  adapters = []
  shapes = zip(student_shapes, teacher_shapes, strict=True)
  for i, (student, teacher) in enumerate(shapes):
    keys = jax.random.split(jax.random.fold_in(key, i), 3)
    fan_in = 9 * common
    adapters.append(
      {
        'in': init_adapter(keys[0], student[-1], common),
        'in_norm': init_norm(common),
        'fuse': init_adapter(keys[1], 2 * common, 2),
        'out': jax.random.normal(keys[2], (3, 3, common, teacher[-1]))
        * fan_in**-0.5,
        'out_norm': init_norm(teacher[-1]),
      }
    )
  return adapters


def review(
  student_features: Features,
  teacher_features: Features,
  mask: jax.Array,
  adapters,
) -> jax.Array:
  """Knowledge review: deeper layers of the student help earlier layers.

  From the last layer to the first:
  1. A 1x1 convolution maps the student's map to common channels.
  2. The result is fused with the fused map of the next deeper layer, enlarged
     to the same size, by two learned weights at each position.
  3. A 3x3 convolution of the fused map predicts the teacher's map.

  L = sum over layers of the mean squared errors of the prediction at full size
  and averaged down to 4x4, 2x2 and 1x1, weighted by 1, 1/2, 1/4 and 1/8 over
  the sum of these weights. Sizes that are not smaller than the map are left
  out.

  Each convolution is followed by a batch norm, which adds 1e-5 to the variance
  of the convolution's output. The loss does not depend on the scale of the
  student's features only where this variance is much larger.

  Args:
    student_features: for each layer [B, H, W, C], from the first layer to the
      last; differentiated.
    teacher_features: for each layer [B, H', W', C']; constant.
    mask: [B], 0 for padding.
    adapters: parameters of the convolutions and norms, from `init_review`.
  Returns:
    [B] float32.
  Raises:
    ValueError: at trace time, if features are not maps.
  Reference: Chen et al. 2021, arXiv:2104.09044, section 3, equations 6 to 8.
    The pyramid of the loss and the weight are from their code; the weight is
    theirs for most pairs of networks on CIFAR-100.

  Example:
    >>> shapes = ((8, 8, 3), (4, 4, 6))
    >>> adapters = init_review(jax.random.key(0), shapes, shapes)
    >>> student = tuple(jnp.zeros((2, *shape)) for shape in shapes)
    >>> teacher = tuple(jnp.ones((2, *shape)) for shape in shapes)
    >>> print(review(student, teacher, jnp.ones(2), adapters))
    [2. 2.]
  """
  loss: Any = 0.0
  deeper = None
  for s, t, adapter in reversed(
    list(zip(student_features, teacher_features, adapters, strict=True))
  ):
    if s.ndim != 4 or t.ndim != 4:
      raise ValueError(
        'review needs maps [B, H, W, C]; the student has shape '
        f'{s.shape}, the teacher has shape {t.shape}: choose other layers'
      )
    s, t = without_padding(s, mask), without_padding(t, mask)
    x = normalize(linear(s, adapter['in']), adapter['in_norm'], mask)
    if deeper is not None:
      y = _enlarge(deeper, x.shape)
      joined = jnp.concatenate([x, y], -1)
      share = jax.nn.sigmoid(linear(joined, adapter['fuse']))
      x = x * share[..., :1] + y * share[..., 1:]
    deeper = x
    y = convolution.conv_general_dilated(
      x,
      adapter['out'],
      (1, 1),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    y = normalize(y, adapter['out_norm'], mask)
    loss += _pyramid(*match_sizes(y, t))
  return loss


def _enlarge(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Repeats the pixels of [B, h, w, C] up to the height and width of a shape.

  If a size is not a multiple, some pixels are repeated more often than others.
  """
  for axis in (1, 2):
    length, size = x.shape[axis], shape[axis]
    if size % length:
      x = jnp.take(x, np.arange(size) * length // size, axis=axis)
    else:  # `take` would give the same, but the gradient of an index is slow.
      x = jnp.repeat(x, size // length, axis=axis)
  return x


def _pyramid(student: jax.Array, teacher: jax.Array) -> jax.Array:
  """Returns weighted squared errors at several sizes: [B, H, W, C] -> [B]."""
  loss, weight, total = (
    mean_per_example(jnp.square(student - teacher)),
    1.0,
    1.0,
  )
  for size in (4, 2, 1):
    if size >= student.shape[1]:
      continue
    coarse = (pool(pool(x, 1, size), 2, size) for x in (student, teacher))
    weight /= 2
    loss += weight * mean_per_example(jnp.square(next(coarse) - next(coarse)))
    total += weight
  return loss / total


METHODS = {
  'review': Method(review, weight=5.0, layers='maps', init=init_review)
}
