"""Methods that cannot learn are refused before any work."""

import jax.numpy as jnp
import pytest

from configs import cifar, mnist
from kd_jax import methods
from kd_jax.config_checks import field_checks, traced_checks
from kd_jax.data import ImageTask
from kd_jax.runtime import errors
from tests.configs import recipe_rows


def test_a_method_that_needs_more_classes_is_refused_with_the_reason():
  arg = 'h300,method=logit_standardization'
  (config,) = recipe_rows.close(mnist, arg).values()
  traced_checks.trace_methods(config, ImageTask(3, (28, 28, 1)))
  message = (
    r'config\.distill\.logit_standardization: 2 classes are too few: .* 3 or '
    'more, because with fewer its gradient is 0'
  )
  with pytest.raises(errors.UserError, match=message):
    traced_checks.trace_methods(config, ImageTask(2, (28, 28, 1)))


@pytest.mark.faults
@pytest.mark.parametrize(
  'method, part', [('dkd', 'the other classes is 0'), ('dist', 'no gradient')]
)
def test_what_teaches_nothing_with_two_classes_is_said(method, part):
  """Two classes, for a method of which a part needs three: a warning."""
  configs = recipe_rows.close(mnist, f'h300,method={method}')
  task = lambda classes: ImageTask(classes, (28, 28, 1))
  (line,) = traced_checks.find_weaknesses(configs, task(2))
  assert line.startswith(f'config.distill.method={method}: its term')
  assert part in line
  assert not traced_checks.find_weaknesses(configs, task(3))


@pytest.mark.faults
def test_a_pair_of_maps_without_attention_is_said():
  """Some compared maps have one position: a warning says how many."""
  configs = recipe_rows.close(cifar, 'ideal')
  (config,) = configs.values()
  config.distill.method = 'attention'
  # As many stages as a ResNet-50 has, and fewer blocks to trace.
  config.teacher.model.blocks = (1, 1, 1, 1)
  assert not traced_checks.find_weaknesses(configs, ImageTask(10, (32, 32, 3)))
  (line,) = traced_checks.find_weaknesses(configs, ImageTask(10, (8, 8, 3)))
  assert 'pairs of maps have one position' in line


@pytest.mark.parametrize(
  'fn, message',
  [
    # As many values as classes are no value for each example.
    (lambda student_logits: jnp.mean(student_logits, 0), r'float32 \[2\]; .*3'),
    (lambda student_logits: student_logits @ jnp.ones(7), 'TypeError: '),
  ],
)
def test_a_method_of_the_user_is_traced_before_any_work(
  monkeypatch, fn, message
):
  monkeypatch.setitem(methods.METHODS, 'mine', methods.Method(fn))
  (config,) = recipe_rows.close(mnist, 'h300,method=mine').values()
  with pytest.raises(
    errors.UserError, match=r'config\.distill\.mine: .*' + message
  ):
    traced_checks.trace_methods(config, ImageTask(2, (28, 28, 1)))


def test_rows_that_distill_need_a_teacher():
  (config,) = recipe_rows.close(mnist, 'h300').values()
  config.teacher.logits = 'none'
  with pytest.raises(errors.UserError, match="config.teacher.logits='none': "):
    field_checks.check_fields(config)
  config.distill.kd_weight, config.distill.ce_weight = 0.0, 1.0
  field_checks.check_fields(config)
