"""Your training loop in Flax Linen, around kd_jax's train step.

The step updates the student and whatever the methods learn beside it, such as
adapters and discriminators. `kd_jax.MethodSetup` takes the shapes of features.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import kd_jax


class Student(nn.Module):
  """A network of one hidden layer; it returns (logits, features by name)."""

  num_classes: int

  @nn.compact
  def __call__(self, images, *, train: bool):
    """Returns (logits [B, K], features by name)."""
    hidden = nn.relu(nn.Dense(32)(images.reshape(images.shape[0], -1)))
    return nn.Dense(self.num_classes)(hidden), {}


def distill(images, labels, teacher_logits, *, steps=50, batch_size=32):
  """Trains a student on images [N, H, W, C]; returns its variables, losses."""
  module, key = Student(teacher_logits.shape[-1]), jax.random.key(0)
  objective = kd_jax.make_objective(
    {'kl': {}, 'dist': {}}, kd_jax.MethodSetup()
  )
  optimizer = optax.scale_by_adam()
  train_step = jax.jit(
    kd_jax.make_train_step(
      kd_jax.make_apply(module), objective, optimizer, lambda step: 1.0
    )
  )
  variables = kd_jax.init_variables(module, images.shape[1:], key)
  state = kd_jax.init_state(variables, optimizer, objective.init(key))
  numbers = {'ce_weight': 0.1, 'kd_weight': 0.9, 'temperature': 4.0}
  hyperparameters = kd_jax.Hyperparameters(learning_rate=1e-2, **numbers)
  losses = []
  for step in range(steps):
    step_key = jax.random.fold_in(key, step)
    indices = jax.random.choice(step_key, len(images), (batch_size,))
    mask = jnp.ones(batch_size)  # 0 for examples that fill a batch.
    batch = kd_jax.Batch(
      images[indices], labels[indices], mask, teacher_logits[indices]
    )
    state, sums = train_step(state, batch, step_key, hyperparameters)
    losses.append(sums['loss'] / sums['count'])
  return state.variables, jnp.stack(losses)
