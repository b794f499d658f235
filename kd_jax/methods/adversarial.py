"""Methods with an opponent: a discriminator, or an attack on the images.

A discriminator learns to tell the teacher's outputs from the student's, as the
method's rival, in the same step and in turn: it learns first, from the
student's outputs as they are, and the student's loss takes it as it is then.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from kd_jax import losses
from kd_jax.methods import attacks
from kd_jax.methods.method import Method
from kd_jax.methods.vectors import flatten

Features = tuple[jax.Array, ...]


def _init_dense(key: jax.Array, size: int, to: int):
  return {
    'kernel': jax.random.normal(key, (size, to)) * (2 / size) ** 0.5,
    'bias': jnp.zeros(to),
  }


def _dense(x: jax.Array, layer) -> jax.Array:
  return jnp.matmul(x, layer['kernel']) + layer['bias'][None]


# Units of a discriminator's two hidden layers.
_HIDDEN = 128


def _init_discriminator(key: jax.Array, size: int):
  sizes = (size, _HIDDEN, _HIDDEN, 1)
  return [
    _init_dense(k, a, b)
    for k, a, b in zip(
      jax.random.split(key, 3), sizes[:-1], sizes[1:], strict=True
    )
  ]


def _discriminate(x: jax.Array, layers) -> jax.Array:
  """[B, D] -> [B], the log-odds that x is the teacher's."""
  for i, layer in enumerate(layers):
    x = _dense(x if i == 0 else jax.nn.leaky_relu(x, 0.2), layer)
  return x[:, 0]


def _is_teachers(log_odds: jax.Array) -> jax.Array:
  """-log of the probability that it is the teacher's."""
  return jax.nn.softplus(-log_odds)


def _is_students(log_odds: jax.Array) -> jax.Array:
  return jax.nn.softplus(log_odds)


def init_logits_rival(
  key: jax.Array, student_shapes, teacher_shapes, *, num_classes: int
):
  """Returns a discriminator of logits."""
  del student_shapes, teacher_shapes
  return _init_discriminator(key, num_classes)


def _centered(logits: jax.Array) -> jax.Array:
  """Logits whose mean is 0, which is all that a softmax sees of them."""
  logits = logits.astype(jnp.float32)
  return logits - jnp.mean(logits, axis=-1, keepdims=True)


def adversarial_logits(student_logits: jax.Array, rival) -> jax.Array:
  """A discriminator takes the student's logits for the teacher's.

  L = -log D(s),  D learning  -log D(t) - log(1 - D(s)),

  D three dense layers on logits of mean 0. It says nothing of which example a
  teacher's answer belongs to: beside cross-entropy, or another method.

  Args:
    student_logits: [B, K] float; differentiated.
    rival: the discriminator; constant.
  Returns:
    [B] float32, nats.
  Reference: Xu et al. 2018, arXiv:1709.00513, section 3.3, less its class
    labels; the loss is the one of Goodfellow et al. 2014, arXiv:1406.2661, that
    does not saturate.
  """
  return _is_teachers(_discriminate(_centered(student_logits), rival))


def tell_logits(
  student_logits: jax.Array, teacher_logits: jax.Array, rival
) -> jax.Array:
  """The loss of `adversarial_logits`' discriminator."""
  return _is_teachers(
    _discriminate(_centered(teacher_logits), rival)
  ) + _is_students(_discriminate(_centered(student_logits), rival))


def init_features_map(key: jax.Array, student_shapes, teacher_shapes):
  """Returns `adversarial_features`' adapters: of each layer, a linear map."""
  return [
    _init_dense(jax.random.fold_in(key, i), math.prod(own), math.prod(other))
    for i, (own, other) in enumerate(
      zip(student_shapes, teacher_shapes, strict=True)
    )
  ]


def init_features_rival(
  key: jax.Array, student_shapes, teacher_shapes, *, num_classes: int
):
  """Returns a discriminator of each layer's features."""
  del student_shapes, num_classes
  return [
    _init_discriminator(jax.random.fold_in(key, i), math.prod(shape))
    for i, shape in enumerate(teacher_shapes)
  ]


