"""The content of a config, and what determines a result.

A config (see config_fields.py) is a ConfigDict whose `rows` are the students
it trains. `close_row` gives the closed config of one row, in which every field
has a value. An identity is a JSON value that determines a result: the sections
of the config that matter, the digest of the data, the digests of weights. A
stored result is used only if its identity is the one that is asked for.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_flags import config_path

from kd_jax import data, methods
from kd_jax.models import from_config, user
from kd_jax.sections import TrainingSections

# Fields that do not change a student: commands in one folder may differ in
# them.
FREE_FIELDS = (
  'seeds',
  'first_seed',
  'seeds_per_program',
  'mesh',
  'loop',
  'benchmark',
)
# Renamed fields: the name in older records, and today's name.
RENAMED = {
  'arithmetic': 'quantization',
  'rival_rate': 'discriminator_rate',
  'shipped': 'pretrained',
  'ship_weights': 'publish_weights',
  'experiment': 'theory',
}
_OLD_NAMES = {new: old for old, new in RENAMED.items()}
_ADDED_TO_RESNET = {
  'stem_init': 'kaiming',
  'conv_init': 'kaiming',
  'head_pool': 'mean',
}
# Fields that are younger than many records and identities, with their defaults.
# Identities leave out a default, so that older results remain valid.
_ADDED: dict[str, dict[str, Any]] = {
  'model': _ADDED_TO_RESNET,
  'student': _ADDED_TO_RESNET,
  'optim': {'bias_factor': 1.0, 'scale_factor': 1.0},
  'train': {'unlabeled': '', 'unlabeled_ratio': 0.0},
  'teacher': {'features': ''},
}
# `train.unlabeled` with this value: the training examples that the subset
# leaves out, without their labels.
REST = 'rest'
# Starts the name of a transfer set that adds images without labels.
UNLABELED_PREFIX = 'unlabeled:'


# --- Rows and sections. ---


def close_row(config: ConfigDict, row: str) -> ConfigDict:
  """Returns the closed config of one row, in which no field is open.

  An open field (None) takes the row's value. A field that is not open was
  given on the command line, and stays. A row that learns from labels alone
  leaves out images without labels.
  """
  # The other rows are left out: copying them would be most of the work.
  closed = ConfigDict(
    {
      field: value.copy_and_resolve_references()
      if isinstance(value, ConfigDict)
      else value
      for field, value in config.items()
      if field != 'rows'
    }
  )
  for path, value in _leaves(config.rows[row]):
    if config_path.get_value(path, closed) is None:
      config_path.set_value(path, closed, value)
  closed.rows = ConfigDict({row: {}})
  # A record of an older version lacks the fields.
  if 'unlabeled' in closed.train and not distills(closed.distill):
    closed.train.update(_ADDED['train'])
  closed.lock()
  return closed


def _leaves(section: ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Yields the dotted name and the value of every field."""
  for key, value in section.items():
    if isinstance(value, ConfigDict):
      yield from _leaves(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def student_sections(config: ConfigDict) -> TrainingSections:
  """Returns what a closed config says of its student's training."""
  return TrainingSections(
    config.student,
    config.train,
    config.optim,
    config.distill,
    field='train',
    scaling=config.data.scaling,
    bias_classes=config.eval.bias_classes,
  )


def teacher_sections(config: ConfigDict) -> TrainingSections:
  """Returns what a config says of its teacher's training."""
  section = config.teacher
  return TrainingSections(
    section.model,
    section.train,
    section.optim,
    section.distill,
    field='teacher.train',
    scaling=section.scaling,
  )


def transfer_set_name(config: ConfigDict) -> str:
  """Returns the name of what a closed config's student sees as training split.

  '' is the training split itself.
  """
  unlabeled = config.train.unlabeled
  if unlabeled and unlabeled != REST:
    return f'{UNLABELED_PREFIX}{unlabeled}'
  return config.train.transfer_set


def canonical_model(model: ConfigDict) -> ConfigDict:
  """Returns a model section that is equal for equal networks.

  For example, 0 blocks that count as one block become 1 block.
  """
  section = model.copy_and_resolve_references()
  if section.kind == 'resnet':
    least = section.min_blocks
    section.blocks = tuple(max(count, least) for count in section.blocks)
    section.min_blocks = 0
  return section


# --- Methods. ---


def distills(distill: ConfigDict) -> bool:
  """Returns whether a `distill` section uses methods, and so a teacher."""
  return distill.kd_weight != 0


def method_options(distill: ConfigDict) -> dict[str, dict[str, Any]]:
  """Returns the options of each method that a `distill` section uses.

  If the section does not distill, returns {}.
  """
  if not distills(distill):
    return {}
  return {name: distill[name].to_dict() for name in distill.method.split('+')}


def uses_features(distill: ConfigDict) -> bool:
  """Returns whether a method of a `distill` section takes features."""
  return any(
    methods.METHODS[name].uses_features for name in method_options(distill)
  )


def uses_rounded_features(distill: ConfigDict) -> bool:
  """Returns whether a method of a `distill` section takes rounded features."""
  return any(
    methods.METHODS[name].uses_rounded for name in method_options(distill)
  )


def teacher_layers(
  config: ConfigDict, task: data.ImageTask
) -> dict[int, methods.Shapes]:
  """Returns the teacher's layers that a closed config's methods take.

  Returns:
    The shapes of the layers by name, by the bits that they are rounded to. 0
    bits are for features that are not rounded.
  """
  layers: dict[int, methods.Shapes] = {}
  for name, options in method_options(config.distill).items():
    method = methods.METHODS[name]
    if not method.uses_features:
      continue
    student, teacher = (
      from_config.feature_shapes(model, task)
      for model in (config.student, config.teacher.model)
    )
    pairs = methods.match_layers(options['layers'], student, teacher)
    bits = config.teacher.feature_bits if method.uses_rounded else 0
    layers.setdefault(bits, {}).update(
      {layer: teacher[layer] for _, layer in pairs}
    )
  return layers


def _with_methods(distill: ConfigDict, names: Iterable[str]) -> ConfigDict:
  """Returns a `distill` section with the options of these methods alone."""
  kept = distill.copy_and_resolve_references()
  kept.unlock()
  for name in methods.METHODS.keys() - set(names):
    if name in kept:
      del kept[name]
  return kept


# --- Records. ---


def to_json(config: ConfigDict) -> dict[str, Any]:
  """Returns a config as JSON gives it back: tuples become lists."""
  return _convert(config.to_dict(), tuple, list)


def from_json(value: Mapping[str, Any]) -> ConfigDict:
  """Returns the config of a record: lists become tuples, old names new."""
  return ConfigDict(_convert(rename_fields(value), list, tuple))


def _convert(
  value: Any, kind: type[list | tuple], target: type[list | tuple]
) -> Any:
  if isinstance(value, dict):
    return {key: _convert(item, kind, target) for key, item in value.items()}
  if isinstance(value, kind):
    return target(_convert(item, kind, target) for item in value)
  return value


def rename_fields(value: Any, names: Mapping[str, str] | None = None) -> Any:
  """Returns a JSON value with renamed fields, at any depth.

  Args:
    value: a JSON value of a record.
    names: the name in the result of each name in the value; RENAMED if
      None, which reads older records.
  """
  names = RENAMED if names is None else names
  if isinstance(value, Mapping):
    return {
      names.get(key, key): rename_fields(item, names)
      for key, item in value.items()
    }
  if isinstance(value, list):
    return [rename_fields(item, names) for item in value]
  return value


def recorded(config: ConfigDict) -> dict[str, Any]:
  """Returns a config as a run's record holds it, as JSON values.

  Options of methods that no row uses are left out, so that a method that is new
  to the library leaves old runs valid.
  """
  used = {
    name
    for row in config.rows
    for name in method_options(close_row(config, row).distill)
  }
  config = config.copy_and_resolve_references()
  config.unlock()
  config.distill = _with_methods(config.distill, used)
  config.teacher.distill = _with_methods(config.teacher.distill, ())
  return to_json(config)


def fixed_fields(record: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a recorded config without the fields that change no student."""
  drop = lambda fields: _without_added(
    {key: value for key, value in fields.items() if key not in FREE_FIELDS}
  )
  # A record of theory has neither rows nor data.
  rows = {name: drop(fields) for name, fields in record.get('rows', {}).items()}
  # A field that is younger than a record must not set the record apart.
  section = {k: v for k, v in record.get('data', {}).items() if k != 'at_most'}
  return drop(record) | {'rows': rows, 'data': section}


def _without_added(value: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a JSON value without younger fields that have their defaults.

  Args:
    value: sections by name, at any depth.
  """
  kept = {}
  for name, section in value.items():
    if isinstance(section, Mapping):
      added = _ADDED.get(name, {})
      section = _without_added(
        {
          field: item
          for field, item in section.items()
          if field not in added or item != added[field]
        }
      )
    kept[name] = section
  return kept


# --- Identities. ---


def _identity(
  config: ConfigDict, dataset: data.Dataset, fields: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the identity of a result: its data and the fields given.

  Identities keep the field names of the first version, so that older
  results remain valid. `scaling` is left out: callers add the scaling if it
  changes their result. `memory_gib` is left out, because it decides only
  whether images are read from memory or from disk. `at_most` is left out,
  because the digest of the data already depends on the number of examples.
  """
  other = ('scaling', 'memory_gib', 'at_most')
  section = {k: v for k, v in config.data.items() if k not in other}
  identity = to_json(
    ConfigDict({'data': section, 'data_digest': dataset.digest, **fields})
  )
  return rename_fields(_without_added(identity), _OLD_NAMES)


def teacher_identity(
  config: ConfigDict, dataset: data.Dataset
) -> dict[str, Any]:
  """Returns what determines the weights of a teacher that is trained here."""
  section = config.teacher
  return _identity(
    config,
    dataset,
    {
      'teacher': {
        'distill': _with_methods(section.distill, ()),
        'seed': section.seed,
        'scaling': section.scaling,
        'model': section.model,
        'train': section.train,
        'optim': section.optim,
      }
    },
  )


def outputs_identity(
  config: ConfigDict, dataset: data.Dataset, weights: str
) -> dict[str, Any]:
  """Returns what determines a teacher's outputs, except for their scaling.

  Args:
    config: the run's config.
    dataset: the data set that the teacher is shown.
    weights: the digest of its variables.
  """
  fields = {'weights': weights, 'model': config.teacher.model}
  if config.teacher.module:
    fields['source'] = user.code_digest(config.teacher.module)
  return _identity(config, dataset, fields)


def student_identity(
  config: ConfigDict,
  dataset: data.Dataset,
  *,
  teacher_outputs: Any,
  live_teacher: bool,
) -> dict[str, Any]:
  """Returns what determines the students of a row, except for their seed.

  Args:
    config: the closed config of a row.
    dataset: the data set that they learn, with images without labels.
    teacher_outputs: a JSON value that determines the outputs of the teacher.
    live_teacher: whether the teacher is called in every step.
  """
  fields = {
    'teacher_outputs': teacher_outputs,
    'class_shift': config.teacher.class_shift,
    'scaling': config.data.scaling,
    'student': canonical_model(config.student),
    'distill': _with_methods(config.distill, method_options(config.distill)),
    'train': config.train,
    'optim': config.optim,
    'live_teacher': live_teacher,
  }
  # Only where they matter, so that older results remain valid.
  if uses_features(config.distill):
    fields['feature_bits'] = config.teacher.feature_bits
  if config.eval.bias_classes:
    fields['bias_classes'] = config.eval.bias_classes
  if dataset.unlabeled:  # The images, wherever they lie.
    fields['unlabeled'] = dataset.unlabeled
    fields['train'] = config.train.copy_and_resolve_references()
    fields['train'].unlabeled = ''
  if user.is_function_name(config.student.kind):
    fields['student_source'] = user.code_digest(config.student.kind)
  return _identity(config, dataset, fields)
