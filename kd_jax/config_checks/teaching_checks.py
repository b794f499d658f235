"""Checks what students learn from: teacher, methods, weights, transfer sets."""

import math

from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data, methods
from kd_jax.config_checks.checking import (
  check,
  check_at_least,
  check_fraction,
  check_limit,
  check_method_names,
  check_one_of,
  check_positive,
  check_seed,
)
from kd_jax.data import preprocessing
from kd_jax.teachers import provider, user_logits
from kd_jax.teachers import teacher as teacher_lib


def check_transfer(config: ConfigDict) -> None:
  """Checks what students are shown instead of their training split."""
  transfer_set = config.train.transfer_set
  known = data.TRANSFER_SETS
  check_one_of('train.transfer_set', transfer_set, ('', *known, *data.names()))
  check(
    not config.teacher.train.transfer_set,
    'teacher.train.transfer_set',
    config.teacher.train.transfer_set,
    "'': the teacher learns its data set",
  )
  check(
    not (transfer_set and provider.has_only_logits(config.teacher)),
    'train.transfer_set',
    transfer_set,
    "'', or a teacher that is trained here (teacher.retrain=true), which can "
    'be shown the transfer set: these outputs are of the training split',
  )
  if config.eval.bias_classes:
    check(
      config.train.holdout_fraction > 0 and not transfer_set,
      'eval.bias_classes',
      config.eval.bias_classes,
      '(), or a part of the training split to choose a bias on: '
      "train.holdout_fraction above 0 and train.transfer_set=''",
    )


def check_unlabeled(config: ConfigDict) -> None:
  """Checks what students learn from images without labels."""
  train = config.train
  unlabeled = config.train.unlabeled
  check(
    not config.teacher.train.unlabeled,
    'teacher.train.unlabeled',
    config.teacher.train.unlabeled,
    "'': the teacher learns from labels",
  )
  check(
    unlabeled or train.unlabeled_ratio == 0,
    'train.unlabeled_ratio',
    train.unlabeled_ratio,
    '0 without train.unlabeled',
  )
  check(
    unlabeled or train.subset != 'none',
    'train.subset',
    train.subset,
    "another subset: without labels, train.unlabeled and a method's loss "
    '(distill.kd_weight above 0) must be given',
  )
  if not unlabeled:
    return
  check(
    not train.transfer_set,
    'train.transfer_set',
    train.transfer_set,
    "'' with train.unlabeled: the one replaces the training images, the other "
    'adds to them',
  )
  check(
    not config.eval.bias_classes,
    'eval.bias_classes',
    config.eval.bias_classes,
    '() with train.unlabeled',
  )
  taking_labels = [
    name
    for name in config_lib.method_options(config.distill)
    if methods.METHODS[name].uses_labels
  ]
  check(
    not taking_labels,
    'train.unlabeled',
    unlabeled,
    f"'' with the method {', '.join(taking_labels)}, which takes labels; or "
    'another method, such as kl',
  )
  check(
    unlabeled == config_lib.REST
    or config.teacher.logits
    or not provider.has_only_logits(config.teacher),
    'train.unlabeled',
    unlabeled,
    f"'', 'rest', or a teacher with a network: {config.teacher.pretrained} "
    'holds outputs for the training split alone',
  )


def check_teacher(config: ConfigDict) -> None:
  """Checks the teacher, and whether it can teach what the config asks for."""
  section = config.teacher
  for field in ('scaling', 'outputs_scaling'):
    check_one_of(f'teacher.{field}', section[field], preprocessing.SCALINGS)
  for scaling in section.also_outputs:
    check_one_of('teacher.also_outputs', scaling, preprocessing.SCALINGS)
  check_one_of('teacher.average', section.average, user_logits.AVERAGES)
  check_seed('teacher.seed', section.seed)
  check(
    section.distill.kd_weight == 0,
    'teacher.distill.kd_weight',
    section.distill.kd_weight,
    '0: the teacher learns from labels',
  )
  check(
    section.logits != teacher_lib.NONE
    or section.rows
    or not config_lib.distills(config.distill),
    'teacher.logits',
    section.logits,
    'a teacher: without one, distill.kd_weight=0 learns from labels alone',
  )
  _check_features(config)
  is_augmented = config.train.augmentation != 'none'
  _check_stored_outputs(config, is_augmented)
  _check_live(section)
  check(
    not is_augmented
    or not config_lib.distills(config.distill)
    or not provider.has_only_logits(section),
    'train.augmentation',
    config.train.augmentation,
    "'none', or a teacher that is trained here (teacher.retrain=true): these "
    'outputs are of the images without augmentation',
  )


