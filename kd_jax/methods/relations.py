"""Methods that learn how the teacher relates examples of a batch to each other.

Each is a loss for each example i, `[B]` float32: its share of what is compared,
such as row i of a matrix of similarities. The mean over the batch is the loss
of the paper. An example whose mask is 0 is compared with none.
"""

import math

import jax
import jax.numpy as jnp

from kd_jax.methods.method import Method
from kd_jax.methods.vectors import TINY, flatten, unit

Features = tuple[jax.Array, ...]


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Averages the last axis over the examples that count: [..., B] -> [...]."""
  mask = mask.reshape((1,) * (values.ndim - 1) + mask.shape)
  count = jnp.maximum(jnp.sum(mask), 1)
  return jnp.sum(jnp.where(mask > 0, values, 0), axis=-1) / count


def similarity(
  student_features: Features, teacher_features: Features, mask: jax.Array
) -> jax.Array:
  """Similarity-preserving: the same pairs of examples are alike.

  L = sum over layers of 1/B^2 ||n(S S^T) - n(T T^T)||_F^2,

  S, T [B, D] the flattened features, n to rows of length 1. Row i, times B, is
  the loss of example i.

  Args:
    student_features: of each layer [B, ...]; differentiated.
    teacher_features: likewise, of any size; constant.
    mask: [B], 0 for padding.
  Returns:
    [B] float32.
  Reference: Tung and Mori 2019, arXiv:1907.09682, equations 1 to 4; the weight
    is of Tian et al. 2020, arXiv:1910.10699, section 4.
  """

  def rows(features):
    vectors = flatten(features)
    gram = jnp.matmul(vectors, vectors.T, precision='highest')
    return unit(jnp.where(mask[None] > 0, gram, 0))

  return sum(
    _mean(jnp.square(rows(s) - rows(t)), mask)
    for s, t in zip(student_features, teacher_features, strict=True)
  )


def rkd(
  student_features: Features,
  teacher_features: Features,
  mask: jax.Array,
  *,
  distance: float = 25.0,
  angle: float = 50.0,
) -> jax.Array:
  """Relational distillation: distances of pairs, angles of triplets.

  L = sum over layers of distance mean_ij h(d_ij / mean d)
      + angle mean_ijk h(cos of the angle at i between j and k),

  h the Huber loss of what student and teacher have there, of threshold 1; the
  mean d is over pairs of two. Invariant to translations and rotations of
  either's features, and to their scale. Two examples count as one place if they
  are nearer to each other than a thousandth of their distance from the mean.

  Args:
    student_features: of each layer [B, ...]; differentiated.
    teacher_features: likewise, of any size; constant.
    mask: [B], 0 for padding.
    distance: weight of the pairs.
    angle: weight of the triplets, which take B^3 numbers.
  Returns:
    [B] float32: of an example, the pairs with it and the triplets it is the
    vertex of.
  Reference: Park et al. 2019, arXiv:1904.05068, equations 3 to 8. The means
    are over all i, j, k, as in their code; the weights, their ratio of 2 at
    the scale of Tian et al. 2020, arXiv:1910.10699, section 4.
  """
  loss = 0.0
  for pair in zip(student_features, teacher_features, strict=True):
    (s_distance, s_angle), (t_distance, t_angle) = (
      _distances_and_angles(flatten(features), mask) for features in pair
    )
    of_pairs = _mean(_huber(s_distance - t_distance), mask)
    of_triplets = _mean(_mean(_huber(s_angle - t_angle), mask), mask)
    loss += distance * of_pairs + angle * of_triplets
  return loss


# Squares of distances below so much of the squares of the lengths are rounding
# errors of the products that they come from.
_SAME = 1e-6


def _distances_and_angles(vectors: jax.Array, mask: jax.Array):
  """[B, D] -> distances [B, B] in units of their mean, cosines [B, B, B].

  By the products of the vectors, G_ij = x_i . x_j:
  (x_j - x_i) . (x_k - x_i) = G_jk - G_ij - G_ik + G_ii,
  B^2 D + B^3 operations, where products of the differences take B^3 D.
  """
  # Distances do not change, and rounding errors are of the vectors' lengths.
  vectors -= _mean(vectors.T, mask)[None]
  gram = jnp.matmul(vectors, vectors.T, precision='highest')
  square = jnp.diagonal(gram)
  both = square[:, None] + square[None]
  is_pair = both - 2 * gram > _SAME * both
  is_pair &= mask[:, None] * mask[None] > 0
  # The inner one keeps the gradient of a root at 0 out of the outer one's.
  distance = jnp.sqrt(jnp.where(is_pair, both - 2 * gram, 1))
  inverse = jnp.where(is_pair, 1 / distance, 0)
  distance = jnp.where(is_pair, distance, 0)
  mean = jnp.sum(distance) / jnp.maximum(jnp.sum(is_pair), 1)
  products = (
    gram[None] - gram[:, :, None] - gram[:, None] + square[:, None, None]
  )
  cosine = products * inverse[:, :, None] * inverse[:, None]
  return distance / (mean + TINY), cosine


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
  """Correlation congruence: a Gaussian kernel between examples is the same.

  L = sum over layers of 1/B^2 ||k(S) - k(T)||_F^2,
  k_ij = sum_{p <= order} exp(-2 gamma) (2 gamma)^p / p! (x_i . x_j)^p,

  Taylor's series of exp(-gamma |x_i - x_j|^2) for x of length 1.

  Args:
    student_features: of each layer [B, ...]; differentiated.
    teacher_features: likewise, of any size; constant.
    mask: [B], 0 for padding.
    gamma: of the kernel.
    order: of the series.
  Returns:
    [B] float32: row i of the kernel, times B.
  Reference: Peng et al. 2019, arXiv:1904.01802, equations 7 to 10. The weight
    is ours.
  """

  def kernel(features):
    vectors = unit(flatten(features))
    cosine = jnp.matmul(vectors, vectors.T, precision='highest')
    return jnp.exp(-2 * gamma) * sum(
      (2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1)
    )

  return sum(
    _mean(jnp.square(kernel(s) - kernel(t)), mask)
    for s, t in zip(student_features, teacher_features, strict=True)
  )


# Dimensions in which `crd` compares features, as in its paper.
_DIMENSIONS = 128


def init_crd(key: jax.Array, student_shapes, teacher_shapes):
  """Returns `crd`'s adapters: of each layer, a map for each network."""

  def linear(key, shape):
    size = math.prod(shape)
    return {
      'kernel': jax.random.normal(key, (size, _DIMENSIONS)) * size**-0.5,
      'bias': jnp.zeros(_DIMENSIONS),
    }

  adapters = []
  for i, shapes in enumerate(zip(student_shapes, teacher_shapes, strict=True)):
    keys = jax.random.split(jax.random.fold_in(key, i))
    adapters.append([linear(k, s) for k, s in zip(keys, shapes, strict=True)])
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
  """Contrastive: an example's two features go together, other classes' do not.

  L_i = sum over both networks a as the anchor of
        -log h(a_i, b_i) - sum_{j of another class} log(1 - h(a_i, b_j)),
  h = r / (r + N),  r = exp(a . b / tau) / Z,

  a, b the features, mapped linearly to 128 dimensions and to length 1, N
  how many j there are, Z the mean of exp(a . b / tau) over those of the batch,
  a constant: noise-contrastive estimation with the batch as the noise. The
  paper draws its 16,384 noise examples from a memory of the whole training set,
  whose features are of earlier steps.

  Args:
    student_features: of each layer [B, ...]; differentiated.
    teacher_features: likewise, of any size; constant.
    labels: [B] int.
    mask: [B], 0 for padding.
    adapters: from `init_crd`.
    tau: temperature of the similarities.
  Returns:
    [B] float32, nats.
  Reference: Tian et al. 2020, arXiv:1910.10699, equations 9 to 18.
  """
  is_noise = (labels[:, None] != labels[None]) & (mask[None] > 0)
  loss = 0.0
  for s, t, maps in zip(
    student_features, teacher_features, adapters, strict=True
  ):
    student, teacher = (
      unit(
        jnp.matmul(flatten(x), m['kernel'], precision='highest')
        + m['bias'][None]
      )
      for x, m in zip((s, t), maps, strict=True)
    )
    score = jnp.matmul(student, teacher.T, precision='highest') / tau
    loss += _contrast(score, is_noise, mask) + _contrast(
      score.T, is_noise, mask
    )
  return loss


