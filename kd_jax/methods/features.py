"""Methods that match the teacher's features, layer by layer.

Each method returns the loss of each example, [B] float32, summed over pairs of
layers. If channels differ, an adapter that maps the student's channels to the
teacher's is trained with the student, and discarded after training. If heights
and widths differ, the larger map is averaged down to the size of the other.
"""

from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.methods.adapters import init_adapter, init_norm, normalize
from kd_jax.methods.linear_layers import linear
from kd_jax.methods.method import AT_LEAST_1, Method
from kd_jax.methods.vectors import (
  Features,
  flatten,
  match_sizes,
  mean_per_example,
  rescale,
  unit,
  without_padding,
)


def init_hint(
  key: jax.Array, student_shapes, teacher_shapes, *, relu: bool = True
):
  """Returns the adapters of `hint`: a map of channels and a norm per layer.

  Args:
    key: random key.
    student_shapes: shapes (..., C) of the student's features.
    teacher_shapes: shapes (..., C) of the teacher's features.
    relu: ignored.

  Example:
    >>> (params,) = init_hint(jax.random.key(0), ((4, 4, 3),), ((8, 8, 5),))
    >>> params['map']['kernel'].shape, params['norm']['scale'].shape
    ((3, 5), (5,))
  """
  del relu
  shapes = zip(student_shapes, teacher_shapes, strict=True)
  return [
    {
      'map': init_adapter(jax.random.fold_in(key, i), student[-1], teacher[-1]),
      'norm': init_norm(teacher[-1]),
    }
    for i, (student, teacher) in enumerate(shapes)
  ]


def hint(
  student_features: Features,
  teacher_features: Features,
  mask: jax.Array,
  adapters,
  *,
  relu: bool = True,
) -> jax.Array:
  """FitNets' hints: the student's features predict the teacher's.

  L = sum over layers of mean_{positions, channels} (relu(n(W s + b)) - t)^2

  W is a matrix of channels, and n is a batch norm. Without the batch norm,
  training with the usual weight of this loss and a usual learning rate is
  unstable. The norm adds 1e-5 to the variance of W s, so the loss does not
  depend on the student's scale only where this variance is much larger.

  Args:
    student_features: for each layer [B, H, W, C] or [B, C]; differentiated.
    teacher_features: for each layer [B, H', W', C'] or [B, C']; constant.
    mask: [B], 0 for padding.
    adapters: the map and the norm of each layer, from `init_hint`.
    relu: whether to have the ReLU; False if the teacher can be negative.
  Returns:
    [B] float32.
  Raises:
    ValueError: at trace time, if features do not fit; see `match_sizes`.
  Reference: Romero et al. 2015, arXiv:1412.6550, equation 3, here trained
    together with the cross-entropy rather than before. The paper has half the
    sum of the squares; the mean, the norm and the weight are those of Tian et
    al. 2020, arXiv:1910.10699, and their code.

  Example:
    >>> adapters = init_hint(jax.random.key(0), ((4, 4, 3),), ((8, 8, 5),))
    >>> student, teacher = jnp.zeros((2, 4, 4, 3)), jnp.full((2, 8, 8, 5), 3.0)
    >>> print(hint((student,), (teacher,), jnp.ones(2), adapters))
    [9. 9.]
  """
  loss: Any = 0.0
  for s, t, adapter in zip(
    student_features, teacher_features, adapters, strict=True
  ):
    s, t = (without_padding(x, mask) for x in match_sizes(s, t))
    y = normalize(linear(s, adapter['map']), adapter['norm'], mask)
    loss += mean_per_example(jnp.square((jax.nn.relu(y) if relu else y) - t))
  return loss


def attention(
  student_features: Features, teacher_features: Features, *, power: int = 2
) -> jax.Array:
  """Attention transfer: student and teacher are active at the same positions.

  L = sum over layers of the mean of (a(s) - a(t))^2 over positions

  a(f) is the mean of |f|^power over channels, as a vector over positions that
  is divided by its length. L does not depend on the scale of either network's
  features. The vector of a map of zeros is 0, with a gradient of 0.

  Args:
    student_features: for each layer [B, H, W, C]; differentiated.
    teacher_features: for each layer [B, H', W', C']; constant.
    power: exponent of at least 1; static, because a traced exponent costs a
      logarithm and an exponential of every element.
  Returns:
    [B] float32.
  Raises:
    ValueError: at trace time, if features are not maps, if no pair of maps has
      more than one position, or if power is below 1.
  Reference: Zagoruyko and Komodakis 2017, arXiv:1612.03928, equations 1 and 2.
    The paper has the norm of a(s) - a(t), with a weight of beta / 2. The mean
    of the square is that of the authors' code, and the weight is that of Tian
    et al. 2020, arXiv:1910.10699.

  Example:
    >>> student = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    >>> print(attention((student,), (-7 * student[..., :2],)).shape)
    (2,)
    >>> print(attention((student,), (-7 * student,)).round(3))
    [0. 0.]
  """
  if power < 1:
    raise ValueError(f'power={power}: expected a number of at least 1')

  def attention_vector(features):
    if power > 2:  # Squares stay in the range of float32; see `unit`, too.
      features = rescale(features, (1, 2, 3))
    if power % 2:
      features = jnp.abs(features)
    return unit(flatten(jnp.mean(features**power, axis=-1)))

  loss: Any = 0.0
  most_positions = 0
  for s, t in zip(student_features, teacher_features, strict=True):
    if s.ndim != 4 or t.ndim != 4:
      raise ValueError(
        'attention needs maps [B, H, W, C]; the student has shape '
        f'{s.shape}, the teacher has shape {t.shape}: choose other layers'
      )
    s, t = match_sizes(s, t)
    most_positions = max(most_positions, s.shape[1] * s.shape[2])
    loss += mean_per_example(
      jnp.square(attention_vector(s) - attention_vector(t))
    )
  if most_positions == 1:
    raise ValueError(
      'attention compares positions, and the compared maps have one position: '
      'their attention is always 1, whatever the student; choose other layers'
    )
  return loss


