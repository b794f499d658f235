"""Fields that a user sets and that change nothing are named."""

import pytest
from ml_collections import ConfigDict

from kd_jax import config_fields
from kd_jax.config_checks import unused_fields
from kd_jax.experiments import run_checks
from kd_jax.sections import NetworkSections
from tests import helpers

# The fields that always have an effect, on results or on how fast they come.
ALWAYS_USED = {
  *('seeds', 'first_seed', 'seeds_per_program', 'mesh.data', 'loop', 'name'),
  *('data.name', 'data.image_size', 'data.scaling'),
  *('data.train_examples', 'data.test_examples', 'data.holdout_examples'),
  'teacher.logits',
  *('distill.kd_weight', 'student.kind', 'benchmark.enabled'),
  *('eval.batch_size', 'eval.attacked_examples', 'eval.bias_classes'),
  # Refused without the field that they need, or left out with a row's labels.
  *('train.unlabeled', 'train.unlabeled_ratio'),
  *(
    f'train.{name}'
    for name in (
      *('epochs', 'batch_size', 'holdout_fraction', 'drop_remainder', 'folds'),
      *('augmentation', 'mixup_alpha', 'subset', 'transfer_set'),
    )
  ),
  *('optim.name', 'optim.learning_rate', 'optim.schedule'),
  'optim.weight_decay',
}
# Fields that have no effect, with the fields that are set beside them, and
# words of the reason.
PRETRAINED = {'teacher.pretrained': 'teachers/cifar10-resnet50'}
CASES = [
  (PRETRAINED, 'teacher.seed', 'is trained already; teacher.retrain=true'),
  (PRETRAINED, 'teacher.train.epochs', 'is trained already'),
  (PRETRAINED, 'teacher.optim.momentum', 'is trained already'),
  (PRETRAINED, 'teacher.distill.ce_weight', 'is trained already'),
  (PRETRAINED, 'teacher.scaling', 'is trained already'),
  (PRETRAINED, 'teacher.model.temperature', 'is trained already'),
  ({'teacher.logits': 'a.npy'}, 'teacher.seed', 'teacher.logits gives'),
  ({'teacher.logits': 'a.npy'}, 'teacher.model.hidden', 'teacher.logits gives'),
  ({'teacher.logits': 'a.npy'}, 'teacher.pretrained', 'teacher.logits gives'),
  ({'teacher.logits': 'a.npy'}, 'teacher.outputs_scaling', 'teacher.logits'),
  ({'teacher.logits': 'a.npy'}, 'teacher.also_outputs', 'no network'),
  ({'teacher.logits': 'a.npy'}, 'teacher.average', 'nothing to average'),
  (
    PRETRAINED | {'teacher.retrain': True},
    'teacher.pretrained',
    'teacher.retrain=true trains',
  ),
  ({}, 'teacher.distill.temperature', 'learns from labels alone'),
  ({}, 'teacher.distill.rkd.weight', 'learns from labels alone'),
  ({}, 'teacher.features_gib', 'takes no features'),
  ({}, 'teacher.feature_bits', 'takes no rounded features'),
  ({'teacher.optim.name': 'adam'}, 'teacher.optim.momentum', 'has moments'),
  ({}, 'distill.rkd.weight', 'does not use it'),
  ({'distill.method': 'rkd'}, 'distill.temperature', 'has no temperature'),
  (
    {'distill.kd_weight': 0, 'distill.ce_weight': 1},
    'distill.temperature',
    'learn from labels alone',
  ),
  ({'distill.ce_weight': 0.0}, 'distill.label_smoothing', 'ce_weight=0'),
  ({'optim.name': 'adam'}, 'optim.momentum', 'optim.name=adam has moments'),
  ({'optim.name': 'adam'}, 'optim.nesterov', 'optim.name=adam has moments'),
  (
    {'optim.name': 'sgd', 'optim.momentum': 0.0},
    'optim.nesterov',
    'optim.momentum=0',
  ),
  ({}, 'optim.bias_factor', 'student.kind=mlp has no batch norms'),
  ({}, 'optim.scale_factor', 'student.kind=mlp has no batch norms'),
  ({}, 'teacher.optim.bias_factor', 'teacher.model.kind=conv_net has'),
  ({'optim.schedule': 'constant'}, 'optim.warmup_fraction', 'has no warmup'),
  ({'train.folds': 0}, 'train.carry_optimizer', 'there is one phase'),
  ({'student.kind': 'module:function'}, 'student.hidden', 'makes the network'),
  ({}, 'data.memory_gib', 'only images of TFDS'),
  ({}, 'data.at_most', 'no number of examples'),
  ({'benchmark.enabled': False}, 'benchmark.budget_s', 'nothing is timed'),
  (
    {'benchmark.enabled': True, 'benchmark.cold_calls': 0},
    'benchmark.cold_call_examples',
    'cold_calls=0',
  ),
]


