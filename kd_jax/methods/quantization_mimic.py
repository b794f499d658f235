"""Methods that round features to a few levels.

All features of this project's networks follow a ReLU, so they are 0 or more.
"""

from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.methods.linear_layers import init_linear, linear
from kd_jax.methods.method import Method, Range
from kd_jax.methods.vectors import Features, flatten, match_sizes
from kd_jax.models.quantization import straight_through


def round_to(x: jax.Array, levels: int) -> jax.Array:
  """Rounds x to the nearest of 0, 1/levels, ..., 1.

  The gradient is the gradient of x for every x: the straight-through estimator
  of Bengio et al. 2013, arXiv:1308.3432.

  Args:
    x: float, any shape.
    levels: number of levels above 0.
  Returns:
    Float, the shape of x.

  Example:
    >>> print(round_to(jnp.array([-1.0, 0.2, 0.4, 2.0]), 4))
    [0.   0.25 0.5  1.  ]
  """
  rounded = jnp.round(jnp.clip(x, 0, 1) * levels) / levels
  return straight_through(x, rounded)


def init_quantized(
  key: jax.Array, student_shapes, teacher_shapes, *, student_bits: int
):
  """Returns the adapters of `quantized`: a linear map of channels per layer.

  Args:
    key: random key.
    student_shapes: shapes (..., C) of the student's features.
    teacher_shapes: shapes (..., C) of the teacher's features.
    student_bits: ignored.

  Example:
    >>> params = init_quantized(
    ...   jax.random.key(0), ((4, 4, 3),), ((8, 8, 5),), student_bits=8
    ... )
    >>> jax.tree.map(jnp.shape, params)
    [{'bias': (5,), 'kernel': (3, 5)}]
  """
  del student_bits
  adapters = []
  shapes = zip(student_shapes, teacher_shapes, strict=True)
  for i, (student, teacher) in enumerate(shapes):
    # Small, because most of the teacher's features are small in their units.
    layer = init_linear(
      jax.random.fold_in(key, i), student[-1], teacher[-1], scale=0.1
    )
    adapters.append(layer | {'kernel': layer['kernel'] * student[-1] ** -0.5})
  return adapters


def quantized(
  student_features: Features,
  teacher_features: Features,
  feature_levels: int,
  adapters,
  *,
  student_bits: int = 4,
) -> jax.Array:
  """Quantization mimic: the student predicts the teacher's rounded features.

  L = sum over layers of 1/2 sum_c (Q(W s + b) - t)^2, averaged over positions,

  where t are the teacher's features. They are stored as integers of
  `config.teacher.feature_bits` bits, and are here in units of the largest. Q
  rounds to the 2^bits levels from 0 to 1, and passes the gradient on unchanged.
  Rounding removes most differences between the two networks. If the teacher's
  map is larger than the student's, the averages of the teacher's features are
  rounded again, so that a student with a rounded map can reach them.

  Args:
    student_features: for each layer [B, H, W, C] or [B, C]; differentiated.
    teacher_features: for each layer [B, H', W', C'] or [B, C'], rounded, in
      [0, 1]; constant.
    feature_levels: number of levels of teacher_features above 0, 2^bits - 1.
    adapters: W and b of each layer, from `init_quantized`.
    student_bits: bits of Q; 0 leaves the student's features unrounded.
  Returns:
    [B] float32.
  Raises:
    ValueError: at trace time, if features do not fit; see `match_sizes`.
  Reference: Wei et al. 2018, arXiv:1805.02152, equations 4 to 8, for the last
    feature map of a detector. Their lambda is 1 in the teacher's units.

  Example:
    >>> adapters = [{'kernel': jnp.eye(2), 'bias': jnp.zeros(2)}]
    >>> student, teacher = jnp.array([[0.3, 0.6]]), jnp.array([[0.0, 1.0]])
    >>> print(quantized((student,), (teacher,), 3, adapters, student_bits=1))
    [0.]
  """
  loss: Any = 0.0
  for s, t, layer in zip(
    student_features, teacher_features, adapters, strict=True
  ):
    s, t = match_sizes(s, t)
    t = round_to(t, feature_levels)
    y = linear(s, layer)
    if student_bits:
      y = round_to(y, 2**student_bits - 1)
    square = 0.5 * jnp.sum(jnp.square(y - t), axis=-1, keepdims=True)
    loss += jnp.mean(flatten(square), axis=-1)
  return loss


METHODS = {
  'quantized': Method(
    quantized,
    layers='map',
    init=init_quantized,
    ranges={
      'student_bits': Range('a number from 0 to 16', lambda x: 0 <= x <= 16)
    },
  ),
}
