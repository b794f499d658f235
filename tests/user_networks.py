"""Networks that users could write, to be named as `module:function`."""

from collections.abc import Callable

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


class _Small(nn.Module):
  num_classes: int
  size: Callable = lambda x: x.shape[0]

  @nn.compact
  def __call__(self, images, *, train):
    x = nn.Conv(4, (3, 3), strides=4)(images)
    x = nn.BatchNorm(use_running_average=not train)(x)
    return nn.Dense(self.num_classes)(x.reshape(self.size(x), -1))


def student(num_classes):
  return _Small(num_classes)


def fixed_batch_student(num_classes):
  return _Small(num_classes, size=len)


def linear_teacher():
  """Returns a linear teacher in plain JAX for images [28, 28]."""
  key = jax.random.key(0)
  weights = {'w': 0.01 * jax.random.normal(key, (784, 10)), 'b': jnp.zeros(10)}
  return (lambda p, x: x.reshape(len(x), -1) @ p['w'] + p['b'][None]), weights


def seven_class_teacher():
  apply = lambda p, x: jnp.zeros((len(x), 7)) + p['b'][None]
  return apply, {'b': jnp.zeros(7)}


def not_a_pair():
  return 'teacher'


def breaks(num_classes):
  raise RuntimeError('no such checkpoint')


class _DropsOut(nnx.Module):
  """Has dropout without a random stream, which shows in training alone."""

  def __init__(self, num_classes, *, rngs):
    self.linear = nnx.Linear(784, num_classes, rngs=rngs)
    self.dropout = nnx.Dropout(0.5)

  def __call__(self, images):
    return self.linear(self.dropout(images.reshape(images.shape[0], -1)))


def dropout_without_rngs(num_classes, *, rngs):
  return _DropsOut(num_classes, rngs=rngs)


def nine_class_student(num_classes, *, rngs):
  return _DropsOut(num_classes - 1, rngs=rngs)


def equinox_without_ravel(num_classes, *, key):
  return eqx.nn.Linear(784, num_classes, key=key)


class _Names(nn.Module):
  feature_names = ('hidden',)

  @nn.compact
  def __call__(self, images, *, train):
    return nn.Dense(10)(images.reshape(images.shape[0], -1)), {}


def wrong_feature_names(num_classes):
  return _Names()


class Forgets:
  """Loses its statistics in training."""

  def __init__(self, num_classes):
    self.num_classes = num_classes

  def init(self, key, images):
    return {'params': {'w': jnp.zeros((784, 10))}, 'batch_stats': {'n': 0}}

  def apply(self, variables, images, *, train, key):
    logits = images.reshape(images.shape[0], -1) @ variables['params']['w']
    return logits, {}, {}


NUMBER = 7
