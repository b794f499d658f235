"""Your training loop in Flax NNX, with a loss of kd_jax.losses.

The losses are pure functions from [B, K] to [B]; `kd_jax.methods.METHODS` has
them by name, with the inputs that each needs.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from kd_jax import losses


class Student(nnx.Module):
  """A network of one hidden layer."""

  def __init__(self, num_pixels: int, num_classes: int, *, rngs: nnx.Rngs):
    """Makes the two layers."""
    self.hidden = nnx.Linear(num_pixels, 32, rngs=rngs)
    self.output = nnx.Linear(32, num_classes, rngs=rngs)

  def __call__(self, images):
    """Returns logits [B, K]."""
    flat = images.reshape(images.shape[0], -1)
    return self.output(nnx.relu(self.hidden(flat)))


@nnx.jit
def train_step(student, optimizer, images, labels, teacher_logits):
  """Updates the student on a batch; returns the loss before."""

  def loss_fn(student):
    logits = student(images)
    kd = losses.kl(logits, teacher_logits, temperature=4.0)
    ce = losses.cross_entropy(logits, labels)
    return jnp.mean(0.9 * kd + 0.1 * ce)

  loss, grads = nnx.value_and_grad(loss_fn)(student)
  optimizer.update(student, grads)
  return loss


def distill(images, labels, teacher_logits, *, steps=50, batch_size=32):
  """Trains a student on images [N, H, W, C]; returns the student, losses."""
  num_pixels, num_classes = images[0].size, teacher_logits.shape[-1]
  student = Student(num_pixels, num_classes, rngs=nnx.Rngs(0))
  optimizer = nnx.Optimizer(student, optax.adam(1e-2), wrt=nnx.Param)
  trained = []
  for step in range(steps):
    key = jax.random.key(step)
    indices = jax.random.choice(key, len(images), (batch_size,))
    batch = images[indices], labels[indices], teacher_logits[indices]
    trained.append(train_step(student, optimizer, *batch))
  return student, jnp.stack(trained)
