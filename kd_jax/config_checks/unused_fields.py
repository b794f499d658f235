"""Finds fields that a user has set and that change nothing in a run.

They are no mistake: one command may run over many recipes. But a run whose
teacher.seed is 1 looks like that of another teacher, and may be of the same.
"""

from collections.abc import Callable, Collection, Iterator, Mapping

from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data, methods
from kd_jax.models import from_config, user
from kd_jax.teachers import provider, user_logits

# Returns why fields of a closed config change nothing, or '' if they do.
_Reason = Callable[[ConfigDict], str]


def find(
  config: ConfigDict,
  row_configs: Mapping[str, ConfigDict],
  names: Collection[str],
) -> list[str]:
  """Returns a sentence about each field that changes nothing.

  Args:
    config: the run's config.
    row_configs: the closed config of each row.
    names: the dotted names of the fields that the user has set.
  """
  sentences: dict[str, list[str]] = {}
  for name in names:
    reasons = [
      _reason(name, closed) for closed in row_configs.values() or (config,)
    ]
    if all(reasons):  # One row may use what another does not.
      sentences.setdefault(reasons[0], []).append(f'config.{name}')
  return [
    f'{", ".join(fields)} {"has" if len(fields) == 1 else "have"} no effect: '
    f'{reason}'
    for reason, fields in sentences.items()
  ]


def _reason(name: str, closed: ConfigDict) -> str:
  """Returns why a field changes nothing in a row, or ''."""
  if name in _SWITCHES:
    return ''
  rules = _RULES if closed.rows else _WITHOUT_STUDENTS
  for prefix in _prefixes(name):
    if prefix in rules and (reason := rules[prefix](closed)):
      return reason
  section, _, field = name.partition('.')
  method = field.partition('.')[0]
  if section == 'distill' and method in methods.METHODS:
    return _unused_method(closed, method)
  return ''


def _prefixes(name: str) -> Iterator[str]:
  """Yields the names of the sections that hold a field, then its name."""
  parts = name.split('.')
  for count in range(1, len(parts) + 1):
    yield '.'.join(parts[:count])


# --- The teacher. ---


def _given_teacher(closed: ConfigDict) -> str:
  """Returns what gives the teacher, if this run does not train it."""
  section = closed.teacher
  if section.logits:
    return 'teacher.logits gives the outputs of a teacher'
  if section.module:
    return 'teacher.module gives a trained teacher'
  if not provider.is_trained_here(section):
    return (
      f'teacher.pretrained={section.pretrained} is trained already; '
      'teacher.retrain=true trains it here'
    )
  return ''


def _users_teacher(closed: ConfigDict) -> str:
  section = closed.teacher
  if section.logits or section.module:
    return _given_teacher(closed)
  return ''


def _teachers_logits(closed: ConfigDict) -> str:
  return _given_teacher(closed) if closed.teacher.logits else ''


def _only_logits(closed: ConfigDict) -> str:
  if provider.has_only_logits(closed.teacher):
    return 'the teacher has stored logits and no network to compute others'
  return ''


def _teachers_scaling(closed: ConfigDict) -> str:
  if closed.eval.attacked_examples and closed.teacher.module:
    return _teachers_logits(closed)
  return _given_teacher(closed)


def _pretrained(closed: ConfigDict) -> str:
  if closed.teacher.retrain and not _users_teacher(closed):
    return 'teacher.retrain=true trains the teacher'
  return _users_teacher(closed)


def _teacher_learns_labels(closed: ConfigDict) -> str:
  return _given_teacher(closed) or 'the teacher learns from labels alone'


def _one_teacher(closed: ConfigDict) -> str:
  section = closed.teacher
  if len(section.rows) > 1 or len(user_logits.file_names(section.logits)) > 1:
    return ''
  return 'there is one teacher, and nothing to average'


def _no_features(closed: ConfigDict) -> str:
  if config_lib.uses_features(closed.distill):
    return ''
  return _no_distillation(closed) or (
    f'distill.method={closed.distill.method} takes no features'
  )


def _no_rounded_features(closed: ConfigDict) -> str:
  if config_lib.uses_rounded_features(closed.distill):
    return ''
  return _no_distillation(closed) or (
    f'distill.method={closed.distill.method} takes no rounded features'
  )


# --- The loss. ---


def _no_distillation(closed: ConfigDict) -> str:
  if config_lib.distills(closed.distill):
    return ''
  return 'distill.kd_weight=0: the students learn from labels alone'


def _unused_method(closed: ConfigDict, method: str) -> str:
  if method in config_lib.method_options(closed.distill):
    return ''
  return _no_distillation(closed) or (
    f'distill.method={closed.distill.method} does not use it'
  )


def _no_temperature(closed: ConfigDict) -> str:
  used = config_lib.method_options(closed.distill)
  if any(methods.METHODS[name].uses_temperature for name in used):
    return ''
  return _no_distillation(closed) or (
    f'distill.method={closed.distill.method} has no temperature'
  )


def _no_labels(closed: ConfigDict) -> str:
  if closed.train.subset == 'none':
    return 'train.subset=none leaves no labels'
  return ''


def _no_cross_entropy(closed: ConfigDict) -> str:
  if closed.distill.ce_weight == 0:
    return 'distill.ce_weight=0: the students do not learn from labels'
  return _no_labels(closed)


# --- Optimizers, trainings, networks, data. ---


