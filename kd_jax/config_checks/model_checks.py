"""Checks the model sections of a config."""

import dataclasses

from ml_collections import ConfigDict

from kd_jax.config_checks.checking import (
  check,
  check_at_least,
  check_fraction,
  check_one_of,
)
from kd_jax.models import from_config, initializers, quantization, resnet, user
from kd_jax.runtime import errors

# The least value of each number in a list that shapes a network.
_LEAST = {
  'hidden': 1,
  'filters': 1,
  'widths': 1,
  'strides': 1,
  'blocks': 0,
}


def check_model(prefix: str, model: ConfigDict) -> None:
  """Checks a model section.

  Args:
    prefix: the section's dotted name.
    model: the section.
  Raises:
    UserError: names the field, its value and what was expected.
  """
  _check_kind(prefix, model)
  check_one_of(f'{prefix}.dtype', model.dtype, from_config.DTYPES)
  _check_quantization(prefix, model)
  check(
    model.temperature > 0,
    f'{prefix}.temperature',
    model.temperature,
    'a number above 0',
  )
  check_fraction(f'{prefix}.dropout_rate', model.get('dropout_rate', 0.0))
  for field, least in _LEAST.items():
    values = model.get(field, ())
    check(
      isinstance(values, tuple | list)
      and all(type(value) is int and value >= least for value in values),
      f'{prefix}.{field}',
      values,
      f'whole numbers of at least {least}',
    )
  if model.kind == 'resnet':
    _check_resnet(prefix, model)


def _check_kind(prefix: str, model: ConfigDict) -> None:
  """Checks that the kind is known, and that its fields are the section's."""
  if user.is_function_name(model.kind):
    _check_user_function(f'{prefix}.kind', model.kind)
    return
  if model.kind == from_config.USER_TRAINED:
    _check_user_function('teacher.module', model.module)
    return
  if model.kind == from_config.USER_FEATURES:
    return
  check_one_of(f'{prefix}.kind', model.kind, from_config.MODELS)
  fields = {
    field.name: field
    for field in dataclasses.fields(from_config.MODELS[model.kind])
  }
  foreign = sorted(set(model) - fields.keys() - {'kind'})
  check(
    not foreign,
    f'{prefix}.kind',
    model.kind,
    f'one that has the fields of this recipe ({", ".join(foreign)}): choose '
    'a recipe of that kind of network',
  )
  missing = [
    name
    for name, field in fields.items()
    if field.default is field.default_factory is dataclasses.MISSING
    and name not in {'num_classes', *model}
  ]
  check(
    not missing,
    f'{prefix}.kind',
    model.kind,
    f'one that needs no fields that are missing here ({", ".join(missing)}): '
    'choose a recipe of that kind of network',
  )


def _check_user_function(field: str, name: str) -> None:
  try:
    user.find_function(name)
  except user.FunctionError as error:
    raise errors.UserError(f'config.{field}={name!r}: {error}') from None


def _check_quantization(prefix: str, model: ConfigDict) -> None:
  """Checks that a network can be quantized as its section says."""
  field = f'{prefix}.quantization'
  scheme = model.quantization
  check_one_of(field, scheme, quantization.SCHEMES)
  is_quantized = from_config.is_quantized(model)
  check(
    not is_quantized or model.dtype == 'float32',
    field,
    scheme,
    f'float with {prefix}.dtype={model.dtype!r}, or float32',
  )
  check(
    not is_quantized or model.kind in from_config.MODELS,
    field,
    scheme,
    f'float with {prefix}.kind={model.kind!r}',
  )


def _check_resnet(prefix: str, model: ConfigDict) -> None:
  check_one_of(f'{prefix}.block', model.block, resnet.BLOCKS)
  for field in ('widths', 'strides'):
    check(
      len(model[field]) == len(model.blocks),
      f'{prefix}.{field}',
      model[field],
      f'one for each of {prefix}.blocks={model.blocks}',
    )
  # A record of an older version lacks some of the fields.
  for field, choices in (
    ('stem_init', initializers.KERNELS),
    ('conv_init', initializers.KERNELS),
    ('head_pool', resnet.HEAD_POOLS),
  ):
    if field in model:
      check_one_of(f'{prefix}.{field}', model[field], choices)
  check_at_least(f'{prefix}.stem_stride', model.stem_stride, 1)
  check_at_least(f'{prefix}.min_blocks', model.min_blocks, 0)
