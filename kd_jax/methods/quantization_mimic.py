"""Methods in which features are rounded to few levels.

All features of our networks are behind a ReLU: 0 and above.
"""

import jax
import jax.numpy as jnp

from kd_jax.methods.method import Method
from kd_jax.methods.vectors import flatten, match_sizes

Features = tuple[jax.Array, ...]


def round_to(x: jax.Array, levels: int) -> jax.Array:
  """Rounds to the nearest of 0, 1/levels, ..., 1; the gradient goes through.

  It is the one of x itself, wherever x is: the straight-through estimator of
  Bengio et al. 2013, arXiv:1308.3432.
  """
  rounded = jnp.round(jnp.clip(x, 0, 1) * levels) / levels
  return x + jax.lax.stop_gradient(rounded - x)


def init_quantized(
  key: jax.Array, student_shapes, teacher_shapes, *, student_bits: int
):
  """Returns `quantized`'s adapters: of each layer, a map of channels."""
  del student_bits
  adapters = []
  for i, (own, other) in enumerate(
    zip(student_shapes, teacher_shapes, strict=True)
  ):
    kernel = jax.random.normal(jax.random.fold_in(key, i), (own[-1], other[-1]))
    # Small enough for the teacher's units, in which most features are.
    adapters.append(
      {'kernel': 0.1 * kernel * own[-1] ** -0.5, 'bias': jnp.zeros(other[-1])}
    )
  return adapters


def quantized(
  student_features: Features,
  teacher_features: Features,
  feature_levels: int,
  adapters,
  *,
  student_bits: int = 4,
) -> jax.Array:
  """Quantization mimic: the teacher's rounded features, from the student's.

  L = sum over layers of 1/2 sum_c (Q(W s + b) - t)^2, averaged over positions,

  t the teacher's features as they are stored: as whole numbers of
  `config.teacher.feature_bits`, here in units of the largest; Q rounds to the
  2^bits levels from 0 to 1, and passes the gradient on as it is. Most of what
  both networks might differ in is rounded away. Where the teacher's map is the
  larger one, its averages are rounded again: levels are what a student whose
  map is rounded can reach.

  Args:
    student_features: of each layer [B, H, W, C] or [B, C]; differentiated.
    teacher_features: likewise, rounded, in [0, 1]; constant.
    feature_levels: how many levels above 0 these have, so 2^bits - 1.
    adapters: from `init_quantized`: W, b of each layer.
    student_bits: of Q; 0 for no rounding of the student's.
  Returns:
    [B] float32.
  Raises:
    ValueError: at trace time, if features do not fit, see `match_sizes`.
  Reference: Wei et al. 2018, arXiv:1805.02152, equations 4 to 8, for the last
    feature map of a detector. Their lambda is 1 in the teacher's own units.
  """
  loss = 0.0
  for s, t, layer in zip(
    student_features, teacher_features, adapters, strict=True
  ):
    s, t = match_sizes(s, t)
    t = round_to(t, feature_levels)
    y = jnp.matmul(s, layer['kernel'])
    y += layer['bias'].reshape((1,) * (y.ndim - 1) + (-1,))
    if student_bits:
      y = round_to(y, 2**student_bits - 1)
    square = 0.5 * jnp.sum(jnp.square(y - t), axis=-1, keepdims=True)
    loss += jnp.mean(flatten(square), axis=-1)
  return loss


METHODS = {
  'quantized': Method(quantized, layers='map', init=init_quantized),
}
