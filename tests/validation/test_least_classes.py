"""Methods at the least number of classes that they can learn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.validation import traced_checks
from tests.methods import method_calls

LEARNED_FROM_LOGITS = sorted(
  name
  for name, inputs in method_calls.INPUTS.items()
  if 'student_logits' in inputs
)


def _largest_slope(name, num_classes):
  """Returns the largest slope of a method's loss in the student's logits."""
  inputs = method_calls.make_inputs(name, num_classes=num_classes)
  logits = inputs.pop('student_logits')
  _, fn = method_calls.FUNCTIONS[name]
  total = lambda logits: jnp.sum(fn(student_logits=logits, **inputs))
  return float(np.abs(jax.jit(jax.grad(total))(logits)).max())


@pytest.mark.parametrize('name', LEARNED_FROM_LOGITS)
def test_a_method_learns_from_its_least_number_of_classes(name):
  least = traced_checks.LEAST_CLASSES.get(name, 2)
  assert _largest_slope(name, least) > 1e-2
  if least > 2:
    assert _largest_slope(name, least - 1) < 1e-5
