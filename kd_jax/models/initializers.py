"""Initial values of the kernels and biases of ResNets."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

# Convolutions: Kaiming normal over fan_out, as in torchvision's ResNets. Dense
# layers: weights and biases uniform in +-1/sqrt(fan_in), PyTorch's default.
kaiming = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
dense_kernel = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


def dense_bias(fan_in: int) -> nn.initializers.Initializer:
  """Returns PyTorch's initialization of the bias of a dense layer."""
  limit = fan_in**-0.5
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
    key, shape, dtype, -limit, limit
  )


def dirac(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
  """Returns a kernel that copies its input's channels, [H, W, C, features].

  The first output channels are the input's channels: their filters are 1 at
  the middle of one channel, and 0 elsewhere. Further filters are random, as in
  `kaiming`. A deep network so begins by passing its input on. A kernel of 1x1
  is random: it has to mix channels.

  Args:
    key: the key of the random filters.
    shape: (H, W, C, features).
    dtype: the type of the kernel.

  Reference: Zagoruyko and Komodakis 2017, arXiv:1706.00388; as an initial
    kernel alone, Keller Jordan 2024, arXiv:2404.00498, section 3.2.
  """
  height, width, channels, features = shape
  kernel = kaiming(key, shape, dtype)
  if height == width == 1:
    return kernel
  copied = jnp.arange(min(channels, features))
  kernel = kernel.at[..., copied].set(0)
  return kernel.at[height // 2, width // 2, copied, copied].set(1)


def dct(key: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
  """Returns a kernel of discrete cosines, [H, W, C, features].

  The filters are the orthonormal DCT over rows, columns and channels, from low
  frequencies to high ones, each followed by its negative, so that a ReLU keeps
  both signs. Cosines are close to the principal components of patches of
  photographs (Ahmed, Natarajan and Rao 1974, "Discrete cosine transform").
  After the batch norm that follows, the features of different cosines are
  therefore nearly uncorrelated and have the same variance, as if the patches
  had been whitened. Keller Jordan (2024, arXiv:2404.00498) whitens with the
  principal components of the training images; this needs no data.

  With fewer than 2 * H * W * C filters, the kernel has the lowest frequencies.
  With more, the remaining filters are random, as in `kaiming`.

  Args:
    key: the key of the random filters.
    shape: (H, W, C, features).
    dtype: the type of the kernel.
  """
  height, width, channels, features = shape
  cosines = np.einsum(
    'ai,bj,ck->abcijk', *(_cosines(size) for size in (height, width, channels))
  )
  frequency = np.indices((height, width, channels)).sum(axis=0).ravel()
  filters = cosines.reshape(-1, height, width, channels)
  filters = filters[np.argsort(frequency, kind='stable')]
  pairs = np.stack([filters, -filters], axis=1)
  pairs = pairs.reshape(-1, height, width, channels)[:features]
  kernel = jnp.asarray(np.moveaxis(pairs, 0, -1), dtype)
  rest = kaiming(key, shape, dtype)[..., len(pairs) :]
  return jnp.concatenate([kernel, rest], axis=-1)


def _cosines(size: int) -> np.ndarray:
  """Returns the orthonormal DCT-II of a length, [frequency, position]."""
  frequency, position = np.mgrid[:size, :size]
  waves = np.cos(np.pi * frequency * (position + 0.5) / size)
  return waves / np.linalg.norm(waves, axis=1, keepdims=True)


# Initial kernels of convolutions, by the name in a config.
KERNELS = {'kaiming': kaiming, 'dct': dct, 'dirac': dirac}