# The initial and the least variance of `vid`.
_FIRST_VARIANCE, _LEAST_VARIANCE = 5.0, 1e-5


def init_vid(key: jax.Array, student_shapes, teacher_shapes):
  """Returns the adapters of `vid`: a network and variances per layer.

  Args:
    key: random key.
    student_shapes: shapes (..., C) of the student's features.
    teacher_shapes: shapes (..., C) of the teacher's features.

  Example:
    >>> (params,) = init_vid(jax.random.key(0), ((4, 4, 3),), ((8, 8, 5),))
    >>> [layer['kernel'].shape for layer in params['layers']]
    [(3, 5), (5, 5), (5, 5)]
  """
  adapters = []
  shapes = zip(student_shapes, teacher_shapes, strict=True)
  for i, (student, teacher) in enumerate(shapes):
    keys = jax.random.split(jax.random.fold_in(key, i), 3)
    widths = (student[-1], teacher[-1], teacher[-1], teacher[-1])
    adapters.append(
      {
        'layers': [
          init_adapter(k, a, b)
          for k, a, b in zip(keys, widths[:-1], widths[1:], strict=True)
        ],
        'rho': jnp.full(
          teacher[-1], jnp.log(jnp.expm1(_FIRST_VARIANCE - _LEAST_VARIANCE))
        ),
      }
    )
  return adapters


def vid(
  student_features: Features, teacher_features: Features, adapters
) -> jax.Array:
  """Variational information distillation: a Gaussian of the teacher's features.

  L = sum over layers of 1/2 mean_{positions, c} [log v_c + (t - m(s))^2 / v_c],
  v_c = softplus(rho_c) + 1e-5

  L is the negative log-likelihood of a Gaussian without its constant, averaged
  as in the authors' code; the paper has the sum. Each
  channel c of the teacher has its variance v_c. The mean m consists of three
  layers of 1x1 convolutions with ReLU in between.

  Args:
    student_features: for each layer [B, H, W, C] or [B, C]; differentiated.
    teacher_features: for each layer [B, H', W', C'] or [B, C']; constant.
    adapters: m and rho of each layer, from `init_vid`.
  Returns:
    [B] float32, nats.
  Raises:
    ValueError: at trace time, if features do not fit; see `match_sizes`.
  Reference: Ahn et al. 2019, arXiv:1904.05835, equations 6 and 7.

  Example:
    >>> adapters = init_vid(jax.random.key(0), ((3,),), ((5,),))
    >>> student, teacher = jnp.zeros((2, 3)), jnp.zeros((2, 5))
    >>> print(vid((student,), (teacher,), adapters))  # log(5) / 2
    [0.804... 0.804...]
  """
  loss: Any = 0.0
  for s, t, adapter in zip(
    student_features, teacher_features, adapters, strict=True
  ):
    x, t = match_sizes(s, t)
    first, *rest = adapter['layers']
    x = linear(x, first)
    for layer in rest:
      x = linear(jax.nn.relu(x), layer)
    variance = jax.nn.softplus(adapter['rho']) + _LEAST_VARIANCE
    variance = variance.reshape((1,) * (t.ndim - 1) + (-1,))
    loss += 0.5 * mean_per_example(
      jnp.log(variance) + jnp.square(t - x) / variance
    )
  return loss


def _weakness_of_attention(_, student_shapes, teacher_shapes) -> str:
  pairs = zip(student_shapes, teacher_shapes, strict=True)
  constant = sum(_num_positions(s, t) == 1 for s, t in pairs)
  if not constant:
    return ''
  return (
    f'{constant} of its {len(student_shapes)} pairs of maps have one position, '
    'whose attention is always 1'
  )


def _num_positions(student_shape, teacher_shape) -> int:
  """Returns the positions at which maps [H, W, C] of two sizes are compared."""
  height, width = map(min, student_shape[:2], teacher_shape[:2])
  return height * width


METHODS = {
  # With two vectors, a batch norm gives +-1 whatever they are.
  'hint': Method(
    hint, weight=100.0, least_examples=3, layers='middle', init=init_hint
  ),
  'attention': Method(
    attention,
    weight=1000.0,
    layers='maps',
    ranges={'power': AT_LEAST_1},
    find_weakness=_weakness_of_attention,
  ),
  'vid': Method(vid, layers='maps', init=init_vid),
}
