"""The networks that benchmarks compare: our modules, weights and costs.

Every system gets the same random weights; times do not depend on the values.
"""

from collections.abc import Callable
from typing import Any

import harness  # noqa: F401  (adds the project to the import path)
import numpy as np

RESNETS: dict[str, dict[str, Any]] = {
  'baseline': dict(blocks=(2, 2, 2, 2)),
  'ideal': dict(blocks=(1, 1, 1, 1)),
  'ideal_stem_2': dict(blocks=(1, 1, 1, 1), stem_stride=2),
  'teacher': dict(block='bottleneck', blocks=(3, 4, 6, 3)),
}
MLPS: dict[str, dict[str, Any]] = {'h300': dict(hidden=(300,))}


def image_shape(name: str) -> tuple[int, int, int]:
  """Returns [H, W, C] of a network's images."""
  return (32, 32, 3) if name in RESNETS else (28, 28, 1)


def make_config(name: str):
  """Returns the config of the table row that trains a student."""
  from configs import cifar, mnist
  from kd_jax import config as config_lib

  if name in MLPS:
    return config_lib.close_row(mnist.get_config(name), name)
  row, at_stem, _ = name.partition('_stem_2')
  config = cifar.get_config(f'{row},stride_at=stem' if at_stem else row)
  return config_lib.close_row(config, row)


def row_examples(name: str) -> int:
  """Returns the number of examples in all epochs of a student's table row."""
  from kd_jax.training import plan

  section = make_config(name).train
  used = np.ones(60_000 if name in MLPS else 50_000, bool)
  phases = plan.make_phases(used, epochs=section.epochs, folds=section.folds)
  return sum(phase.epochs * int(phase.mask.sum()) for phase in phases)


def macs(name: str) -> int:
  """Returns the multiply-accumulates of a forward pass over one image."""
  fields = {'quantization': 'flax'} if name in RESNETS else {}
  return _count(make_module(name, **fields), image_shape(name))


def training_macs(name: str) -> int:
  """Returns the multiply-accumulates of a training step for one image.

  Counts the forward pass, the gradient of each kernel, and the gradient of
  each layer's input except the images.
  """
  if name in MLPS:
    first = int(np.prod(image_shape(name))) * MLPS[name]['hidden'][0]
  else:
    module = make_module(name)
    first = 3 * 9 * module.widths[0] * (32 // module.stem_stride) ** 2
  return 3 * macs(name) - first


def teacher_macs(name: str) -> int:
  """Returns the forward multiply-accumulates of a student's teacher."""
  from kd_jax.models import from_config

  if name in RESNETS:
    return macs('teacher')
  model = make_config(name).teacher.model
  return _count(from_config.make_module(model, 10), image_shape(name))


def _count(module, shape: tuple[int, ...]) -> int:
  """Returns the forward multiply-accumulates of a module for one image."""
  import jax

  from kd_jax.models import apply, costs

  variables = apply.init_variables(module, shape, jax.random.key(0))
  forward = lambda images: apply.make_apply(module)(
    variables, images, train=False, key=None
  )[0]
  return costs.count_macs(forward, jax.ShapeDtypeStruct((1, *shape), 'float32'))


def training_work(name: str) -> Callable[[str, str], tuple[float, float]]:
  """Returns the work of training on one example, for `limits.add_shares`.

  The number of bytes is 0: how much of a step's memory stays in the caches is
  unknown.

  Args:
    name: the student.
  Returns:
    (case, system) -> (operations, bytes).
  """
  student, teacher = training_macs(name), teacher_macs(name)

  def work(case: str, system: str) -> tuple[float, float]:
    del case
    is_live = 'live' in system or 'distiller' in system
    return 2 * (student + teacher * is_live), 0

  return work


def make_module(name: str, **fields):
  """Returns our Flax module of a network, with further fields set."""
  from kd_jax import models

  if name in MLPS:
    return models.MLP(num_classes=10, **MLPS[name], **fields)
  return models.ResNet(num_classes=10, **RESNETS[name], **fields)


def make_variables(name: str):
  """Returns the initial variables of a network, the same in every process.

  Batch norms get random positive values, as in a trained network: a compiler
  could leave out initial zeros and ones.
  """
  import jax

  from kd_jax.models import apply

  rng = np.random.default_rng(0)

  def as_trained(path, leaf):
    is_norm = 'norm' in jax.tree_util.keystr(path)
    return rng.uniform(0.5, 1, leaf.shape).astype('f') if is_norm else leaf

  variables = apply.init_variables(
    make_module(name), image_shape(name), jax.random.key(0)
  )
  return jax.tree_util.tree_map_with_path(as_trained, variables)
