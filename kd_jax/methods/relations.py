"""Methods that match the relations between the examples of a batch.

Each method returns the loss of each example i, [B] float32: its share of the
comparison, such as row i of a matrix of similarities. The mean over the batch
is the loss of the paper. An example whose mask is 0 is compared with no other.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.methods.linear_layers import init_linear, linear
from kd_jax.methods.method import AT_LEAST_0, AT_LEAST_1, POSITIVE, Method
from kd_jax.methods.vectors import Features, flatten, unit, without_padding


def _mean_over_batch(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Averages the last axis over unmasked examples: [..., B] -> [...]."""
  mask = mask.reshape((1,) * (values.ndim - 1) + mask.shape)
  count = jnp.maximum(jnp.sum(mask), 1)
  return jnp.sum(jnp.where(mask > 0, values, 0), axis=-1) / count


def similarity(
  student_features: Features, teacher_features: Features, mask: jax.Array
) -> jax.Array:
  """Similarity-preserving distillation: the same pairs of examples are similar.

  L = sum over layers of 1/B^2 ||n(S S^T) - n(T T^T)||_F^2

  S and T [B, D] are the flattened features, and n divides each row by its
  length. Row i of the sum, times B, is the loss of example i. L does not depend
  on the scale of either network's features. A row of zeros stays 0.

  Args:
    student_features: for each layer [B, ...]; differentiated.
    teacher_features: for each layer [B, ...], any size; constant.
    mask: [B], 0 for padding.
  Returns:
    [B] float32.
  Reference: Tung and Mori 2019, arXiv:1907.09682, equations 1 to 4. The weight
    is that of Tian et al. 2020, arXiv:1910.10699, section 4.

  Example:
    >>> student = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> teacher = jnp.array([[0.0, 5.0, 0.0], [5.0, 0.0, 0.0]])
    >>> print(similarity((student,), (teacher,), jnp.ones(2)).round(3))
    [0. 0.]
  """

  def similarities(features):
    vectors = without_padding(flatten(features), mask)
    return unit(jnp.matmul(vectors, vectors.T, precision='highest'))

  loss: Any = sum(
    _mean_over_batch(jnp.square(similarities(s) - similarities(t)), mask)
    for s, t in zip(student_features, teacher_features, strict=True)
  )
  return loss


def rkd(
  student_features: Features,
  teacher_features: Features,
  mask: jax.Array,
  *,
  distance: float = 25.0,
  angle: float = 50.0,
) -> jax.Array:
  """Relational distillation: distances of pairs and angles of triplets.

  L = sum over layers of distance mean_ij h(d_ij / mean d)
      + angle mean_ijk h(cos of the angle at i between j and k)

  h is the Huber loss, with threshold 1, of the difference of the student's and
  the teacher's values. The mean d is over pairs of different examples. L is
  invariant to translation, rotation and scale of the features of either
  network. Two examples count as equal if their distance is less than 1e-5 of
  their distance from the mean.

  Args:
    student_features: for each layer [B, ...]; differentiated.
    teacher_features: for each layer [B, ...], any size; constant.
    mask: [B], 0 for padding.
    distance: weight of the pairs.
    angle: weight of the triplets, which take an array of B^3 numbers.
  Returns:
    [B] float32. The loss of an example covers the pairs that contain the
    example, and the triplets with the example as the vertex.
  Reference: Park et al. 2019, arXiv:1904.05068, equations 3 to 8. The means
    are over all i, j, k, as in their code. The weights have the ratio of 2 of
    that paper, at the scale of Tian et al. 2020, arXiv:1910.10699, section 4.

  Example:
    >>> student = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    >>> print(rkd((student,), (7 * student + 5,), jnp.ones(3)).round(3))
    [0. 0. 0.]
  """
  loss: Any = 0.0
  for pair in zip(student_features, teacher_features, strict=True):
    (s_distance, s_angle), (t_distance, t_angle) = (
      _distances_and_angles(flatten(features), mask) for features in pair
    )
    pairs_loss = _mean_over_batch(_huber(s_distance - t_distance), mask)
    triplets_loss = _mean_over_batch(
      _mean_over_batch(_huber(s_angle - t_angle), mask), mask
    )
    loss += distance * pairs_loss + angle * triplets_loss
  return loss


# Distances below this share of the lengths of the vectors are rounding errors
# of the vectors themselves.
_SAME = 1e-5


@jax.custom_vjp
def _square_distances(vectors: jax.Array) -> jax.Array:
  """Returns |x_j - x_i|^2: [B, D] -> [B, B].

  Squares the differences. The form |x_i|^2 + |x_j|^2 - 2 x_i . x_j would lose
  twice the digits if examples lie close together.
  """
  return jnp.sum(jnp.square(vectors[:, None] - vectors[None]), axis=-1)


