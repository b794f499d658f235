"""The config of a call of `distill`."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import config_fields
from kd_jax.api import argument_names, array_data
from kd_jax.api.call_inputs import CallInputs
from kd_jax.api.stored_outputs import StoredOutputs
from kd_jax.config_checks import checking
from kd_jax.models import given
from kd_jax.runtime import errors, suggestions
from kd_jax.sections import NetworkSections
from kd_jax.teachers import teacher as teacher_lib

# The name of the only row.
ROW = 'student'
# The weight of the teacher's loss, if there are labels, too.
_ALPHA = 0.9


def model_section(model: Any, inputs: CallInputs) -> ConfigDict:
  """Returns the section of the student's network."""
  if isinstance(model, ConfigDict):
    return model
  task = inputs.dataset.task
  with argument_names.name_argument('model', task.image_shape):
    kind = given.register_student(model, task.num_classes, task.image_shape)
  return config_fields.model(
    kind, temperature=1.0, dtype='float32', quantization='float'
  )


def loss_section(
  method: str, temperature: float, alpha: float | None, *, has_labels: bool
) -> ConfigDict:
  """Returns the section of the loss."""
  checking.check_method_names('config.distill.method', method)
  if alpha is None:
    alpha = _ALPHA if has_labels else 1.0
  if not 0 <= alpha <= 1:
    raise errors.UserError(
      f"alpha={alpha}: expected the weight of the teacher's loss, from 0 to 1"
    )
  if alpha < 1 and not has_labels:
    raise errors.UserError(
      f'alpha={alpha}: without labels, expected 1, the weight of the teacher'
    )
  return config_fields.distillation(
    method=method,
    temperature=float(temperature),
    ce_weight=1.0 - alpha,
    kd_weight=float(alpha),
  )


def make_config(
  *,
  model: ConfigDict,
  train: ConfigDict,
  distill: ConfigDict,
  learning_rate: float,
  scaling: str,
) -> ConfigDict:
  """Returns the config of a run with one row."""
  optim = config_fields.optimizer(
    'adam', float(learning_rate), schedule='cosine', warmup_fraction=0.1
  )
  config = config_fields.make_config(
    name='distill',
    dataset=array_data.NAME,
    # It is never trained: it has logits or a network, or there is none.
    teacher=NetworkSections(
      config_fields.mlp((1,)),
      config_fields.training(1, 1),
      config_fields.optimizer('adam', 1e-3),
      config_fields.hard_labels(),
    ),
    student=NetworkSections(model, train, optim, distill),
    scaling=scaling,
  )
  config.benchmark.enabled = False
  config.rows = ConfigDict({ROW: {}})
  return config


def set_fields(config: ConfigDict, fields: Mapping[str, Any]) -> None:
  """Overrides fields of a config by their dotted names."""
  for name, value in fields.items():
    section = config
    *path, last = name.split('.')
    for key in (*path, last):
      if not isinstance(section, ConfigDict) or key not in section:
        known = section if isinstance(section, ConfigDict) else ()
        raise errors.UserError(
          f'fields: there is no field {name!r}{suggestions.nearest(key, known)}'
        )
      section = section if key == last else section[key]
    try:
      section[last] = value
    except TypeError as error:
      raise errors.UserError(f'fields: {name}={value!r}: {error}') from None


def set_teacher(
  config: ConfigDict, teacher: Any, inputs: CallInputs, path: pathlib.Path
) -> None:
  """Makes the argument `teacher` the teacher of a config.

  Stored logits are enough unless a method takes features, or each epoch shows
  other views of the images: then the network is asked.

  Args:
    config: the config, changed in place.
    teacher: the argument.
    inputs: the arrays of the call.
    path: the file that gets the logits.
  """
  if teacher is None:
    config.teacher.logits = teacher_lib.NONE
    return
  needs_network = _needs_network(config)
  if isinstance(teacher, StoredOutputs):
    config.teacher.outputs_scaling = teacher.scaling
    if needs_network or config.train.mixup_alpha > 0:
      config.teacher.module = given.register_teacher(
        teacher.network, inputs.dataset.task.image_shape
      )
      return
  elif needs_network:
    raise errors.UserError(
      f'{needs_network}, and an array of logits has none: expected a teacher '
      'from `store_outputs`'
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  np.savez(path, **inputs.logits)  # type: ignore[arg-type]
  config.teacher.logits = str(path)


def _needs_network(config: ConfigDict) -> str:
  """Returns what takes more of the teacher than stored logits; '' if none."""
  if not config_lib.distills(config.distill):
    return ''
  if config_lib.uses_features(config.distill):
    return f'method={config.distill.method!r} takes features of the teacher'
  if config.train.augmentation != 'none':
    return (
      f'augmentation={config.train.augmentation!r} takes outputs of the '
      "teacher's network for other views"
    )
  if config.teacher.live:
    return "fields['teacher.live'] calls the teacher's network"
  return ''
