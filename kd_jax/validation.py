"""A mistake in a config, or in what it names: told before any work is done.

`validate` looks at the config alone; `check_networks` and `check_methods` trace
what it names, on the shapes of its data.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_flags import config_path

from kd_jax import data, methods, models
from kd_jax.data import augmentation, preprocessing
from kd_jax.runtime import errors
from kd_jax.teachers import stored_outputs as teacher_outputs
from kd_jax.training import build, objectives, optimizers


def _check(ok: bool, field: str, value: Any, expected: str) -> None:
  if not ok:
    raise errors.UserError(f'config.{field}={value!r}: expected {expected}')


def _one_of(field: str, value: str, known) -> None:
  _check(value in known, field, value, f'one of {", ".join(sorted(known))}')


def _positive(field: str, value) -> None:
  _check(0 < value < math.inf, field, value, 'a number above 0')


def _at_least(field: str, value, least) -> None:
  _check(value >= least, field, value, f'a number of at least {least}')


def _seed(field: str, value) -> None:
  # JAX makes a key of a seed's last 32 bits: others would come again.
  _check(0 <= value < 2**32, field, value, 'a number from 0 to 2**32 - 1')


def _fraction(field: str, value) -> None:
  _check(0 <= value < 1, field, value, 'a number in [0, 1)')


# The least value of each number in a list that shapes a network.
_WHOLE_NUMBERS = {
  'hidden': 1, 'filters': 1, 'widths': 1, 'strides': 1, 'blocks': 0,
}  # fmt: skip


_MOST_EPOCHS = 10**6
# Programs count in 32 bits, and seeds without a sign.
_TOO_LARGE = 2**31
_SEEDS = ('first_seed', 'teacher.seed')

# Of what a field that holds several values has them.
_ITEMS = {
  'benchmark.batch_sizes': int,
  'eval.bias_classes': int,
  'teacher.also_outputs': str,
  'teacher.rows': str,
}


def validate(config: ConfigDict) -> None:
  """Checks a closed config.

  Raises:
    UserError: names the field, its value and what was expected.
  """
  for field, value in _numbers(config):
    _check(
      field in _SEEDS or abs(value) < _TOO_LARGE,
      field,
      value,
      'a number below 2**31',
    )
  for field, kind in _ITEMS.items():
    values = config_path.get_value(field, config)
    _check(
      all(isinstance(value, kind) for value in values),
      field,
      values,
      f'values of type {kind.__name__}',
    )
  _at_least('seeds', config.seeds, 1)
  _seed('first_seed', config.first_seed)
  _seed('first_seed + config.seeds - 1', config.first_seed + config.seeds - 1)
  _at_least('seeds_per_program', config.seeds_per_program, 0)
  _one_of('data.scaling', config.data.scaling, preprocessing.SCALINGS)
  for field in ('train_examples', 'test_examples', 'holdout_examples'):
    _at_least(f'data.{field}', config.data[field], 0)
  _at_least('data.memory_gib', config.data.memory_gib, 0)
  _at_least('data.image_size', config.data.image_size, 0)
  _one_of('loop', config.loop, ('auto', 'device', 'host'))
  _at_least('mesh.data', config.mesh.data, 0)
  _validate_model('student', config.student)
  _validate_model('teacher.model', config.teacher.model)
  for prefix, section in (('', config), ('teacher.', config.teacher)):
    _validate_training(f'{prefix}train', section.train)
    _validate_optimizer(f'{prefix}optim', section.optim)
  _validate_transfer(config)
  _validate_teacher(config)
  _validate_methods(config)
  _validate_weights(config.distill)
  _positive('eval.batch_size', config.eval.batch_size)
  _at_least('eval.attacked_examples', config.eval.attacked_examples, 0)
  for size in config.benchmark.batch_sizes:
    _at_least('benchmark.batch_sizes', size, 1)
  _positive('benchmark.budget_s', config.benchmark.budget_s)
  _at_least('benchmark.cold_calls', config.benchmark.cold_calls, 0)
  _at_least(
    'benchmark.cold_call_examples', config.benchmark.cold_call_examples, 1
  )


def _numbers(section: ConfigDict, prefix: str = '') -> Iterator[tuple]:
  """Yields the whole numbers of a config, with the names of their fields."""
  for name, value in section.items():
    if isinstance(value, ConfigDict):
      yield from _numbers(value, f'{prefix}{name}.')
      continue
    for item in value if isinstance(value, tuple) else (value,):
      if isinstance(item, int):
        yield f'{prefix}{name}', item


def _validate_model(prefix: str, section: ConfigDict) -> None:
  """Checks a model section."""
  if models.user.is_function_name(section.kind):
    _find_own(f'{prefix}.kind', section.kind)
  elif section.kind == build.TRAINED:
    _find_own('teacher.module', section.module)
  else:
    _one_of(f'{prefix}.kind', section.kind, build.MODELS)
    own = {
      field.name for field in dataclasses.fields(build.MODELS[section.kind])
    }
    foreign = sorted(set(section) - own - {'kind'})
    _check(
      not foreign,
      f'{prefix}.kind',
      section.kind,
      f'one that has the fields of this recipe ({", ".join(foreign)}): choose '
      'a recipe of that kind of network',
    )
  _one_of(f'{prefix}.dtype', section.dtype, ('float32', 'bfloat16'))
  _one_of(
    f'{prefix}.quantization', section.quantization, models.quantization.SCHEMES
  )
  _check(
    not build.is_quantized(section) or section.dtype == 'float32',
    f'{prefix}.quantization',
    section.quantization,
    f'float with {prefix}.dtype={section.dtype!r}, or float32',
  )
  _check(
    section.kind in build.MODELS or not build.is_quantized(section),
    f'{prefix}.quantization',
    section.quantization,
    f'float with {prefix}.kind={section.kind!r}',
  )
  temperature = section.temperature
  _check(
    temperature > 0, f'{prefix}.temperature', temperature, 'a number above 0'
  )
  rate = section.get('dropout_rate', 0.0)
  _check(0 <= rate < 1, f'{prefix}.dropout_rate', rate, 'a number in [0, 1)')
  for field, least in _WHOLE_NUMBERS.items():
    values = section.get(field, ())
    _check(
      all(isinstance(value, int) and value >= least for value in values),
      f'{prefix}.{field}',
      values,
      f'whole numbers of at least {least}',
    )
  if section.kind == 'resnet':
    _one_of(f'{prefix}.block', section.block, models.resnet.BLOCKS)
    for field in ('widths', 'strides'):
      _check(
        len(section[field]) == len(section.blocks),
        f'{prefix}.{field}',
        section[field],
        f'one for each of {prefix}.blocks={section.blocks}',
      )
    for field, least in (('stem_stride', 1), ('min_blocks', 0)):
      _check(
        section[field] >= least,
        f'{prefix}.{field}',
        section[field],
        f'a number of at least {least}',
      )


def _find_own(field: str, name: str) -> None:
  try:
    models.user.find_function(name)
  except models.user.FunctionError as error:
    raise errors.UserError(f'config.{field}={name!r}: {error}') from None


def _validate_training(prefix: str, section: ConfigDict) -> None:
  """Checks how a network is trained, and on which examples."""
  _check(
    1 <= section.epochs <= _MOST_EPOCHS,
    f'{prefix}.epochs',
    section.epochs,
    f'a number from 1 to {_MOST_EPOCHS:,}',
  )
  _at_least(f'{prefix}.batch_size', section.batch_size, 1)
  _check(
    section.folds == 0 or section.folds > 1,
    f'{prefix}.folds',
    section.folds,
    '0 (none) or at least 2',
  )
  _fraction(f'{prefix}.holdout_fraction', section.holdout_fraction)
  _at_least(f'{prefix}.mixup_alpha', section.mixup_alpha, 0)
  _one_of(
    f'{prefix}.augmentation', section.augmentation, augmentation.AUGMENTATIONS
  )
  _check(
    data.find_subset(section.subset) is not None,
    f'{prefix}.subset',
    section.subset,
    f'one of {", ".join((*data.SUBSETS, *data.PATTERNS))}',
  )


def _validate_optimizer(prefix: str, section: ConfigDict) -> None:
  _one_of(f'{prefix}.name', section.name, optimizers.OPTIMIZERS)
  _one_of(f'{prefix}.schedule', section.schedule, optimizers.SCHEDULES)
  _positive(f'{prefix}.learning_rate', section.learning_rate)
  _fraction(f'{prefix}.momentum', section.momentum)
  _fraction(f'{prefix}.warmup_fraction', section.warmup_fraction)
  _at_least(f'{prefix}.weight_decay', section.weight_decay, 0)


def _validate_transfer(config: ConfigDict) -> None:
  """Checks what students are shown besides their data set."""
  transfer_set, known = config.train.transfer_set, data.TRANSFER_SETS
  _one_of('train.transfer_set', transfer_set, ('', *known, *data.names()))
  _check(
    not config.teacher.train.transfer_set,
    'teacher.train.transfer_set',
    config.teacher.train.transfer_set,
    "'': the teacher learns its data set",
  )
  _check(
    not (transfer_set and _outputs_alone(config.teacher)),
    'train.transfer_set',
    transfer_set,
    "'', or a teacher that is trained here (teacher.retrain=true), to be shown "
    'it: these outputs are of the training split',
  )
  if config.eval.bias_classes:
    _check(
      config.train.holdout_fraction > 0 and not transfer_set,
      'eval.bias_classes',
      config.eval.bias_classes,
      '(), or a part of the training split to choose a bias on: '
      "train.holdout_fraction above 0 and train.transfer_set=''",
    )


def _validate_teacher(config: ConfigDict) -> None:
  """Checks the teacher, and whether it can teach what is asked for."""
  teacher = config.teacher
  for field in ('scaling', 'outputs_scaling'):
    _one_of(f'teacher.{field}', teacher[field], preprocessing.SCALINGS)
  for scaling in teacher.also_outputs:
    _one_of('teacher.also_outputs', scaling, preprocessing.SCALINGS)
  _check(
    teacher.class_shift == 0
    or not (teacher.live or config.train.augmentation != 'none'),
    'teacher.class_shift',
    teacher.class_shift,
    '0 with a live teacher or augmented images: stored outputs are shifted',
  )
  _one_of('teacher.average', teacher.average, teacher_outputs.AVERAGES)
  _seed('teacher.seed', teacher.seed)
  _check(
    teacher.distill.kd_weight == 0,
    'teacher.distill.kd_weight',
    teacher.distill.kd_weight,
    '0: the teacher learns from labels',
  )
  _check(
    not teacher.rows
    or not (
      teacher.live
      or build.uses_features(config.distill)
      or config.train.augmentation != 'none'
    ),
    'teacher.rows',
    teacher.rows,
    '() with a live teacher, a method that takes features, or augmented '
    'images: of a row there are the logits of the images as they are',
  )
  _check(
    not (teacher.live and teacher.logits),
    'teacher.live',
    teacher.live,
    'false with teacher.logits: a file has no network to call',
  )
  _check(
    not (teacher.live and _outputs_alone(teacher)),
    'teacher.live',
    teacher.live,
    f'teacher.retrain=true with it: {teacher.shipped} holds outputs alone',
  )
  _check(
    config.train.augmentation == 'none'
    or config.distill.kd_weight == 0
    or not _outputs_alone(teacher),
    'train.augmentation',
    config.train.augmentation,
    "'none', or a teacher that is trained here (teacher.retrain=true): these "
    'outputs are of the images as they are',
  )


def _outputs_alone(teacher: ConfigDict) -> bool:
  """Whether of a teacher there are outputs, and no network to be called."""
  return bool(
    teacher.logits
    or (
      teacher.shipped
      and not (teacher.retrain or teacher.module)
      and not teacher_outputs.has_weights(teacher.shipped)
    )
  )


def _validate_methods(config: ConfigDict) -> None:
  """Checks which methods there are, their options, and their teacher."""
  distill, teacher = config.distill, config.teacher
  for name in distill.method.split('+'):
    _check(
      name in methods.METHODS and name in distill,
      'distill.method',
      distill.method,
      f'one of {", ".join(sorted(methods.METHODS))}, or several joined by +',
    )
    traced, _ = methods.split_options(distill[name].to_dict())
    for option, value in traced.items():
      _check(
        math.isfinite(value) and (value >= 0 or option != 'weight'),
        f'distill.{name}.{option}',
        value,
        'a number, and of a weight one of at least 0',
      )
  _check(
    distill.ce_weight > 0
    or not build.method_options(distill)
    or any(
      methods.METHODS[name].inputs & {'student_logits', 'student_fn'}
      for name in build.method_options(distill)
    ),
    'distill.ce_weight',
    distill.ce_weight,
    f'a weight above 0, or a method beside {distill.method} that learns '
    'logits: nothing would train the last layer',
  )
  _check(
    not build.uses_features(distill) or not _outputs_alone(config.teacher),
    'distill.method',
    distill.method,
    'a method that takes no features, or a teacher that is trained here '
    f'(teacher.retrain=true): {teacher.logits or teacher.shipped} holds '
    'logits alone',
  )
  _check(
    0 <= teacher.feature_bits <= 16,
    'teacher.feature_bits',
    teacher.feature_bits,
    'a number from 0 to 16',
  )
  _check(
    teacher.feature_bits > 0 or not build.uses_rounded(distill),
    'teacher.feature_bits',
    teacher.feature_bits,
    f'a number from 1 to 16 for the method {distill.method}',
  )
  _check(
    teacher.features_gib >= 0,
    'teacher.features_gib',
    teacher.features_gib,
    'a number of at least 0',
  )


def _validate_weights(distill: ConfigDict) -> None:
  """Checks the weights of the loss, and its temperature."""
  _positive('distill.temperature', distill.temperature)
  for field in ('ce_weight', 'kd_weight', 'kd_warmup_epochs'):
    _at_least(f'distill.{field}', distill[field], 0)
  _check(
    distill.ce_weight + distill.kd_weight > 0,
    'distill.ce_weight + distill.kd_weight',
    0,
    'at least one weight above 0: nothing would be learned',
  )
  _fraction('distill.label_smoothing', distill.label_smoothing)


def check_scalings(config: ConfigDict, image_shape: tuple[int, ...]) -> None:
  """Checks that a closed config's scalings are of images of such channels.

  Raises:
    UserError: names the field of one that is not.
  """
  teacher = config.teacher
  fields = {'data.scaling': [config.data.scaling]}
  if not _outputs_alone(teacher):
    fields['teacher.outputs_scaling'] = [teacher.outputs_scaling]
    fields['teacher.also_outputs'] = teacher.also_outputs
    if not teacher.module and (teacher.retrain or not teacher.shipped):
      fields['teacher.scaling'] = [teacher.scaling]
  images = jax.ShapeDtypeStruct((2, *image_shape), jnp.uint8)

  def fits(scale):
    try:
      return jax.eval_shape(scale, images).shape == images.shape
    except (TypeError, ValueError):  # Its constants are of other channels.
      return False

  fitting = [name for name, own in preprocessing.SCALINGS.items() if fits(own)]
  for field, scalings in fields.items():
    for scaling in scalings:
      _check(
        scaling in fitting,
        field,
        scaling,
        f'of images {list(image_shape)} one of {", ".join(fitting)}',
      )


def check_networks(
  config: ConfigDict, num_classes: int, image_shape: tuple[int, ...]
) -> None:
  """Traces the networks of the user's own that a closed config has.

  Raises:
    UserError: if they do not give logits [B, K] for images [B, H, W, C].
  """
  for field, section in (
    ('student.kind', config.student),
    ('teacher.model.kind', config.teacher.model),
  ):
    if section.kind in build.MODELS:
      continue
    name = section.kind
    if section.kind == build.TRAINED:
      field, name = 'teacher.module', section.module
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    try:
      (logits, _), _ = jax.eval_shape(
        functools.partial(
          build.model(section, num_classes).init_with_output, train=False
        ),
        jax.random.key(0),
        images,
      )
      problem = None
    except Exception as error:  # It is the user's code.
      problem = f'{type(error).__name__}: {error}'
    else:
      if getattr(logits, 'shape', None) != (2, num_classes):
        problem = (
          f'for images {list(images.shape)} it gives {logits}; expected logits '
          f'[2, {num_classes}]'
        )
    if problem:
      raise errors.UserError(f'config.{field}={name!r}: {problem}')


def check_methods(
  config: ConfigDict, num_classes: int, image_shape: tuple[int, ...]
) -> None:
  """Traces each method of a closed config once, on shapes alone.

  Raises:
    UserError: if layers are not there, or cannot be compared.
  """
  own_task = build.task(
    config.student,
    config.teacher.model,
    config.data.scaling,
    num_classes,
    image_shape,
    feature_bits=config.teacher.feature_bits,
  )
  array = lambda *shape: jax.ShapeDtypeStruct((2, *shape), jnp.float32)
  outputs, teacher = (
    objectives.Outputs(
      array(num_classes), {name: array(*shape) for name, shape in own.items()}
    )
    for own in (own_task.student_shapes, own_task.teacher_shapes)
  )
  batch = {
    'images': array(*image_shape),
    'labels': jax.ShapeDtypeStruct((2,), jnp.int32),
    'mask': array(),
    'teacher_logits': teacher.logits,
    'teacher_features': {
      methods.stored_layer(layer, rounded): value
      for layer, value in teacher.features.items()
      for rounded in (False, True)
    },
  }
  weights = build.settings(config.optim, config.distill, 0).weights
  for name, options in build.method_options(config.distill).items():

    def terms(key, outputs, batch, name=name, options=options):
      student_fn = lambda images: outputs.logits + 0 * jnp.sum(images)
      objective = objectives.make_objective(
        {name: methods.split_options(options)[1]}, task=own_task
      )
      batch |= {'key': key, 'student_fn': student_fn}
      arguments = (objective.init(key), outputs, batch, weights)
      return objective.fn(*arguments), objective.rival_fn(*arguments)

    try:
      jax.eval_shape(terms, jax.random.key(0), outputs, batch)
    except ValueError as error:
      raise errors.UserError(f'config.distill.{name}: {error}') from None