def _find(config: ConfigDict, *names: str) -> list[str]:
  rows = {row: helpers.config_lib.close_row(config, row) for row in config.rows}
  return unused_fields.find(config, rows, names)


@pytest.mark.faults
@pytest.mark.parametrize('fields, name, reason', CASES)
def test_a_field_without_effect_is_named_with_the_reason(fields, name, reason):
  """A field without effect, set by the user: it is named."""
  (sentence,) = _find(helpers.tiny_mnist(fields=fields), name)
  assert sentence.startswith(f'config.{name} has no effect: ')
  assert reason in sentence


@pytest.mark.parametrize(
  'fields, name',
  [
    ({}, 'teacher.seed'),
    ({}, 'teacher.distill.ce_weight'),
    (PRETRAINED | {'teacher.retrain': True}, 'teacher.seed'),
    ({'optim.name': 'sgd'}, 'optim.momentum'),
    ({'optim.schedule': 'cosine'}, 'optim.warmup_fraction'),
    ({'distill.method': 'kl+rkd'}, 'distill.rkd.weight'),
    ({}, 'distill.temperature'),
    ({'teacher.logits': 'a.npy,b.npy'}, 'teacher.average'),
    ({'student.kind': 'module:function'}, 'student.kind'),
    ({'benchmark.enabled': False}, 'benchmark.enabled'),
  ],
)
def test_a_field_with_an_effect_is_not_named(fields, name):
  assert not _find(helpers.tiny_mnist(fields=fields), name)


def test_one_row_that_uses_a_field_is_enough():
  """Table 1 has rows of hard labels, which have no temperature."""
  assert not _find(helpers.tiny_mnist('table1'), 'distill.temperature')


def test_without_students_their_fields_are_named():
  config = helpers.tiny_cifar('teacher')
  sentences = _find(config, 'train.epochs', 'optim.momentum', 'teacher.seed')
  assert sentences == [
    f'config.train.epochs, config.optim.momentum have no effect: {config.name} '
    'trains a teacher and no students'
  ]


def test_every_field_has_a_rule_or_always_an_effect():
  """A new field needs a rule, or a place in ALWAYS_USED."""
  section = config_fields.mlp((1,))
  network = NetworkSections(
    section,
    config_fields.training(1, 1),
    config_fields.optimizer('adam', 1.0),
    config_fields.distillation(),
  )
  config = config_fields.make_config(
    name='run', dataset='mnist', teacher=network, student=network
  )
  rules = unused_fields._RULES
  without_rule = {
    name
    for name, _ in helpers.config_lib._leaves(config)
    if name in unused_fields._SWITCHES
    or not any(prefix in rules for prefix in unused_fields._prefixes(name))
  }
  options = {
    name
    for name in without_rule
    if name.removeprefix('distill.').partition('.')[0]
    in unused_fields.methods.METHODS
  }
  assert without_rule - options == ALWAYS_USED


def test_a_run_names_them_in_its_record(tmp_path):
  """The sentence is in the run's record, and so in its report."""
  from kd_jax.experiments import runner

  config = helpers.tiny_mnist()
  record = runner.run_config_on_data(
    config,
    run_checks.make_loader(config, None, None),
    runner.RunOptions(
      tmp_path / 'run',
      tmp_path / 'teachers',
      with_report=False,
      set_fields=('distill.rkd.weight', 'train.epochs'),
    ),
  )
  assert record['warnings'][0] == (
    'config.distill.rkd.weight has no effect: distill.method='
    'soft_cross_entropy does not use it'
  )
  assert not any('train.epochs' in line for line in record['warnings'])
