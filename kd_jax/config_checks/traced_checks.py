"""Checks what a config names by tracing it on the shapes of its data.

Nothing is computed: JAX traces networks, scalings and methods on shapes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import methods
from kd_jax.config_checks.checking import check
from kd_jax.data import ImageTask, preprocessing
from kd_jax.models import apply, from_config, user
from kd_jax.runtime import errors
from kd_jax.teachers import provider
from kd_jax.training import method_terms, training_functions
from kd_jax.training import objective as objectives
from kd_jax.training.batch import Batch


def trace_scalings(config: ConfigDict, task: ImageTask) -> None:
  """Checks that a closed config's scalings fit the channels of its images.

  Raises:
    UserError: names the field of a scaling that does not fit.
  """
  section = config.teacher
  fields = {'data.scaling': [config.data.scaling]}
  if not provider.has_only_logits(section):
    fields['teacher.outputs_scaling'] = [section.outputs_scaling]
    fields['teacher.also_outputs'] = section.also_outputs
    if provider.is_trained_here(section):
      fields['teacher.scaling'] = [section.scaling]
  images = jax.ShapeDtypeStruct((2, *task.image_shape), jnp.uint8)

  def fits(scale):
    try:
      return jax.eval_shape(scale, images).shape == images.shape
    except (TypeError, ValueError):  # Its constants are for other channels.
      return False

  fitting = [
    name for name, scale in preprocessing.SCALINGS.items() if fits(scale)
  ]
  for field, scalings in fields.items():
    for scaling in scalings:
      check(
        scaling in fitting,
        field,
        scaling,
        f'one of {", ".join(fitting)} for images {list(task.image_shape)}',
      )


def trace_networks(config: ConfigDict, task: ImageTask) -> None:
  """Traces the networks that a closed config takes from the user.

  Raises:
    UserError: if a network does not give logits [B, K] for images
      [B, H, W, C].
  """
  for field, model in (
    ('student.kind', config.student),
    ('teacher.model.kind', config.teacher.model),
  ):
    if model.kind in (*from_config.MODELS, from_config.USER_FEATURES):
      continue
    name = model.kind
    if model.kind == from_config.USER_TRAINED:
      field, name = 'teacher.module', model.module
    mistake = _find_mistake(model, task)
    if mistake:
      raise errors.UserError(f'config.{field}={name!r}: {mistake}')


def _find_mistake(model: ConfigDict, task: ImageTask) -> str:
  """Returns what is wrong with a user's network, or ''."""
  try:
    # Outside of the traces below: a trained network holds arrays.
    module = from_config.make_module(model, task.num_classes)
  except Exception as error:  # The user's code may raise anything.
    return _explain(error)
  is_trained = model.kind == from_config.USER_TRAINED
  for mode in (False,) if is_trained else (False, True):
    try:
      mistake = _trace_call(module, task, mode)
    except Exception as error:
      when = ' in training' if mode else ''
      return f'{_explain(error)} (called{when} as {module.call})'
    if mistake:
      return mistake
  return ''


def _explain(error: Exception) -> str:
  """Returns the message, in one line, for an error in a user's code."""
  if isinstance(error, user.FunctionError):
    return str(error)
  return errors.in_a_line(error)


def _trace_call(module: Any, task: ImageTask, train: bool) -> str:
  """Traces a call of a user's network; returns what is wrong, or ''."""
  images = jax.ShapeDtypeStruct((2, *task.image_shape), jnp.float32)
  forward = apply.make_apply(module)
  returned: list[str] = []

  def call(key, images):
    variables = apply.init_variables(module, task.image_shape, key)
    logits, features, batch_stats = forward(
      variables, images, train=train, key=key if train else None
    )
    returned.extend(features)
    return logits, variables['batch_stats'], batch_stats

  logits, before, after = jax.eval_shape(call, jax.random.key(0), images)
  if getattr(logits, 'shape', None) != (2, task.num_classes):
    if hasattr(logits, 'shape'):
      logits = f'{logits.dtype} {list(logits.shape)}'
    return (
      f'for images {list(images.shape)} it gives {logits}; expected logits '
      f'[2, {task.num_classes}]'
    )
  missing = sorted(set(module.feature_names) - set(returned))
  if missing:
    return (
      f'feature_names lists {", ".join(missing)}; expected names of features '
      f'that the network returns ({", ".join(returned) or "none"})'
    )
  if after != before:
    return (
      f'batch_stats become {after}; expected the structure, shapes and types '
      f'of the initial ones, {before}'
    )
  return ''


