"""Checks the fields of a config, without looking at the data."""

from collections.abc import Iterator

from ml_collections import ConfigDict
from ml_collections.config_flags import config_path

from kd_jax import data
from kd_jax.config_checks import model_checks, teaching_checks
from kd_jax.config_checks.checking import (
  check,
  check_at_least,
  check_fraction,
  check_limit,
  check_one_of,
  check_positive,
  check_seed,
)
from kd_jax.data import augmentation, preprocessing
from kd_jax.training import optimizers

_MOST_EPOCHS = 10**6
# Compiled functions count in 32 bits with a sign; keys take 32 bits without.
_TOO_LARGE = 2**31
_SEEDS = ('first_seed', 'teacher.seed')
# The type of the values of fields that hold several.
_ITEMS = {
  'benchmark.batch_sizes': int,
  'eval.bias_classes': int,
  'teacher.also_outputs': str,
  'teacher.rows': str,
}


def check_fields(config: ConfigDict) -> None:
  """Checks every field of a closed config.

  Raises:
    UserError: names the field, its value and what was expected.
  """
  _check_types(config)
  check_at_least('seeds', config.seeds, 1)
  check_seed('first_seed', config.first_seed)
  check_seed(
    'first_seed + config.seeds - 1', config.first_seed + config.seeds - 1
  )
  check_at_least('seeds_per_program', config.seeds_per_program, 0)
  check_one_of('loop', config.loop, ('auto', 'device', 'host'))
  check_at_least('mesh.data', config.mesh.data, 0)
  _check_data(config.data)
  model_checks.check_model('student', config.student)
  model_checks.check_model('teacher.model', config.teacher.model)
  for prefix, section in (('', config), ('teacher.', config.teacher)):
    _check_training(f'{prefix}train', section.train)
    _check_optimizer(f'{prefix}optim', section.optim)
    network = config.teacher.model if prefix else config.student
    _check_scales(f'{prefix}optim', section.optim, network)
  teaching_checks.check_transfer(config)
  teaching_checks.check_unlabeled(config)
  teaching_checks.check_teacher(config)
  teaching_checks.check_methods(config)
  teaching_checks.check_weights(config.distill)
  check_positive('eval.batch_size', config.eval.batch_size)
  check_at_least('eval.attacked_examples', config.eval.attacked_examples, 0)
  _check_benchmark(config.benchmark)


def _check_types(config: ConfigDict) -> None:
  """Checks the size of whole numbers, and the types of several values."""
  for field, value in _whole_numbers(config):
    check(
      field in _SEEDS or abs(value) < _TOO_LARGE,
      field,
      value,
      'a number below 2**31',
    )
  for field, kind in _ITEMS.items():
    values = config_path.get_value(field, config)
    check(
      all(isinstance(value, kind) for value in values),
      field,
      values,
      f'values of type {kind.__name__}',
    )


def _whole_numbers(
  section: ConfigDict, prefix: str = ''
) -> Iterator[tuple[str, int]]:
  """Yields the name and the value of every whole number of a config."""
  for name, value in section.items():
    if isinstance(value, ConfigDict):
      yield from _whole_numbers(value, f'{prefix}{name}.')
      continue
    for item in value if isinstance(value, tuple) else (value,):
      if isinstance(item, int):
        yield f'{prefix}{name}', item


def _check_data(section: ConfigDict) -> None:
  check_one_of('data.scaling', section.scaling, preprocessing.SCALINGS)
  for field in (
    'train_examples',
    'test_examples',
    'holdout_examples',
    'image_size',
  ):
    check_at_least(f'data.{field}', section[field], 0)
  check_limit('data.memory_gib', section.memory_gib)


def _check_training(prefix: str, section: ConfigDict) -> None:
  """Checks how long and on which examples a network trains."""
  check(
    1 <= section.epochs <= _MOST_EPOCHS,
    f'{prefix}.epochs',
    section.epochs,
    f'a number from 1 to {_MOST_EPOCHS:,}',
  )
  check_at_least(f'{prefix}.batch_size', section.batch_size, 1)
  check(
    section.folds == 0 or section.folds > 1,
    f'{prefix}.folds',
    section.folds,
    '0 (none) or at least 2',
  )
  check_fraction(f'{prefix}.holdout_fraction', section.holdout_fraction)
  check_at_least(f'{prefix}.mixup_alpha', section.mixup_alpha, 0)
  check_at_least(f'{prefix}.unlabeled_ratio', section.unlabeled_ratio, 0)
  check_one_of(
    f'{prefix}.augmentation', section.augmentation, augmentation.AUGMENTATIONS
  )
  check(
    data.find_subset(section.subset) is not None,
    f'{prefix}.subset',
    section.subset,
    f'one of {", ".join((*data.SUBSETS, *data.PATTERNS))}',
  )


def _check_optimizer(prefix: str, section: ConfigDict) -> None:
  check_one_of(f'{prefix}.name', section.name, optimizers.OPTIMIZERS)
  check_one_of(f'{prefix}.schedule', section.schedule, optimizers.SCHEDULES)
  check_positive(f'{prefix}.learning_rate', section.learning_rate)
  check_fraction(f'{prefix}.momentum', section.momentum)
  check_fraction(f'{prefix}.warmup_fraction', section.warmup_fraction)
  check_at_least(f'{prefix}.weight_decay', section.weight_decay, 0)
  check_positive(f'{prefix}.bias_factor', section.bias_factor)
  check_at_least(f'{prefix}.scale_factor', section.scale_factor, 0)


def _check_scales(
  prefix: str, section: ConfigDict, network: ConfigDict
) -> None:
  """Checks that scales which begin at 0 are trained."""
  check(
    section.scale_factor > 0 or not network.get('zero_init', False),
    f'{prefix}.scale_factor',
    section.scale_factor,
    'a number above 0, because zero_init starts scales at 0, where the blocks '
    'of the network do nothing; or set zero_init=false',
  )


def _check_benchmark(section: ConfigDict) -> None:
  for size in section.batch_sizes:
    check_at_least('benchmark.batch_sizes', size, 1)
  check_positive('benchmark.budget_s', section.budget_s)
  check_at_least('benchmark.cold_calls', section.cold_calls, 0)
  check_at_least('benchmark.cold_call_examples', section.cold_call_examples, 1)
