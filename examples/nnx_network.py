"""A teacher and a student in Flax NNX.

python launch.py --config=configs/mnist.py:h300 \
  --config.teacher.module=examples.nnx_network:teacher \
  --config.student.kind=examples.nnx_network:student

The network is called with images [B, H, W, C]. `train()` or `eval()` has set
its batch norms and dropout before, and each random stream has a new key for
each step. Sown values are features: methods such as `hint` compare them.
"""

import jax.numpy as jnp
from flax import nnx


class Network(nnx.Module):
  """Two convolutions with batch norm, dropout and a linear layer."""

  def __init__(self, channels: int, num_classes: int, *, rngs: nnx.Rngs):
    """Makes the layers for images with one channel."""
    widths = (1, channels, 2 * channels)
    self.convs = nnx.List(
      [
        nnx.Conv(i, o, (3, 3), strides=2, rngs=rngs)
        for i, o in zip(widths, widths[1:], strict=False)
      ]
    )
    self.norms = nnx.List([nnx.BatchNorm(o, rngs=rngs) for o in widths[1:]])
    self.dropout = nnx.Dropout(0.1, rngs=rngs)
    self.linear = nnx.Linear(widths[-1], num_classes, rngs=rngs)

  def __call__(self, images):
    """Returns logits [B, K]."""
    x = images
    for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
      x = nnx.relu(norm(conv(x)))
      self.sow(nnx.Intermediate, f'map{i}', x)
    return self.linear(self.dropout(jnp.mean(x, axis=(1, 2))))


def student(num_classes: int, *, rngs: nnx.Rngs) -> Network:
  """Returns an untrained network; `rngs` differs between seeds."""
  return Network(4, num_classes, rngs=rngs)


def teacher() -> Network:
  """Random weights here; restore yours, such as with nnx.update(network, ...).

  The images of a teacher are scaled as config.teacher.outputs_scaling says.
  """
  return Network(8, 10, rngs=nnx.Rngs(0))
