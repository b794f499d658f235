"""Adapters of features: trained with the student, and then discarded."""

import jax
import jax.numpy as jnp

from kd_jax.methods.linear_layers import init_linear


def init_adapter(key: jax.Array, in_channels: int, out_channels: int):
  """Returns a random 1x1 convolution, as a layer of `linear`.

  Args:
    key: random key.
    in_channels: channels of its input.
    out_channels: channels of its output.

  Example:
    >>> init_adapter(jax.random.key(0), 3, 2)['kernel'].shape
    (3, 2)
  """
  return init_linear(key, in_channels, out_channels, scale=in_channels**-0.5)


def init_norm(channels: int):
  """Returns the scale and the bias of a batch norm.

  Args:
    channels: channels of its input.

  Example:
    >>> print(init_norm(2)['scale'])
    [1. 1.]
  """
  return {'scale': jnp.ones(channels), 'bias': jnp.zeros(channels)}


def normalize(x: jax.Array, norm, mask: jax.Array) -> jax.Array:
  """Applies batch norm with the statistics of the unmasked examples.

  Adapters are used only in training, so there are no running averages. As in
  PyTorch, 1e-5 is added to the variance: features that deviate by less than
  0.01 from their mean are scaled to less than 1, so that losses behind this
  layer, those of `hint` and `review`, depend on the scale of such features.

  Args:
    x: [B, ..., C] float.
    norm: a scale and a bias, from `init_norm`.
    mask: [B], 0 for padding.
  Returns:
    [B, ..., C].

  Example:
    >>> x = jnp.array([[1.0], [3.0], [99.0]])
    >>> mask = jnp.array([1.0, 1.0, 0.0])
    >>> print(normalize(x, init_norm(1), mask)[:2].round(2))
    [[-1.]
     [ 1.]]
  """
  axes = tuple(range(x.ndim - 1))
  weights = mask.reshape(-1, *(1,) * (x.ndim - 1))
  count = jnp.maximum(jnp.sum(mask), 1) * (x.size // (len(mask) * x.shape[-1]))
  mean = jnp.sum(x * weights, axes, keepdims=True) / count
  variance = (
    jnp.sum(jnp.square(x - mean) * weights, axes, keepdims=True) / count
  )
  shape = (1,) * (x.ndim - 1) + (-1,)
  y = (x - mean) * jax.lax.rsqrt(variance + 1e-5)
  return y * norm['scale'].reshape(shape) + norm['bias'].reshape(shape)