def _optimizer_rules(prefix: str) -> dict[str, _Reason]:
  """Returns the rules of the section of an optimizer."""

  def section_of(closed: ConfigDict) -> ConfigDict:
    return closed.teacher.optim if prefix else closed.optim

  def momentum(closed: ConfigDict) -> str:
    name = section_of(closed).name
    return '' if name == 'sgd' else f'{prefix}optim.name={name} has moments'

  def nesterov(closed: ConfigDict) -> str:
    if momentum(closed):
      return momentum(closed)
    is_zero = section_of(closed).momentum == 0
    return f'{prefix}optim.momentum=0' if is_zero else ''

  def warmup(closed: ConfigDict) -> str:
    schedule = section_of(closed).schedule
    if schedule == 'cosine':
      return ''
    return f'{prefix}optim.schedule={schedule} has no warmup'

  def norm_factor(closed: ConfigDict) -> str:
    network = closed.teacher.model if prefix else closed.student
    if network.kind not in ('mlp', 'conv_net'):
      return ''
    field = 'teacher.model' if prefix else 'student'
    return f'{field}.kind={network.kind} has no batch norms'

  return {
    f'{prefix}optim.bias_factor': norm_factor,
    f'{prefix}optim.scale_factor': norm_factor,
    f'{prefix}optim.momentum': momentum,
    f'{prefix}optim.nesterov': nesterov,
    f'{prefix}optim.warmup_fraction': warmup,
  }


def _one_phase(closed: ConfigDict) -> str:
  return '' if closed.train.folds else 'train.folds=0: there is one phase'


def _teachers_one_phase(closed: ConfigDict) -> str:
  if closed.teacher.train.folds:
    return ''
  return 'teacher.train.folds=0: there is one phase'


def _users_student(closed: ConfigDict) -> str:
  kind = closed.student.kind
  if user.is_function_name(kind):
    return f'student.kind={kind} makes the network'
  return ''


def _no_images_on_disk(closed: ConfigDict) -> str:
  name = closed.data.name
  if name in data.names() or name.endswith('.npz'):
    return 'only images of TFDS data sets can stay on disk'
  return ''


def _whole_splits(closed: ConfigDict) -> str:
  section = closed.data
  if section.train_examples or section.test_examples:
    return ''
  if section.holdout_examples:
    return ''
  return 'no number of examples is asked for'


def _not_timed(closed: ConfigDict) -> str:
  if closed.benchmark.enabled:
    return ''
  return 'benchmark.enabled=false: nothing is timed'


def _no_cold_calls(closed: ConfigDict) -> str:
  return '' if closed.benchmark.cold_calls else 'benchmark.cold_calls=0'


# Fields that choose whether the rule of their section holds.
_SWITCHES = ('student.kind', 'benchmark.enabled')
# The rules of a row's fields. A section's name stands for all of its fields; a
# field may have a rule beside its section's. Fields without a rule always have
# an effect, on results or on how fast they come.
_RULES: dict[str, _Reason] = {
  **_optimizer_rules(''),
  **_optimizer_rules('teacher.'),
  'teacher.features': _no_features,
  'teacher.module': _teachers_logits,
  'teacher.rows': _no_distillation,
  'teacher.average': _one_teacher,
  'teacher.class_shift': _no_distillation,
  'teacher.pretrained': _pretrained,
  'teacher.publish_weights': _given_teacher,
  'teacher.retrain': _users_teacher,
  'teacher.live': _no_distillation,
  'teacher.features_gib': _no_features,
  'teacher.feature_bits': _no_rounded_features,
  'teacher.seed': _given_teacher,
  'teacher.scaling': _teachers_scaling,
  'teacher.outputs_scaling': _teachers_logits,
  'teacher.also_outputs': _only_logits,
  'teacher.distill': _given_teacher,
  **{
    f'teacher.distill.{field}': _teacher_learns_labels
    for field in ('method', 'temperature', 'kd_warmup_epochs', *methods.METHODS)
  },
  'teacher.model': _users_teacher,
  **{
    f'teacher.model.{field}': _given_teacher
    for field in from_config.field_names()
    if field != 'dtype'
  },
  'teacher.train': _given_teacher,
  'teacher.train.carry_optimizer': _teachers_one_phase,
  'teacher.optim': _given_teacher,
  'distill.method': _no_distillation,
  'distill.temperature': _no_temperature,
  'distill.kd_warmup_epochs': _no_distillation,
  'distill.ce_weight': _no_labels,
  'distill.label_smoothing': _no_cross_entropy,
  'train.carry_optimizer': _one_phase,
  'student': _users_student,
  'data.memory_gib': _no_images_on_disk,
  'data.at_most': _whole_splits,
  'benchmark': _not_timed,
  'benchmark.cold_call_examples': _no_cold_calls,
}


def _no_students(closed: ConfigDict) -> str:
  return f'{closed.name} trains a teacher and no students'


# The rules of a recipe that trains a teacher alone.
_WITHOUT_STUDENTS: dict[str, _Reason] = {
  name: rule
  for name, rule in _RULES.items()
  if name.startswith(('teacher.', 'data.'))
} | dict.fromkeys(
  (
    *('seeds', 'first_seed', 'student', 'distill', 'train', 'optim'),
    *('data.scaling', 'benchmark', 'eval.bias_classes', 'teacher.rows'),
    *('teacher.average', 'teacher.class_shift', 'teacher.live'),
    *('teacher.features_gib', 'teacher.feature_bits'),
  ),
  _no_students,
)