def _square_distances_forward(vectors: jax.Array):
  return _square_distances(vectors), vectors


def _square_distances_backward(vectors: jax.Array, slopes: jax.Array):
  """Sums 2 slope_ij (x_i - x_j) by a matrix product, which is fast."""
  slopes = slopes + slopes.T
  sums = jnp.sum(slopes, axis=1, keepdims=True)
  products = jnp.matmul(slopes, vectors, precision='highest')
  return (2 * (sums * vectors - products),)


_square_distances.defvjp(_square_distances_forward, _square_distances_backward)


def _distances_and_angles(vectors: jax.Array, mask: jax.Array):
  """Returns the distances of all pairs and the cosines of all triplets.

  The cosines are computed from the squares of the distances:
  2 (x_j - x_i) . (x_k - x_i) = d_ij^2 + d_ik^2 - d_jk^2.
  This takes B^2 D + B^3 operations. Products of the differences would take
  B^3 D operations.

  Args:
    vectors: [B, D].
    mask: [B], 0 for padding.
  Returns:
    Distances [B, B] in units of their mean, and cosines [B, B, B] with the
    vertex first.
  """
  vectors = without_padding(vectors, mask)
  # Centering does not change distances, and rounding errors are proportional
  # to the lengths of the vectors.
  vectors -= _mean_over_batch(vectors.T, mask)[None]
  square = _square_distances(vectors)
  length = jnp.sum(jnp.square(vectors), axis=-1)
  is_pair = square > _SAME**2 * (length[:, None] + length[None])
  is_pair &= mask[:, None] * mask[None] > 0
  # The inner `where` keeps the infinite gradient of a root at 0 out of the
  # gradient of the outer `where`.
  distance = jnp.sqrt(jnp.where(is_pair, square, 1))
  inverse = jnp.where(is_pair, 1 / distance, 0)
  distance = jnp.where(is_pair, distance, 0)
  count = jnp.sum(is_pair)
  mean = jnp.sum(distance) / jnp.maximum(count, 1)
  products = (square[:, :, None] + square[:, None] - square[None]) / 2
  cosine = products * inverse[:, :, None] * inverse[:, None]
  return distance / jnp.where(count > 0, mean, 1), cosine


def _huber(x: jax.Array) -> jax.Array:
  size = jnp.abs(x)
  return jnp.where(size < 1, 0.5 * jnp.square(x), size - 0.5)


def correlation(
  student_features: Features,
  teacher_features: Features,
  mask: jax.Array,
  *,
  gamma: float = 0.4,
  order: int = 2,
) -> jax.Array:
  """Correlation congruence: both networks have the same Gaussian kernel.

  L = sum over layers of 1/B^2 ||k(S) - k(T)||_F^2,
  k_ij = sum_{p <= order} exp(-2 gamma) (2 gamma)^p / p! (x_i . x_j)^p

  k_ij is the Taylor series of exp(-gamma |x_i - x_j|^2), with each x divided by
  its length. An x of zeros stays 0.

  Args:
    student_features: for each layer [B, ...]; differentiated.
    teacher_features: for each layer [B, ...], any size; constant.
    mask: [B], 0 for padding.
    gamma: inverse width of the kernel.
    order: order of the Taylor series.
  Returns:
    [B] float32: row i of the sum, times B.
  Raises:
    ValueError: at trace time, if the student's features are single numbers.
  Reference: Peng et al. 2019, arXiv:1904.01802, equations 7 to 10. The weight
    is ours.

  Example:
    >>> student = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(correlation((student,), (3 * student,), jnp.ones(2)).round(3))
    [0. 0.]
  """
  if all(s[0].size == 1 for s in student_features):
    raise ValueError(
      'correlation compares the directions of features, and the compared ones '
      'have one number for each example: choose other layers'
    )

  def kernel(features):
    vectors = unit(without_padding(flatten(features), mask))
    cosine = jnp.matmul(vectors, vectors.T, precision='highest')
    return jnp.exp(-2 * gamma) * sum(
      (2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1)
    )

  loss: Any = sum(
    _mean_over_batch(jnp.square(kernel(s) - kernel(t)), mask)
    for s, t in zip(student_features, teacher_features, strict=True)
  )
  return loss


# Dimensions of the space in which `crd` compares features, as in its paper.
_DIMENSIONS = 128


def init_crd(key: jax.Array, student_shapes, teacher_shapes):
  """Returns the adapters of `crd`: a linear map per layer and network.

  Args:
    key: random key.
    student_shapes: shapes (..., C) of the student's features.
    teacher_shapes: shapes (..., C) of the teacher's features.

  Example:
    >>> (params,) = init_crd(jax.random.key(0), ((4,),), ((6,),))
    >>> [layer['kernel'].shape for layer in params]
    [(4, 128), (6, 128)]
  """

  def init(key, shape):
    size = math.prod(shape)
    return init_linear(key, size, _DIMENSIONS, scale=size**-0.5)

  adapters = []
  for i, shapes in enumerate(zip(student_shapes, teacher_shapes, strict=True)):
    keys = jax.random.split(jax.random.fold_in(key, i))
    adapters.append([init(k, s) for k, s in zip(keys, shapes, strict=True)])
  return adapters