def _contrast(score: jax.Array, is_noise: jax.Array, mask: jax.Array):
  """`crd` from scores [B, B] and which j are noise for i: [B]."""
  count = jnp.sum(is_noise, axis=-1)
  among = jnp.where(is_noise & (mask[:, None] > 0), score, -jnp.inf)
  total = jnp.sum(jnp.isfinite(among))
  # log Z; without noise in the batch, which nothing can be learned from, 0.
  log_z = jnp.where(
    total > 0,
    jax.nn.logsumexp(jnp.where(total > 0, among, 0))
    - jnp.log(jnp.maximum(total, 1)),
    0,
  )
  log_r = score - jax.lax.stop_gradient(log_z)
  log_n = jnp.log(jnp.maximum(count, 1).astype(score.dtype))[:, None]
  both = jnp.logaddexp(log_r, log_n)
  own = jnp.diagonal(both - log_r)
  others = jnp.sum(jnp.where(is_noise, both - log_n, 0), axis=-1)
  return jnp.where(count > 0, own + others, 0)


METHODS = {
  'similarity': Method(similarity, weight=3000.0, layers='map'),
  'rkd': Method(rkd),
  'correlation': Method(correlation, weight=100.0),
  'crd': Method(crd, weight=0.8, init=init_crd),
}
