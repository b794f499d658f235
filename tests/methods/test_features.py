"""Methods that match features: invariances, and features that do not fit."""

import jax
import numpy as np
import pytest

from kd_jax.methods import features
from tests.methods.method_calls import loss, make_inputs


def test_attention_ignores_the_order_and_the_scale_of_channels():
  inputs = make_inputs('attention')
  moved = tuple(-2 * x[..., ::-1] for x in inputs['student_features'])
  np.testing.assert_allclose(
    loss('attention', inputs | {'student_features': moved}),
    loss('attention', inputs),
    rtol=1e-4,
  )


def test_a_teacher_that_is_linear_in_the_students_features_gives_no_hint_loss():
  inputs = make_inputs('hint', shapes=(((2, 2, 3),), ((2, 2, 5),)))
  (student,), (adapter,) = inputs['student_features'], inputs['adapters']
  teacher = student @ adapter['map']['kernel'] + 3
  adapter['norm'] = {
    'scale': teacher.std((0, 1, 2)),
    'bias': teacher.mean((0, 1, 2)),
  }
  inputs['teacher_features'] = (teacher,)
  np.testing.assert_allclose(loss('hint', inputs), 0, atol=1e-4)


def test_errors_name_features_that_cannot_be_compared():
  vectors = (((5,),), ((7,),))
  for name in ('attention', 'review'):
    with pytest.raises(ValueError, match='needs maps.*choose other layers'):
      loss(name, make_inputs(name, shapes=vectors))
  with pytest.raises(ValueError, match='a map and a vector'):
    loss('hint', make_inputs('hint', shapes=(((2, 2, 3),), ((7,),))))


def test_attention_refuses_maps_of_one_position():
  """Their normalized attention is 1, whatever the student."""
  one, four = (jax.numpy.ones((2, *size, 3)) for size in ((1, 1), (2, 2)))
  for student, teacher in (((one,), (one,)), ((one, four), (four, one))):
    with pytest.raises(ValueError, match='have one position.*other layers'):
      features.attention(student, teacher)
  features.attention((one, four), (one, four))  # One of two pairs teaches.
