"""Random inputs for every method, and calls of methods with these inputs."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import methods

# Functions by name, each with its method: losses, and losses of discriminators.
# `ard`, which calls the student, is in test_adversarial.py.
FUNCTIONS = {
  fn.__name__: (method, fn)
  for method in methods.METHODS.values()
  for fn in (method.fn, method.discriminator_loss)
  if fn is not None and fn.__name__ != 'ard'
}
INPUTS = {
  name: {*inspect.signature(fn).parameters} & {*methods.INPUTS}
  for name, (_, fn) in FUNCTIONS.items()
}
BATCH, NUM_CLASSES, TEMPERATURE = 6, 4, 2.5
# Two layers. The teacher's sizes and channels differ from the student's.
STUDENT_SHAPES = ((4, 4, 3), (2, 2, 6))
TEACHER_SHAPES = ((8, 8, 5), (2, 2, 4))
# The differentiated inputs of a method.
_LEARNED = ('student_logits', 'student_features', 'peer_logits', 'adapters')


def is_learned(name, key):
  """Returns whether a function is differentiated by an input."""
  method, fn = FUNCTIONS[name]
  if fn is method.discriminator_loss:
    return key == 'discriminator'
  return key in _LEARNED


def make_inputs(
  name, seed=0, batch=BATCH, num_classes=NUM_CLASSES, shapes=None
):
  """Returns random inputs of a function, and its options at their defaults."""
  (method, fn), rng = FUNCTIONS[name], np.random.default_rng(seed)
  student_shapes, teacher_shapes = shapes or (STUDENT_SHAPES, TEACHER_SHAPES)
  normal = lambda *shape: rng.normal(size=shape).astype('float32')
  inputs = {
    'student_logits': 2 * normal(batch, num_classes),
    'teacher_logits': 2 * normal(batch, num_classes),
    'labels': (np.arange(batch) % num_classes).astype('int32'),
    'mask': np.ones(batch, 'float32'),
    'temperature': np.float32(TEMPERATURE),
    'student_features': tuple(normal(batch, *s) for s in student_shapes),
    'teacher_features': tuple(normal(batch, *s) for s in teacher_shapes),
    'peer_logits': 2 * normal(batch, num_classes),
    'feature_levels': 15,
  }
  options = {
    k: p.default
    for k, p in inspect.signature(fn).parameters.items()
    if k not in methods.INPUTS
  }
  key, shapes = jax.random.key(seed), (student_shapes, teacher_shapes)
  # Initial biases are 0 and initial gains are 1; noise makes both general.
  perturb = lambda leaf: np.asarray(leaf) + 0.1 * normal(*leaf.shape)
  if method.init is not None:
    _, static = methods.split_options(options)
    adapters = method.init(key, *shapes, **static)
    inputs['adapters'] = jax.tree.map(perturb, adapters)
  if method.init_discriminator is not None:
    discriminator = method.init_discriminator(
      key, *shapes, num_classes=num_classes
    )
    inputs['discriminator'] = jax.tree.map(perturb, discriminator)
  return {k: v for k, v in inputs.items() if k in INPUTS[name]} | options


def split_static(inputs):
  """Returns traced inputs, and static ones (integers)."""
  static = {k: v for k, v in inputs.items() if isinstance(v, int)}
  return {k: v for k, v in inputs.items() if k not in static}, static


@functools.cache
def _compiled(name, static):
  """Returns losses, and the gradient of the sum of the first `count`."""

  def total(learned, arrays, count):
    values = FUNCTIONS[name][1](**arrays | learned, **dict(static))
    is_counted = jnp.arange(values.size) < count
    return jnp.sum(jnp.where(is_counted, values, 0)), values

  return jax.jit(jax.grad(total, has_aux=True))


def loss_and_gradient(name, inputs, count=None):
  """Returns losses [B], and the gradient of the sum of the first `count`."""
  arrays, static = split_static(inputs)
  learned = {k: v for k, v in arrays.items() if is_learned(name, k)}
  compiled = _compiled(name, tuple(static.items()))
  # The count is traced, so that all counts share a compilation.
  gradient, values = compiled(learned, arrays, count or BATCH)
  return values, gradient


def loss(name, inputs):
  return loss_and_gradient(name, inputs)[0]


def gradient(name, inputs, count=None):
  return loss_and_gradient(name, inputs, count)[1]


def is_finite(name, inputs):
  """Returns whether losses and gradients are finite."""
  leaves = jax.tree.leaves(loss_and_gradient(name, inputs))
  return all(np.isfinite(leaf).all() for leaf in leaves)


def take(inputs, index):
  """Returns the inputs of some examples, in the order of an index."""
  without_batch = {
    *('temperature', 'adapters', 'discriminator', 'feature_levels')
  }
  by_example = set(methods.INPUTS) - without_batch
  return {
    k: jax.tree.map(lambda x: x[index], v) if k in by_example else v
    for k, v in inputs.items()
  }


# The lowest and highest pixel values of `make_images`.
PIXEL_RANGE = (jnp.zeros((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1)))


def make_images(seed=0, batch=5):
  """Returns images [B, 3, 3, 1], labels [B] and weights [9, 4] for `linear`."""
  rng = np.random.default_rng(seed)
  images = jnp.asarray(rng.uniform(size=(batch, 3, 3, 1)), 'float32')
  weights = jnp.asarray(rng.normal(size=(9, 4)), 'float32')
  return images, jnp.arange(batch) % 4, weights


def linear(weights):
  """Returns a linear network: images -> logits."""
  return lambda images: images.reshape(images.shape[0], -1) @ weights


def worst_images(images, labels, weights, epsilon):
  """Returns the worst images for a linear network with two classes."""
  # Away from the label: the other class's weights minus the label's weights.
  signs = np.where(np.asarray(labels) == 0, 1, -1)[:, None]
  direction = signs * np.sign(weights[:, 1] - weights[:, 0])[None]
  return np.clip(images + epsilon * direction.reshape(images.shape), 0, 1)