def _check_features(config: ConfigDict) -> None:
  """Checks fields that stored features of a user go with."""
  teacher, train = config.teacher, config.train
  if not teacher.features:
    return
  check(
    teacher.logits,
    'teacher.features',
    teacher.features,
    "'' without teacher.logits: a teacher outside the project gives both",
  )
  if not config_lib.uses_features(config.distill):
    return
  check(
    train.mixup_alpha == 0,
    'train.mixup_alpha',
    train.mixup_alpha,
    '0 with teacher.features, which are those of whole images',
  )
  check(
    train.unlabeled in ('', config_lib.REST),
    'train.unlabeled',
    train.unlabeled,
    "'', 'rest', or a method that takes no features: teacher.features are "
    'those of the training split alone',
  )


def _check_stored_outputs(config: ConfigDict, is_augmented: bool) -> None:
  """Checks fields that need the stored logits of unaugmented images."""
  section = config.teacher
  check(
    section.class_shift == 0 or not (section.live or is_augmented),
    'teacher.class_shift',
    section.class_shift,
    '0 with a live teacher or augmented images: stored outputs are shifted',
  )
  check(
    not section.rows
    or not (
      section.live or config_lib.uses_features(config.distill) or is_augmented
    ),
    'teacher.rows',
    section.rows,
    '() with a live teacher, a method that takes features, or augmented '
    'images: a row teaches by its logits for the images without augmentation',
  )


def _check_live(section: ConfigDict) -> None:
  """Checks that a live teacher has a network."""
  check(
    not (section.live and section.logits),
    'teacher.live',
    section.live,
    'false with teacher.logits: a file has no network to call',
  )
  check(
    not (section.live and provider.has_only_logits(section)),
    'teacher.live',
    section.live,
    f'teacher.retrain=true with it: {section.pretrained} holds outputs alone',
  )


def check_methods(config: ConfigDict) -> None:
  """Checks the distillation methods, their options and their teacher."""
  distill, section = config.distill, config.teacher
  check_method_names('config.distill.method', distill.method)
  for name in distill.method.split('+'):
    _check_method(name, distill)
  used = config_lib.method_options(distill)
  check(
    distill.ce_weight > 0
    or not config_lib.distills(distill)
    or any(
      methods.METHODS[name].inputs & {'student_logits', 'student_fn'}
      for name in used
    ),
    'distill.ce_weight',
    distill.ce_weight,
    f'a weight above 0, or a method beside {distill.method} that learns '
    'logits: nothing would train the last layer',
  )
  check(
    not config_lib.uses_features(distill)
    or section.features
    or not provider.has_only_logits(section),
    'distill.method',
    distill.method,
    'a method that takes no features, a file of teacher.features, or a teacher '
    f'that is trained here (teacher.retrain=true): '
    f'{section.logits or section.pretrained} holds logits alone',
  )
  bits = section.feature_bits
  check(0 <= bits <= 16, 'teacher.feature_bits', bits, 'a number from 0 to 16')
  check(
    bits > 0 or not config_lib.uses_rounded_features(distill),
    'teacher.feature_bits',
    bits,
    f'a number from 1 to 16 for the method {distill.method}',
  )
  check_limit('teacher.features_gib', section.features_gib)


def _check_method(name: str, distill: ConfigDict) -> None:
  """Checks that a method has a section, and the ranges of its options."""
  check(
    name in distill,
    'distill.method',
    distill.method,
    f'a config that was made after {name} was added to METHODS',
  )
  for option, value in distill[name].to_dict().items():
    if isinstance(value, (str, bool)):
      continue
    allowed = methods.METHODS[name].range_of(option)
    check(
      math.isfinite(value) and (allowed is None or allowed.holds(value)),
      f'distill.{name}.{option}',
      value,
      'a finite number' if allowed is None else allowed.words,
    )


def check_weights(distill: ConfigDict) -> None:
  """Checks the weights of the loss, and its temperature."""
  check_positive('distill.temperature', distill.temperature)
  for field in ('ce_weight', 'kd_weight', 'kd_warmup_epochs'):
    check_at_least(f'distill.{field}', distill[field], 0)
  check(
    distill.ce_weight + distill.kd_weight > 0,
    'distill.ce_weight + distill.kd_weight',
    0,
    'at least one weight above 0: nothing would be learned',
  )
  check_fraction('distill.label_smoothing', distill.label_smoothing)
