"""Networks that users could write, to be named as `module:function`."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


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


NUMBER = 7
