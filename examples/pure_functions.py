"""A student of any library, or of none: two pure functions.

python launch.py --config=configs/mnist.py:h300 \
  --config.student.kind=examples.pure_functions:Student
"""

import jax
import jax.numpy as jnp


class Student:
  """A network of one hidden layer, with dropout and a counter of its steps."""

  def __init__(self, num_classes: int):
    """Keeps the number of classes."""
    self.num_classes = num_classes

  def init(self, key, images):
    """Returns the initial variables; 'batch_stats' is not trained."""
    shapes = {'w0': (images[0].size, 32), 'w1': (32, self.num_classes)}
    keys = jax.random.split(key, len(shapes))
    params = {
      name: jax.random.normal(key, shape) / shape[0] ** 0.5
      for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    return {'params': params, 'batch_stats': {'steps': jnp.int32(0)}}

  def apply(self, variables, images, *, train, key):
    """Returns logits [B, K], features by name and the new 'batch_stats'."""
    params, steps = variables['params'], variables['batch_stats']['steps']
    x = images.reshape(images.shape[0], -1)
    hidden = jax.nn.relu(x @ params['w0'])
    x = hidden
    if train:
      x = 2 * x * jax.random.bernoulli(key, 0.5, x.shape)
    batch_stats = {'steps': steps + 1 if train else steps}
    return x @ params['w1'], {'hidden': hidden}, batch_stats
