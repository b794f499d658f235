"""Methods that cannot learn are refused before any work."""

import pytest

from configs import mnist
from kd_jax.config_checks import traced_checks
from kd_jax.data import Problem
from kd_jax.runtime import errors
from tests.configs import recipe_rows


def test_a_method_that_needs_more_classes_is_refused_with_the_reason():
  arg = 'h300,method=logit_standardization'
  (config,) = recipe_rows.close(mnist, arg).values()
  traced_checks.trace_methods(config, Problem(3, (28, 28, 1)))
  message = (
    r'config\.distill\.logit_standardization: 2 classes are too few: .* 3 or '
    'more, because with fewer its gradient is 0'
  )
  with pytest.raises(errors.UserError, match=message):
    traced_checks.trace_methods(config, Problem(2, (28, 28, 1)))