def adversarial_features(
  student_features: Features, adapters, rival
) -> jax.Array:
  """A discriminator takes the student's features for the teacher's.

  L = sum over layers of -log D(W s + b),
  D learning  -log D(t) - log(1 - D(W s + b)) - doubt log D(W s + b),

  D three dense layers on a layer's features, W and b the student's. Features
  are told apart too well for the student to learn from: without `doubt`, its
  loss and its gradient stay large, and it learns little else.

  Args:
    student_features: of each layer [B, ...]; differentiated.
    adapters: from `init_features_map`: W and b.
    rival: the discriminators; constant.
  Returns:
    [B] float32, nats.
  Reference: Belagiannis et al. 2018, arXiv:1803.10750, section 3. Their
    regularization by adversarial samples, student features that the
    discriminator is to take for the teacher's, is here a weight, `doubt`.
  """
  return sum(
    _is_teachers(_discriminate(_dense(flatten(s), own), layers))
    for s, own, layers in zip(student_features, adapters, rival, strict=True)
  )


def tell_features(
  student_features: Features,
  teacher_features: Features,
  adapters,
  rival,
  *,
  doubt: float = 1.0,
) -> jax.Array:
  """The loss of `adversarial_features`' discriminators.

  Args:
    student_features: of each layer [B, ...]; constant.
    teacher_features: likewise.
    adapters: from `init_features_map`; constant.
    rival: the discriminators; differentiated.
    doubt: weight of the student's features as the teacher's, 0 or more.
  Returns:
    [B] float32, nats.
  """
  loss = 0.0
  for s, t, own, layers in zip(
    student_features, teacher_features, adapters, rival, strict=True
  ):
    loss += _is_teachers(_discriminate(flatten(t), layers))
    log_odds = _discriminate(_dense(flatten(s), own), layers)
    loss += _is_students(log_odds) + doubt * _is_teachers(log_odds)
  return loss


def ard(
  student_fn: Callable[[jax.Array], jax.Array],
  images: jax.Array,
  image_range: tuple[jax.Array, jax.Array],
  teacher_logits: jax.Array,
  labels: jax.Array,
  key: jax.Array,
  unroll: bool,
  *,
  temperature: float,
  epsilon: float = 8 / 255,
  step_size: float = 2 / 255,
  num_steps: int = 10,
) -> jax.Array:
  """Adversarially robust: attacked, the student answers as the teacher unhurt.

  L = KL(teacher(x) || student(x')) as `losses.kl`, x' from `attacks.pgd` on the
  student. Batch norm has the attacked images' own statistics there; its running
  ones, which the student is used with, are of the images unhurt alone.

  Args:
    student_fn: images to logits [B, K]; differentiated.
    images: [B, H, W, C] as the student takes them.
    image_range: see `attacks.pgd`.
    teacher_logits: [B, K] float, of the images as they are; constant.
    labels: [B] int, which the attack moves away from.
    key: of the attack.
    unroll: see `attacks.pgd`.
    temperature: T > 0, dimensionless.
    epsilon: how far a pixel is moved, as a share of its range.
    step_size: of the attack, likewise.
    num_steps: of the attack, each a forward and a backward pass.
  Returns:
    [B] float32, nats, scaled by T^2.
  Reference: Goldblum et al. 2020, arXiv:1905.09747, equation 3, whose alpha is
    `kd_weight` here; they have T = 30 and no cross-entropy for CIFAR-10.
  """
  attacked = attacks.pgd(
    student_fn,
    images,
    labels,
    image_range,
    key,
    epsilon=epsilon,
    step_size=step_size,
    num_steps=num_steps,
    unroll=unroll,
  )
  return losses.kl(
    student_fn(attacked), teacher_logits, temperature=temperature
  )


METHODS = {
  'adversarial_logits': Method(
    adversarial_logits, rival=tell_logits, init_rival=init_logits_rival
  ),
  'adversarial_features': Method(
    adversarial_features,
    init=init_features_map,
    rival=tell_features,
    init_rival=init_features_rival,
  ),
  'ard': Method(ard),
}
