"""Linear layers of adapters and discriminators."""

import jax
import jax.numpy as jnp


def init_linear(key: jax.Array, in_size: int, out_size: int, *, scale: float):
  """Returns a layer with a random kernel and a bias of 0.

  Args:
    key: random key.
    in_size: number of inputs.
    out_size: number of outputs.
    scale: standard deviation of the kernel's entries.

  Example:
    >>> layer = init_linear(jax.random.key(0), 3, 2, scale=3**-0.5)
    >>> print(layer['kernel'].shape, layer['bias'])
    (3, 2) [0. 0.]
  """
  kernel = jax.random.normal(key, (in_size, out_size))
  return {'kernel': kernel * scale, 'bias': jnp.zeros(out_size)}


def linear(x: jax.Array, layer, *, precision: str | None = None) -> jax.Array:
  """Applies a layer to the last axis; on maps, this is a 1x1 convolution.

  Args:
    x: [..., D] float.
    layer: a kernel [D, E] and a bias [E], from `init_linear`.
    precision: of the product, as for `jnp.matmul`.
  Returns:
    [..., E].

  Example:
    >>> layer = {'kernel': 2 * jnp.eye(2), 'bias': jnp.array([1.0, 0.0])}
    >>> print(linear(jnp.array([[3.0, 4.0]]), layer))
    [[7. 8.]]
  """
  y = jnp.matmul(x, layer['kernel'], precision=precision)
  return y + layer['bias'].reshape((1,) * (y.ndim - 1) + (-1,))
