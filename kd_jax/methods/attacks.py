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
  """Projected gradient descent on the cross-entropy, in the maximum norm.

  x <- clip(x + step_size sign(dCE/dx)), from a uniform point of the ball,
  clipped to the ball of radius epsilon around the images, and to their range.

  Args:
    logits_fn: from images to logits [B, K], each example on its own or not.
    images: [B, H, W, C] float, as the network takes them.
    labels: [B] int.
    image_range: lowest and highest values that images have, [1, 1, 1, C] each.
    key: of the first point.
    epsilon: radius, as a share of that range.
    step_size: likewise.
    num_steps: of gradient ascent.
    unroll: whether these are written out. It takes longer to compile; a CPU is
      several times as fast with convolutions that are in no loop.
  Returns:
    Images [B, H, W, C]; no gradient flows through them.
  Reference: Madry et al. 2018, arXiv:1706.06083, section 2.1.
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
  """Returns the images after one more step of `pgd`."""
  low, high = image_range
  width = high - low
  gradient = jax.grad(
    lambda x: jnp.sum(losses.cross_entropy(logits_fn(x), labels))
  )(attacked)
  moved = attacked + step_size * width * jnp.sign(gradient) - images
  near = jnp.clip(moved, -epsilon * width, epsilon * width)
  return jax.lax.stop_gradient(jnp.clip(images + near, low, high))