def find_weaknesses(
  configs: Mapping[str, ConfigDict], task: ImageTask
) -> list[str]:
  """Returns a sentence for each method of which a part teaches nothing.

  Args:
    configs: the closed config of each row.
    task: images and classes.
  """
  sentences = []
  for config in configs.values():
    for name, options in config_lib.method_options(config.distill).items():
      find = methods.METHODS[name].find_weakness
      if find is None:
        continue
      shapes = _compared_shapes(config, task, options.get('layers', ''))
      weakness = find(task.num_classes, *shapes)
      if weakness:
        sentences.append(f'config.distill.method={name}: {weakness}')
  return list(dict.fromkeys(sentences))


def _compared_shapes(
  config: ConfigDict, task: ImageTask, layers: str
) -> tuple[tuple, tuple]:
  """Returns the shapes of the student's and the teacher's compared layers."""
  if not layers:
    return (), ()
  setup = _method_setup(config, task)
  shapes = setup.student_shapes, setup.teacher_shapes
  pairs = methods.match_layers(layers, *shapes)
  student, teacher = (
    tuple(by_name[names[i]] for names in pairs)
    for i, by_name in enumerate(shapes)
  )
  return student, teacher


def _method_setup(
  config: ConfigDict, task: ImageTask
) -> method_terms.MethodSetup:
  """Returns what the methods of a closed config compare."""
  return training_functions.method_setup(
    config.student,
    config.teacher.model,
    config.data.scaling,
    task,
    feature_bits=config.teacher.feature_bits,
  )


def trace_methods(config: ConfigDict, task: ImageTask) -> None:
  """Traces each method of a closed config once.

  Raises:
    UserError: if a layer does not exist, or layers cannot be compared.
  """
  setup = _method_setup(config, task)
  # Not the number of classes: a loss [K] is no loss of each example.
  num_examples = 2 if task.num_classes != 2 else 3
  array: Callable[..., Any] = lambda *shape, dtype=jnp.float32: (
    jax.ShapeDtypeStruct((num_examples, *shape), dtype)
  )
  student_features, teacher_features = (
    {layer: array(*shape) for layer, shape in shapes.items()}
    for shapes in (setup.student_shapes, setup.teacher_shapes)
  )
  batch = Batch(
    images=array(*task.image_shape),
    labels=array(dtype=jnp.int32),
    mask=array(),
    teacher_logits=array(task.num_classes),
    teacher_features={
      methods.stored_layer(layer, rounded): value
      for layer, value in teacher_features.items()
      for rounded in (False, True)
    },
  )
  hyperparameters = training_functions.hyperparameters_of_epoch(
    config.optim, config.distill, 0
  )
  for name, options in config_lib.method_options(config.distill).items():

    def terms(key, logits, features, batch, name=name, options=options):
      objective = objectives.make_objective(
        {name: methods.split_options(options)[1]}, setup
      )
      forward = lambda images: logits + 0 * jnp.sum(images)
      student = method_terms.StudentOutputs(logits, features, forward, key)
      inputs = method_terms.TermInputs(
        objective.init(key), student, batch, hyperparameters
      )
      return objective.terms(inputs), objective.discriminator_terms(inputs)

    try:
      jax.eval_shape(
        terms,
        jax.random.key(0),
        array(task.num_classes),
        student_features,
        batch,
      )
    except ValueError as error:
      raise errors.UserError(f'config.distill.{name}: {error}') from None
    except Exception as error:  # A method of the user may raise anything.
      raise errors.UserError(
        f'config.distill.{name}: {_explain(error)}'
      ) from error
