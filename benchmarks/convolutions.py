"""Each form of each convolution of the networks: what `cpu_forms` rests on.

  make bench

For the shapes of the ResNets of Table 2 and of their teacher, at batch 100:
every form of the convolution, of the gradient of its images and of that of its
kernel, compiled apart, in turns. A form ten times slower than the fastest is
dropped after a round.

Writes results/bench-MACHINE-convolutions.json.
"""

import functools
import random
import time

import harness
import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.benchmark import timing
from kd_jax.models import convolution
from kd_jax.runtime import host_memory

BATCH = 100
# (size of the map, channels, kernel, features, stride), by where they are.
SHAPES = {
  'stem': (32, 3, 3, 64, 1),
  'stem, stride 2': (32, 3, 3, 64, 2),
  'stage 1': (16, 64, 3, 64, 1),
  'stage 2': (8, 128, 3, 128, 1),
  'stage 3': (4, 256, 3, 256, 1),
  'stage 4': (2, 512, 3, 512, 1),
  'into stage 2': (16, 64, 3, 128, 2),
  'into stage 3': (8, 128, 3, 256, 2),
  'into stage 4': (4, 256, 3, 512, 2),
  'shortcut to stage 2': (16, 64, 1, 128, 2),
  'shortcut to stage 4': (4, 256, 1, 512, 2),
  'stage 1, stem stride 2': (8, 64, 3, 64, 1),
  'stage 2, stem stride 2': (4, 128, 3, 128, 1),
  'stage 3, stem stride 2': (2, 256, 3, 256, 1),
  'stage 4, stem stride 2': (1, 512, 3, 512, 1),
  'bottleneck out, stage 1': (16, 64, 1, 256, 1),
  'bottleneck in, stage 1': (16, 256, 1, 64, 1),
  'bottleneck in, stage 3': (4, 1024, 1, 256, 1),
}
_HOPELESS = 10


def _time(calls: dict, rounds: int) -> dict[str, dict]:
  """Returns quartiles of seconds, by name."""
  for call in calls.values():
    jax.block_until_ready(call())
  seconds = {name: [] for name in calls}
  for done in range(rounds):
    best = min((min(s) for s in seconds.values() if s), default=np.inf)
    for name in random.Random(done).sample(list(calls), len(calls)):
      if done > 0 and min(seconds[name]) > _HOPELESS * best:
        continue
      began = time.perf_counter()
      jax.block_until_ready(calls[name]())
      seconds[name].append(time.perf_counter() - began)
  return {name: timing.quartiles(values) for name, values in seconds.items()}


def measure(size, channels, kernel_size, features, stride, rounds) -> dict:
  """Times all forms of one convolution."""
  keys = jax.random.split(jax.random.key(0), 2)
  images = jax.random.normal(keys[0], (BATCH, size, size, channels))
  kernel = jax.random.normal(
    keys[1], (kernel_size, kernel_size, channels, features)
  ) / np.sqrt(kernel_size**2 * channels)
  padding = (kernel_size // 2,) * 2
  geometry = convolution.Geometry((stride, stride), (padding, padding))
  cotangent = jnp.cos(convolution.native(images, kernel, geometry))

  def compiled(fn, *args):
    return functools.partial(jax.jit(fn).lower(*args).compile(), *args)

  calls = {
    'forward': {
      form: compiled(lambda x, w, fn=fn: fn(x, w, geometry), images, kernel)
      for form, fn in convolution.FORMS.items()
      if convolution.applies(form, images, kernel, geometry)
    },
    'images': {
      form: compiled(
        lambda x, w, g, fn=fn: fn(x, w, g, geometry), images, kernel, cotangent
      )
      for form, fn in convolution.IMAGES_GRADIENTS.items()
      if convolution.applies(form, images, kernel, geometry)
    },
    'kernel': {
      form: compiled(
        lambda x, w, g, fn=fn: fn(x, w, g, geometry), images, kernel, cotangent
      )
      for form, fn in convolution.KERNEL_GRADIENTS.items()
      if convolution.applies(form, images, kernel, geometry)
    },
  }
  return {
    'images': images.shape,
    'kernel': kernel.shape,
    'stride': stride,
    'gflop': 2 * cotangent.size * kernel_size**2 * channels / 1e9,
    'chosen': convolution.cpu_forms(images, kernel, geometry)._asdict(),
    'seconds': {what: _time(own, rounds) for what, own in calls.items()},
  }


def main() -> None:
  args = harness.parser(__doc__, rounds=11).parse_args()
  host_memory.keep_freed_memory()
  shapes = {}
  for name, shape in SHAPES.items():
    shapes[name] = measure(*shape, args.rounds)
    print(name, flush=True)
  harness.write(args.out_dir, 'convolutions', shapes=shapes)


if __name__ == '__main__':
  main()
