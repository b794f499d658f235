"""Times every form of every convolution; `cpu_forms` rests on the results.

  make bench

For the shapes of the ResNets of Table 2 and of their teacher, at batch 100:
every form of the convolution and of its gradients with respect to the images
and to the kernel, compiled separately, in turns. A form ten times slower than
the fastest is dropped after one round.

Writes results/bench/MACHINE/bench-MACHINE-convolutions.json.
"""

import functools
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import harness
import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.benchmark import timing
from kd_jax.models import convolution
from kd_jax.runtime import host_memory

BATCH = 100


class Shape(NamedTuple):
  """The shape of a convolution.

  Attributes:
    size: height and width of the images.
    channels: channels of the images.
    kernel_size: height and width of the kernel.
    features: channels of the output.
    stride: stride along both axes.
  """

  size: int
  channels: int
  kernel_size: int
  features: int
  stride: int


# By the place in a network.
SHAPES = {
  'stem': Shape(32, 3, 3, 64, 1),
  'stem, stride 2': Shape(32, 3, 3, 64, 2),
  'stage 1': Shape(16, 64, 3, 64, 1),
  'stage 2': Shape(8, 128, 3, 128, 1),
  'stage 3': Shape(4, 256, 3, 256, 1),
  'stage 4': Shape(2, 512, 3, 512, 1),
  'into stage 2': Shape(16, 64, 3, 128, 2),
  'into stage 3': Shape(8, 128, 3, 256, 2),
  'into stage 4': Shape(4, 256, 3, 512, 2),
  'shortcut to stage 2': Shape(16, 64, 1, 128, 2),
  'shortcut to stage 4': Shape(4, 256, 1, 512, 2),
  'stage 1, stem stride 2': Shape(8, 64, 3, 64, 1),
  'stage 2, stem stride 2': Shape(4, 128, 3, 128, 1),
  'stage 3, stem stride 2': Shape(2, 256, 3, 256, 1),
  'stage 4, stem stride 2': Shape(1, 512, 3, 512, 1),
  'bottleneck out, stage 1': Shape(16, 64, 1, 256, 1),
  'bottleneck in, stage 1': Shape(16, 256, 1, 64, 1),
  'bottleneck in, stage 3': Shape(4, 1024, 1, 256, 1),
}
_HOPELESS = 10  # A form this many times slower than the fastest is dropped.


def _time(
  calls: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, dict[str, float | int]]:
  """Returns quartiles of seconds, by the name of the call."""
  for call in calls.values():
    jax.block_until_ready(call())
  seconds: dict[str, list[float]] = {name: [] for name in calls}
  for done in range(rounds):
    best = min((min(s) for s in seconds.values() if s), default=np.inf)
    for name in random.Random(done).sample(list(calls), len(calls)):
      if done > 0 and min(seconds[name]) > _HOPELESS * best:
        continue
      began = time.perf_counter()
      jax.block_until_ready(calls[name]())
      seconds[name].append(time.perf_counter() - began)
  return {name: timing.quartiles(values) for name, values in seconds.items()}


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
  """Times all forms of one convolution and of its gradients.

  Args:
    shape: the convolution.
    rounds: number of rounds.
  Returns:
    JSON values: the shapes, the forms that `cpu_forms` chooses, and for
    'forward', 'images' and 'kernel' quartiles of seconds by form.
  """
  size, channels, kernel_size, features, stride = shape
  keys = jax.random.split(jax.random.key(0), 2)
  images = jax.random.normal(keys[0], (BATCH, size, size, channels))
  kernel = jax.random.normal(
    keys[1], (kernel_size, kernel_size, channels, features)
  ) / np.sqrt(kernel_size**2 * channels)
  padding = (kernel_size // 2,) * 2
  geometry = convolution.Geometry((stride, stride), (padding, padding))
  cotangent = jnp.cos(convolution.native(images, kernel, geometry))

  def compile_all(forms, *args):
    return {
      name: functools.partial(
        jax.jit(lambda *args, form=form: form(*args, geometry))
        .lower(*args)
        .compile(),
        *args,
      )
      for name, form in forms.items()
      if convolution.applies(name, images, kernel, geometry)
    }

  calls = {
    'forward': compile_all(convolution.FORMS, images, kernel),
    'images': compile_all(
      convolution.IMAGES_GRADIENTS, images, kernel, cotangent
    ),
    'kernel': compile_all(
      convolution.KERNEL_GRADIENTS, images, kernel, cotangent
    ),
  }
  return {
    'images': images.shape,
    'kernel': kernel.shape,
    'stride': stride,
    'gflop': 2 * cotangent.size * kernel_size**2 * channels / 1e9,
    'chosen': convolution.cpu_forms(images, kernel, geometry)._asdict(),
    'seconds': {
      result: _time(by_form, rounds) for result, by_form in calls.items()
    },
  }


def main() -> None:
  """Runs the benchmark."""
  args = harness.make_parser(__doc__, rounds=11).parse_args()
  host_memory.keep_freed_memory()
  shapes = {}
  for name, shape in SHAPES.items():
    shapes[name] = measure(shape, args.rounds)
    print(name, flush=True)
  harness.write_record(args.out_dir, 'convolutions', shapes=shapes)


if __name__ == '__main__':
  main()
