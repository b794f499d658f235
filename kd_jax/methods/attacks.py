"""Adversarial images: small changes of the input that a network gets wrong."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from kd_jax import losses


def pgd(
  logits_fn: Callable[[jax.Array], jax.Array],
  images: jax.Array,
  labels: jax.Array,
  image_range: tuple[jax.Array, jax.Array],
  key: jax.Array,
  *,
  epsilon: float,
  step_size: float,
  num_steps: int,
  unroll: bool = False,
) -> jax.Array:
  """Maximizes the cross-entropy by projected gradient steps (maximum norm).

  x <- clip(x + step_size sign(dCE/dx)),

  where clip projects onto the ball of radius epsilon around the images and onto
  the range of pixel values. The first x is uniform in the ball.

  Args:
    logits_fn: images -> logits [B, K]. Examples may depend on each other.
    images: [B, H, W, C] float, as the network takes them.
    labels: [B] int.
    image_range: lowest and highest pixel values, each [1, 1, 1, C].
    key: random key of the first x.
    epsilon: radius of the ball, as a share of the range of pixel values.
    step_size: size of a step, as a share of the range of pixel values.
    num_steps: number of gradient steps.
    unroll: whether to write out the loop over the steps. This takes longer to
      compile, but convolutions outside a loop are several times as fast on a
      CPU.
  Returns:
    Images [B, H, W, C]; constant (stop_gradient).
  Reference: Madry et al. 2018, arXiv:1706.06083, section 2.1.

  Example:
    >>> images = jnp.full((1, 1, 2, 1), 0.5)
    >>> logits_fn = lambda x: x.reshape(1, 2)
    >>> low, high = jnp.zeros((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1))
    >>> attacked = pgd(logits_fn, images, jnp.array([0]), (low, high),
    ...                jax.random.key(0), epsilon=0.1, step_size=0.1,
    ...                num_steps=2)
    >>> print(attacked.ravel())
    [0.4 0.6]
  """
  images = jax.lax.stop_gradient(images)
  noise = jax.random.uniform(key, images.shape, minval=-1, maxval=1)
  low, high = image_range
  first = jnp.clip(images + epsilon * (high - low) * noise, low, high)

  def step(_, attacked):
    return pgd_step(
      logits_fn,
      attacked,
      images,
      labels,
      image_range,
      epsilon=epsilon,
      step_size=step_size,
    )

  return jax.lax.fori_loop(0, num_steps, step, first, unroll=unroll)


def pgd_step(
  logits_fn: Callable[[jax.Array], jax.Array],
  attacked: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  image_range: tuple[jax.Array, jax.Array],
  *,
  epsilon: float,
  step_size: float,
) -> jax.Array:
  """Takes one step of `pgd`.

  Args:
    logits_fn: images -> logits [B, K].
    attacked: [B, H, W, C] float, the images after the previous step.
    images: [B, H, W, C] float, the original images.
    labels: [B] int.
    image_range: as in `pgd`.
    epsilon: as in `pgd`.
    step_size: as in `pgd`.
  Returns:
    Images [B, H, W, C]; constant (stop_gradient).

  Example:
    >>> images = jnp.full((1, 1, 2, 1), 0.5)
    >>> low, high = jnp.zeros((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1))
    >>> stepped = pgd_step(lambda x: x.reshape(1, 2), images, images,
    ...                    jnp.array([0]), (low, high), epsilon=0.1,
    ...                    step_size=0.03)
    >>> print(stepped.ravel())
    [0.47 0.53]
  """
  low, high = image_range
  width = high - low
  gradient = jax.grad(
    lambda x: jnp.sum(losses.cross_entropy(logits_fn(x), labels))
  )(attacked)
  moved = attacked + step_size * width * jnp.sign(gradient) - images
  near = jnp.clip(moved, -epsilon * width, epsilon * width)
  return jax.lax.stop_gradient(jnp.clip(images + near, low, high))