def crd(
  student_features: Features,
  teacher_features: Features,
  labels: jax.Array,
  mask: jax.Array,
  adapters,
  *,
  tau: float = 0.07,
) -> jax.Array:
  """Contrastive representation distillation: two networks, one embedding.

  L_i = sum over both networks a as the anchor of
        -log h(a_i, b_i) - sum_{j of another class} log(1 - h(a_i, b_j)),
  h = r / (r + N),  r = exp(a . b / tau) / Z

  a and b are the features, mapped linearly to 128 dimensions and divided by
  their lengths. A vector of zeros stays 0, with a gradient of 0. N is the
  number of the examples j. Z is the mean of exp(a . b / tau) over all such
  pairs of the batch, a constant. This is noise-contrastive estimation with the
  batch as the noise. The paper draws
  16,384 noise examples from a memory of the whole training set, whose features
  are from earlier steps.

  Args:
    student_features: for each layer [B, ...]; differentiated.
    teacher_features: for each layer [B, ...], any size; constant.
    labels: [B] int.
    mask: [B], 0 for padding.
    adapters: linear maps of both networks per layer, from `init_crd`.
    tau: temperature of the similarities.
  Returns:
    [B] float32, nats.
  Reference: Tian et al. 2020, arXiv:1910.10699, equations 9 to 18.

  Example:
    >>> embed = {'kernel': jnp.eye(2), 'bias': jnp.zeros(2)}
    >>> student, labels, mask = jnp.eye(2), jnp.array([0, 1]), jnp.ones(2)
    >>> rest = labels, mask, [[embed, embed]]
    >>> right = crd((student,), (student,), *rest, tau=1.0)
    >>> wrong = crd((student,), (student[::-1],), *rest, tau=1.0)
    >>> print(right, wrong)  # swapped features cost more
    [2.01... 2.01...] [4.01... 4.01...]
  """
  is_noise = (labels[:, None] != labels[None]) & (mask[None] > 0)
  loss: Any = 0.0
  for s, t, maps in zip(
    student_features, teacher_features, adapters, strict=True
  ):
    student, teacher = (
      unit(linear(without_padding(flatten(x), mask), m, precision='highest'))
      for x, m in zip((s, t), maps, strict=True)
    )
    score = jnp.matmul(student, teacher.T, precision='highest') / tau
    loss += _contrast(score, is_noise, mask) + _contrast(
      score.T, is_noise, mask
    )
  return loss


def _contrast(score: jax.Array, is_noise: jax.Array, mask: jax.Array):
  """Returns one anchor network's part of `crd`.

  Args:
    score: [B, B], a_i . b_j / tau.
    is_noise: [B, B] bool, whether example j is noise for example i.
    mask: [B], 0 for padding.
  Returns:
    [B] float32, nats.
  """
  count = jnp.sum(is_noise, axis=-1)
  noise_score = jnp.where(is_noise & (mask[:, None] > 0), score, -jnp.inf)
  total = jnp.sum(jnp.isfinite(noise_score))
  # 0 if the batch has no noise; the loss is then 0 as well.
  log_z = jnp.where(
    total > 0,
    jax.nn.logsumexp(jnp.where(total > 0, noise_score, 0))
    - jnp.log(jnp.maximum(total, 1)),
    0,
  )
  log_r = score - jax.lax.stop_gradient(log_z)
  log_n = jnp.log(jnp.maximum(count, 1).astype(score.dtype))[:, None]
  log_odds = log_r - log_n  # The log-odds of h.
  positive = jnp.diagonal(jax.nn.softplus(-log_odds))
  negative = jnp.sum(jnp.where(is_noise, jax.nn.softplus(log_odds), 0), axis=-1)
  return jnp.where(count > 0, positive + negative, 0)


METHODS = {
  'similarity': Method(
    similarity, weight=3000.0, least_examples=2, layers='map'
  ),
  'rkd': Method(
    rkd,
    least_examples=3,
    ranges={'distance': AT_LEAST_0, 'angle': AT_LEAST_0},
  ),
  'correlation': Method(
    correlation,
    weight=100.0,
    least_examples=2,
    ranges={'gamma': POSITIVE, 'order': AT_LEAST_1},
  ),
  'crd': Method(
    crd,
    weight=0.8,
    least_examples=2,
    init=init_crd,
    ranges={'tau': POSITIVE},
  ),
}
