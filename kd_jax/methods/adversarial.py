"""Methods with an adversary: a discriminator, or an attack on the images.

A discriminator learns to tell the teacher's outputs from the student's. In each
step the discriminator is updated first, from the student's outputs before their
update. The student's loss then takes the updated discriminator as a constant.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax import losses
from kd_jax.methods import attacks
from kd_jax.methods.linear_layers import init_linear, linear
from kd_jax.methods.method import (
  AT_LEAST_0,
  AT_LEAST_1,
  POSITIVE,
  Method,
  Range,
)
from kd_jax.methods.vectors import Features, flatten

# Units of each of a discriminator's two hidden layers.
_HIDDEN = 128


def _init_linear(key: jax.Array, in_size: int, out_size: int):
  return init_linear(key, in_size, out_size, scale=(2 / in_size) ** 0.5)


def _init_layers(key: jax.Array, size: int):
  """Returns a discriminator of vectors [B, size]: three linear layers."""
  sizes = (size, _HIDDEN, _HIDDEN, 1)
  return [
    _init_linear(k, a, b)
    for k, a, b in zip(
      jax.random.split(key, 3), sizes[:-1], sizes[1:], strict=True
    )
  ]


def _log_odds(x: jax.Array, layers) -> jax.Array:
  """Returns a discriminator's log-odds that x is the teacher's: [B, D] -> [B].

  D(x) = sigmoid(log-odds) is the probability that x is the teacher's.
  """
  for i, layer in enumerate(layers):
    x = linear(x if i == 0 else jax.nn.leaky_relu(x, 0.2), layer)
  return x[:, 0]


def _minus_log_d(log_odds: jax.Array) -> jax.Array:
  """Returns -log D, from the log-odds."""
  return jax.nn.softplus(-log_odds)


def _minus_log_one_minus_d(log_odds: jax.Array) -> jax.Array:
  """Returns -log(1 - D), from the log-odds."""
  return jax.nn.softplus(log_odds)


def init_logits_discriminator(
  key: jax.Array, student_shapes, teacher_shapes, *, num_classes: int
):
  """Returns a discriminator of logits.

  Args:
    key: random key.
    student_shapes: ignored.
    teacher_shapes: ignored.
    num_classes: K.

  Example:
    >>> params = init_logits_discriminator(
    ...   jax.random.key(0), (), (), num_classes=3
    ... )
    >>> [layer['kernel'].shape for layer in params]
    [(3, 128), (128, 128), (128, 1)]
  """
  del student_shapes, teacher_shapes
  return _init_layers(key, num_classes)


def _centered(logits: jax.Array) -> jax.Array:
  """Subtracts the mean of the logits, which does not change their softmax."""
  logits = losses.as_float(logits)
  return logits - jnp.mean(logits, axis=-1, keepdims=True)


def adversarial_logits(student_logits: jax.Array, discriminator) -> jax.Array:
  """Returns the student's loss against the discriminator of its logits.

  L = -log D(s),  and D is trained by  -log D(t) - log(1 - D(s))

  D consists of three linear layers on logits of mean 0. It does not see the
  image that a teacher's logits belong to, so this loss needs cross-entropy or
  another method beside it.

  Args:
    student_logits: [B, K] float; differentiated.
    discriminator: parameters of D; constant.
  Returns:
    [B] float32, nats.
  Reference: Xu et al. 2018, arXiv:1709.00513, section 3.3, without the class
    labels of that paper. The loss is the one of Goodfellow et al. 2014,
    arXiv:1406.2661, that does not saturate.

  Example:
    >>> discriminator = [{'kernel': jnp.zeros((3, 1)), 'bias': jnp.zeros(1)}]
    >>> print(adversarial_logits(jnp.ones((2, 3)), discriminator))  # log(2)
    [0.693... 0.693...]
  """
  return _minus_log_d(_log_odds(_centered(student_logits), discriminator))


def logits_discriminator_loss(
  student_logits: jax.Array, teacher_logits: jax.Array, discriminator
) -> jax.Array:
  """Returns the loss of the discriminator of `adversarial_logits`.

  L = -log D(t) - log(1 - D(s))

  Args:
    student_logits: [B, K] float; constant.
    teacher_logits: [B, K] float; constant.
    discriminator: parameters of D; differentiated.
  Returns:
    [B] float32, nats.
  Reference: see `adversarial_logits`.

  Example:
    >>> kernel = jnp.array([[9.0], [0.0], [0.0]])
    >>> discriminator = [{'kernel': kernel, 'bias': jnp.zeros(1)}]
    >>> student, teacher = jnp.array([[0, 3.0, 0]]), jnp.array([[3.0, 0, 0]])
    >>> loss = logits_discriminator_loss(student, teacher, discriminator)
    >>> print(loss.round(3))
    [0.]
  """
  teacher_log_odds = _log_odds(_centered(teacher_logits), discriminator)
  loss = _minus_log_d(teacher_log_odds)
  student_log_odds = _log_odds(_centered(student_logits), discriminator)
  return loss + _minus_log_one_minus_d(student_log_odds)


def init_features_adapters(key: jax.Array, student_shapes, teacher_shapes):
  """Returns the adapters of `adversarial_features`: a linear map per layer.

  Args:
    key: random key.
    student_shapes: shapes (..., C) of the student's features.
    teacher_shapes: shapes (..., C) of the teacher's features.

  Example:
    >>> params = init_features_adapters(jax.random.key(0), ((4,),), ((6,),))
    >>> jax.tree.map(jnp.shape, params)
    [{'bias': (6,), 'kernel': (4, 6)}]
  """
  shapes = zip(student_shapes, teacher_shapes, strict=True)
  return [
    _init_linear(
      jax.random.fold_in(key, i), math.prod(student), math.prod(teacher)
    )
    for i, (student, teacher) in enumerate(shapes)
  ]


def init_features_discriminator(
  key: jax.Array, student_shapes, teacher_shapes, *, num_classes: int
):
  """Returns a discriminator for each layer's features.

  Args:
    key: random key.
    student_shapes: ignored.
    teacher_shapes: shapes (..., C) of the teacher's features.
    num_classes: ignored.

  Example:
    >>> (params,) = init_features_discriminator(
    ...   jax.random.key(0), (), ((6,),), num_classes=3
    ... )
    >>> [layer['kernel'].shape for layer in params]
    [(6, 128), (128, 128), (128, 1)]
  """
  del student_shapes, num_classes
  return [
    _init_layers(jax.random.fold_in(key, i), math.prod(shape))
    for i, shape in enumerate(teacher_shapes)
  ]


def adversarial_features(
  student_features: Features, adapters, discriminator
) -> jax.Array:
  """Returns the student's loss against the discriminators of its features.

  L = sum over layers of -log D(W s + b),
  and D is trained by  -log D(t) - log(1 - D(W s + b)) - doubt log D(W s + b)

  D consists of three linear layers on a layer's features. W and b are trained
  with the student. Without `doubt`, D tells the features apart too well: the
  student's loss and its gradient stay large, and the student learns little
  else.

  Args:
    student_features: for each layer [B, ...]; differentiated.
    adapters: W and b of each layer, from `init_features_adapters`.
    discriminator: parameters of D for each layer; constant.
  Returns:
    [B] float32, nats.
  Reference: Belagiannis et al. 2018, arXiv:1803.10750, section 3. Their
    regularization by adversarial samples, student features with the label of
    the teacher, is the weight `doubt` here.

  Example:
    >>> shapes = ((4, 4, 3),), ((5,),)
    >>> adapters = init_features_adapters(jax.random.key(0), *shapes)
    >>> discriminator = [[{'kernel': jnp.zeros((5, 1)), 'bias': jnp.zeros(1)}]]
    >>> student = (jnp.ones((2, 4, 4, 3)),)
    >>> print(adversarial_features(student, adapters, discriminator))  # log(2)
    [0.693... 0.693...]
  """
  loss: Any = 0.0
  for s, adapter, layers in zip(
    student_features, adapters, discriminator, strict=True
  ):
    loss += _minus_log_d(_log_odds(linear(flatten(s), adapter), layers))
  return loss


def features_discriminator_loss(
  student_features: Features,
  teacher_features: Features,
  adapters,
  discriminator,
  *,
  doubt: float = 1.0,
) -> jax.Array:
  """Returns the loss of the discriminators of `adversarial_features`.

  L = sum over layers of
      -log D(t) - log(1 - D(W s + b)) - doubt log D(W s + b)

  Args:
    student_features: for each layer [B, ...]; constant.
    teacher_features: for each layer [B, ...], any size; constant.
    adapters: W and b of each layer, from `init_features_adapters`; constant.
    discriminator: parameters of D for each layer; differentiated.
    doubt: weight of the student's features with the teacher's label, >= 0.
  Returns:
    [B] float32, nats.
  Reference: see `adversarial_features`.

  Example:
    >>> adapters = init_features_adapters(jax.random.key(0), ((3,),), ((5,),))
    >>> discriminator = [[{'kernel': jnp.zeros((5, 1)), 'bias': jnp.zeros(1)}]]
    >>> s, t = (jnp.ones((2, 3)),), (jnp.ones((2, 5)),)
    >>> loss = features_discriminator_loss(s, t, adapters, discriminator)
    >>> print(loss)  # 3 log(2)
    [2.079... 2.079...]
  """
  loss: Any = 0.0
  for s, t, adapter, layers in zip(
    student_features, teacher_features, adapters, discriminator, strict=True
  ):
    loss += _minus_log_d(_log_odds(flatten(t), layers))
    log_odds = _log_odds(linear(flatten(s), adapter), layers)
    loss += _minus_log_one_minus_d(log_odds) + doubt * _minus_log_d(log_odds)
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
  """Adversarially robust distillation: KL at attacked images.

  L = KL(teacher(x) || student(x')) as `losses.kl`,

  where x' are the images that `attacks.pgd` finds against the student. On x',
  batch norm takes the statistics of the attacked images. The running
  statistics, which inference uses, are those of the original images alone.

  L is K times the loss of the authors' code, whose KLDivLoss divides by the
  number of classes.

  Args:
    student_fn: images -> logits [B, K]; differentiated.
    images: [B, H, W, C] float, as the student takes them.
    image_range: lowest and highest pixel values, each [1, 1, 1, C].
    teacher_logits: [B, K] float, at the original images; constant.
    labels: [B] int; the attack moves away from them.
    key: random key of the attack.
    unroll: whether to write out the loop of the attack; see `attacks.pgd`.
    temperature: T > 0, dimensionless.
    epsilon: largest change of a pixel, as a share of the pixel's range.
    step_size: size of an attack step, as a share of the pixel's range.
    num_steps: number of attack steps, each a forward and a backward pass.
  Returns:
    [B] float32, nats, scaled by T^2.
  Reference: Goldblum et al. 2020, arXiv:1905.09747, equation 3, whose alpha is
    `kd_weight` here. For CIFAR-10 they have T = 30 and no cross-entropy.

  Example:
    >>> student_fn = lambda x: x.reshape(1, 2)
    >>> images, teacher = jnp.full((1, 1, 2, 1), 0.5), jnp.zeros((1, 2))
    >>> image_range = jnp.zeros((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1))
    >>> loss = ard(student_fn, images, image_range, teacher, jnp.array([0]),
    ...            jax.random.key(0), False, temperature=1.0, epsilon=0.1,
    ...            step_size=0.1)
    >>> print(loss)  # KL((1/2, 1/2) || softmax(0.4, 0.6))
    [0.0049...]
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
    adversarial_logits,
    discriminator_loss=logits_discriminator_loss,
    init_discriminator=init_logits_discriminator,
  ),
  'adversarial_features': Method(
    adversarial_features,
    init=init_features_adapters,
    discriminator_loss=features_discriminator_loss,
    init_discriminator=init_features_discriminator,
    ranges={'doubt': AT_LEAST_0},
  ),
  'ard': Method(
    ard,
    ranges={
      'epsilon': Range('a number above 0, at most 1', lambda x: 0 < x <= 1),
      'step_size': POSITIVE,
      'num_steps': AT_LEAST_1,
    },
  ),
}
