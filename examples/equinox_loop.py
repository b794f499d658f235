"""Your training loop in Equinox, with a method of kd_jax.methods.

`METHODS[name].inputs` names what a method takes; `similarity`, for example,
compares features of a batch's examples with each other.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from kd_jax import losses, methods


class Student(eqx.Module):
  """A network of one hidden layer."""

  layers: eqx.nn.MLP

  def __init__(self, num_pixels: int, num_classes: int, *, key: jax.Array):
    """Makes the layers."""
    self.layers = eqx.nn.MLP(num_pixels, num_classes, 32, 1, key=key)

  def __call__(self, image):
    """Returns logits [K]."""
    return self.layers(image.ravel())


DKD = methods.METHODS['dkd'].fn


@eqx.filter_value_and_grad
def loss_fn(student, images, labels, teacher_logits):
  """Returns the mean loss of a batch."""
  logits = jax.vmap(student)(images)
  kd = DKD(logits, teacher_logits, labels, temperature=4.0)
  return jnp.mean(kd + losses.cross_entropy(logits, labels))


def distill(images, labels, teacher_logits, *, steps=50, batch_size=32):
  """Trains a student on images [N, H, W, C]; returns the student, losses."""
  num_pixels, num_classes = images[0].size, teacher_logits.shape[-1]
  student = Student(num_pixels, num_classes, key=jax.random.key(0))
  optimizer = optax.adam(1e-2)
  opt_state = optimizer.init(eqx.filter(student, eqx.is_array))

  @eqx.filter_jit
  def train_step(student, opt_state, *batch):
    loss, grads = loss_fn(student, *batch)
    updates, opt_state = optimizer.update(grads, opt_state)
    return eqx.apply_updates(student, updates), opt_state, loss

  trained = []
  for step in range(steps):
    indices = jax.random.choice(
      jax.random.key(step), len(images), (batch_size,)
    )
    batch = images[indices], labels[indices], teacher_logits[indices]
    student, opt_state, loss = train_step(student, opt_state, *batch)
    trained.append(loss)
  return student, jnp.stack(trained)
