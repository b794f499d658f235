"""Values that a config cannot have: the message names the field.

Also tests `kd_jax/config_checks/checking.py`,
`kd_jax/config_checks/computed_checks.py`,
`kd_jax/config_checks/field_checks.py`, `kd_jax/config_checks/model_checks.py`
and `kd_jax/config_checks/teaching_checks.py`.
"""

import pytest

from configs import cifar, mnist
from kd_jax import methods
from kd_jax.config_checks import field_checks
from kd_jax.runtime import errors
from tests.configs import recipe_rows


@pytest.mark.parametrize(
  'field, value',
  [
    ('seeds', 0),
    ('data.scaling', 'none'),
    ('seeds', 2**32 + 1),
    ('first_seed', 2**32),
    ('data.train_examples', -1),
    ('data.memory_gib', -1.0),
    ('data.image_size', -1),
    ('student.kind', 'transformer'),
    ('student.hidden', (0,)),
    ('student.temperature', 0.0),
    ('student.dropout_rate', 1.0),
    ('student.dtype', 'float8'),
    ('teacher.model.kind', 'cnn'),
    ('teacher.seed', -1),
    ('teacher.seed', 2**63),
    ('teacher.distill.kd_weight', 1.0),
    ('teacher.optim.learning_rate', float('nan')),
    ('teacher.optim.learning_rate', float('inf')),
    ('train.epochs', 0),
    ('train.batch_size', 0),
    ('train.folds', 1),
    ('train.holdout_fraction', 1.0),
    ('optim.name', 'lion'),
    ('optim.schedule', 'step'),
    ('optim.learning_rate', -1.0),
    ('distill.method', 'mse'),
    ('distill.method', 'kl+'),
    ('distill.soft_cross_entropy.weight', -1.0),
    ('distill.temperature', -2.0),
    ('distill.kd_weight', -1.0),
    ('distill.label_smoothing', 1.5),
    ('eval.batch_size', 0),
    ('benchmark.batch_sizes', (0,)),
    ('benchmark.budget_s', 0.0),
    ('benchmark.budget_s', float('inf')),
    ('benchmark.cold_calls', -1),
    ('benchmark.cold_call_examples', 0),
  ],
)
def test_a_value_out_of_range_is_named_with_its_field(field, value):
  config = recipe_rows.close(mnist, 'h300')['h300']
  field_checks.check_fields(config)
  config.update_from_flattened_dict({field: value})
  last = field.rpartition('.')[2]
  with pytest.raises(errors.UserError, match=rf'config\..*{last}.*expected'):
    field_checks.check_fields(config)


@pytest.mark.parametrize(
  'field, value',
  [
    ('student.block', 'wide'),
    ('student.blocks', (1, -1, 0, 0)),
    ('student.strides', (1, 2)),
    ('student.widths', (64,)),
    ('student.stem_stride', 0),
    ('student.stem_init', 'pca'),
    ('student.conv_init', 'identity'),
    ('student.head_pool', 'median'),
    ('optim.bias_factor', 0.0),
    ('optim.scale_factor', -1.0),
    ('student.min_blocks', -1),
    ('train.augmentation', 'mixup'),
    ('train.subset', 'half'),
    ('teacher.scaling', 'imagenet'),
    ('teacher.outputs_scaling', 'imagenet'),
    ('data.holdout_examples', -1),
    ('loop', 'both'),
  ],
)
def test_a_value_out_of_range_of_a_resnet_is_named(field, value):
  config = recipe_rows.close(cifar, 'ideal')['ideal']
  field_checks.check_fields(config)
  config.update_from_flattened_dict({field: value})
  last = field.rpartition('.')[2]
  with pytest.raises(errors.UserError, match=rf'config\..*{last}.*expected'):
    field_checks.check_fields(config)


@pytest.mark.parametrize(
  'method, option, value',
  [
    ('jensen_shannon', 'beta', 0.0),
    ('jensen_shannon', 'beta', 1.0),
    ('jensen_shannon', 'beta', float('nan')),
    ('dkd', 'alpha', -1.0),
    ('dist', 'intra', -0.5),
    ('logit_standardization', 'base_temperature', 0.0),
    ('attention', 'power', 0),
    ('rkd', 'angle', -1.0),
    ('correlation', 'gamma', 0.0),
    ('correlation', 'order', 0),
    ('crd', 'tau', 0.0),
    ('crd', 'weight', float('inf')),
    ('adversarial_logits', 'discriminator_rate', 0.0),
    ('adversarial_features', 'doubt', -1.0),
    ('ard', 'epsilon', 1.5),
    ('ard', 'step_size', 0.0),
    ('ard', 'num_steps', 0),
    ('quantized', 'student_bits', -1),
    ('quantized', 'student_bits', 100),
  ],
)
def test_an_option_of_a_method_out_of_its_range_is_named(method, option, value):
  config = recipe_rows.close(mnist, 'h300')['h300']
  config.distill.update(method=f'kl+{method}', ce_weight=1.0)
  config.teacher.update(feature_bits=8, pretrained='', retrain=True)
  field_checks.check_fields(config)
  config.distill[method][option] = value
  name = rf'config\.distill\.{method}\.{option}=.*expected'
  with pytest.raises(errors.UserError, match=name):
    field_checks.check_fields(config)


@pytest.mark.parametrize('method', methods.METHODS)
def test_every_number_of_a_method_has_a_range(method):
  """A new option is either in `ranges`, or a name or a choice."""
  entry = methods.METHODS[method]
  numbers = {
    option
    for option, value in entry.options.items()
    if not isinstance(value, (str, bool))
  }
  assert {option for option in numbers if entry.range_of(option)} == numbers
  assert set(entry.ranges) <= numbers


def test_an_untrained_classifier_is_refused():
  row = recipe_rows.close(mnist, 'h300,method=rkd')['h300']
  with pytest.raises(errors.UserError, match='ce_weight.*the last layer'):
    field_checks.check_fields(row)


def test_a_loss_without_terms_is_refused():
  config = recipe_rows.close(mnist, 'h300')['h300']
  config.distill.kd_weight = 0.0
  with pytest.raises(errors.UserError, match='nothing would be learned'):
    field_checks.check_fields(config)


def test_scales_that_begin_at_0_have_to_be_trained():
  config = recipe_rows.close(cifar, 'ideal_best')['ideal_best']
  config.optim.scale_factor = 0.0
  with pytest.raises(errors.UserError, match=r'optim\.scale_factor.*zero_init'):
    field_checks.check_fields(config)
  config.student.zero_init = False
  field_checks.check_fields(config)
